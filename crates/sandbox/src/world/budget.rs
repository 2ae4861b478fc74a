//! How many bytes the guest may still make this process keep for it.

use crate::stop::Stop;

/// Bytes left of `limits.output_bytes`.
pub struct Budget {
    left: u64,
}

impl Budget {
    pub const fn new(bytes: u64) -> Self {
        Self { left: bytes }
    }

    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Takes exactly `bytes`, before anything is allocated for them.
    pub fn take(&mut self, bytes: u64) -> Result<(), Stop> {
        self.left = self.left.checked_sub(bytes).ok_or(Stop::OutputLimit)?;
        Ok(())
    }

    /// Takes what there is of `bytes`.
    pub fn take_up_to(&mut self, bytes: usize) -> usize {
        let taken = self.left.min(bytes as u64);
        self.left -= taken;
        taken as usize
    }

    pub const fn give_back(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes);
    }
}
