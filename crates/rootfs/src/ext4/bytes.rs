//! Little-endian numbers in records of fixed length.

/// A record that is filled field by field. What lies outside of it is not written: the offsets are constants, and a
/// wrong one shows in every image.
pub(super) struct Record<'a>(pub &'a mut [u8]);

impl Record<'_> {
    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        let field = self.0.get_mut(at..at + bytes.len());
        debug_assert!(field.is_some(), "a field at {at}");
        if let Some(field) = field {
            field.copy_from_slice(bytes);
        }
    }

    pub(super) fn u8(&mut self, at: usize, value: u8) {
        self.put(at, &[value]);
    }

    pub(super) fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }
}

/// The lower and the upper half.
pub(super) const fn halves(value: u32) -> (u16, u16) {
    (value as u16, (value >> 16) as u16)
}

/// The lower and the upper half.
pub(super) const fn words(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}
