//! What calls to the host cost, so that a guest cannot have its work done for nothing.

use crate::stop::Stop;

/// Fuel for any call.
const PER_CALL: u64 = 64;
/// Bytes moved for one unit of fuel.
const BYTES_PER_FUEL: u64 = 8;

/// Fuel used by calls to the host. The guest's own instructions are counted by the engine; together they have to stay
/// within `limits.fuel`.
pub struct Work {
    used: u64,
    limit: u64,
}

impl Work {
    pub const fn new(limit: u64) -> Self {
        Self { used: 0, limit }
    }

    pub const fn used(&self) -> u64 {
        self.used
    }

    /// Counts a call; whether there was fuel for it shows at the next byte moved, or at the end.
    pub const fn count_call(&mut self) {
        self.used = self.used.saturating_add(PER_CALL);
    }

    /// Counts `bytes` before they are moved.
    pub const fn bytes(&mut self, bytes: usize) -> Result<(), Stop> {
        self.used = self.used.saturating_add(bytes as u64 / BYTES_PER_FUEL);
        if self.used > self.limit {
            Err(Stop::OutOfFuel)
        } else {
            Ok(())
        }
    }
}
