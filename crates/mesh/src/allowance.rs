//! What somebody may do in a burst, and how soon again.

use std::time::{Duration, Instant};

/// A bucket that fills again with time.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: f64,
    at: Instant,
    most: f64,
    pause: Duration,
}

impl Allowance {
    /// `most` in a burst, then one more at each `pause`.
    pub(crate) const fn new(most: f64, pause: Duration, now: Instant) -> Self {
        Self {
            left: most,
            at: now,
            most,
            pause,
        }
    }

    /// Takes so many if there are so many.
    pub(crate) fn take(&mut self, units: u32, now: Instant) -> bool {
        self.fill(now);
        let enough = self.left >= f64::from(units);
        if enough {
            self.left -= f64::from(units);
        }
        enough
    }

    /// Whether it is as if nothing had ever been taken.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left >= self.most
    }

    fn fill(&mut self, now: Instant) {
        let refill =
            now.saturating_duration_since(self.at).as_secs_f64() / self.pause.as_secs_f64();
        self.at = now;
        self.left = (self.left + refill).min(self.most);
    }
}
