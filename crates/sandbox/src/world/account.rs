//! What a guest has the host do and keep for it.

use crate::stop::Stop;

/// Fuel for any call to the host.
const PER_CALL: u64 = 64;
/// Bytes moved for one unit of fuel.
const BYTES_PER_FUEL: u64 = 8;
/// Hashing a byte takes about as long as moving this many.
const HASHED_BYTE: u64 = 16;

/// Fuel used by calls to the host, so that a guest cannot have its work done for nothing, and bytes left of
/// `limits.output_bytes`.
///
/// The guest's own instructions are counted by the engine. They and the work counted here have to stay within
/// `limits.fuel` together, which shows at the end; here, the work alone has to.
pub struct Account {
    worked: u64,
    fuel: u64,
    left: u64,
}

impl Account {
    pub const fn new(fuel: u64, output_bytes: u64) -> Self {
        Self {
            worked: 0,
            fuel,
            left: output_bytes,
        }
    }

    /// Fuel used by calls so far.
    pub const fn worked(&self) -> u64 {
        self.worked
    }

    /// Bytes that may still be printed or kept.
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Counts a call; whether there was fuel for it shows at the next byte moved, or at the end.
    pub const fn called(&mut self) {
        self.worked = self.worked.saturating_add(PER_CALL);
    }

    /// Counts `bytes` before they are moved.
    pub const fn moves(&mut self, bytes: u64) -> Result<(), Stop> {
        self.spend(bytes / BYTES_PER_FUEL)
    }

    /// Counts entries of a tree or table before they are looked up: each takes about as long as a call.
    pub const fn looks_up(&mut self, entries: u64) -> Result<(), Stop> {
        self.spend(entries.saturating_mul(PER_CALL))
    }

    /// Counts a path before it is read and its names are looked up.
    pub fn walks(&mut self, path: &str) -> Result<(), Stop> {
        self.moves(path.len() as u64)?;
        let slashes = path.bytes().filter(|byte| *byte == b'/');
        self.looks_up(slashes.count() as u64)
    }

    /// Counts `bytes` before they are drawn at random.
    pub const fn hashes(&mut self, bytes: u64) -> Result<(), Stop> {
        self.moves(bytes.saturating_mul(HASHED_BYTE))
    }

    /// Takes room for exactly `bytes`, and the work of filling it, before anything is allocated.
    pub fn take(&mut self, bytes: u64) -> Result<(), Stop> {
        self.left = self.left.checked_sub(bytes).ok_or(Stop::OutputLimit)?;
        self.moves(bytes)
    }

    /// Takes what room there is of `bytes`.
    pub fn take_up_to(&mut self, bytes: usize) -> usize {
        let taken = self.left.min(bytes as u64);
        self.left -= taken;
        taken as usize
    }

    pub const fn give_back(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes);
    }

    const fn spend(&mut self, fuel: u64) -> Result<(), Stop> {
        self.worked = self.worked.saturating_add(fuel);
        if self.worked > self.fuel {
            Err(Stop::OutOfFuel)
        } else {
            Ok(())
        }
    }
}
