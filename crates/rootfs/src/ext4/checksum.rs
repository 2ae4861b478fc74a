//! CRC-32C as the kernel chains it: never inverted, neither before nor after.

/// A checksum that can be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checksum(u32);

impl Checksum {
    /// Of nothing.
    pub(super) const fn start() -> Self {
        Self(u32::MAX)
    }

    pub(super) fn and(self, bytes: &[u8]) -> Self {
        Self(!crc32c::crc32c_append(!self.0, bytes))
    }

    pub(super) fn and_u32(self, value: u32) -> Self {
        self.and(&value.to_le_bytes())
    }

    pub(super) const fn value(self) -> u32 {
        self.0
    }

    /// The half that small records have room for.
    pub(super) const fn low(self) -> u16 {
        self.0 as u16
    }
}
