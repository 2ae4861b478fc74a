//! Virtual time: it passes when the guest looks at it or waits, and never otherwise.

/// How far each reading moves the clock, in nanoseconds, so that a guest that waits by looking gets there.
pub const TICK: u64 = 1_000;
/// What the wall clock shows at the first instruction: 2025-01-01T00:00:00Z, in nanoseconds since 1970.
const EPOCH: u64 = 1_735_689_600_000_000_000;

/// Nanoseconds since the first instruction.
#[derive(Default)]
pub struct Clock {
    now: u64,
}

impl Clock {
    /// A look at the monotonic clock.
    pub const fn read(&mut self) -> u64 {
        self.now = self.now.saturating_add(TICK);
        self.now
    }

    /// A look at the wall clock, in nanoseconds since 1970.
    pub const fn read_wall(&mut self) -> u64 {
        EPOCH.saturating_add(self.read())
    }

    /// The time, without looking: for the time stamps of files.
    pub const fn stamp(&self) -> u64 {
        EPOCH.saturating_add(self.now)
    }

    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Waits until the monotonic clock shows `instant`: it does at once.
    pub fn wait_until(&mut self, instant: u64) {
        self.now = self.now.max(instant);
    }

    /// The monotonic instant at which the wall clock shows `wall`.
    pub const fn of_wall(wall: u64) -> u64 {
        wall.saturating_sub(EPOCH)
    }
}
