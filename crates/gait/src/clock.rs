//! Where the gate takes the time from.

use std::sync::Arc;

use jiff::Timestamp;
use worldcompute_fault::{Category, Fault, Result};

use crate::wire_time::WireTime;

/// The present, for `observed_at` and latencies; tests pass a fixed one.
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The machine's clock in the form [`crate::Gate::new`] takes.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Refuses as `clock_not_set` a time before 1980, at which nothing would ever expire: no clock that was ever set shows
/// one.
pub(crate) fn check_set(at: Timestamp) -> Result<()> {
    if at >= WireTime::UNDATED {
        return Ok(());
    }
    let message = format!("the clock shows {at}, which is before 1980: nothing would ever expire");
    Err(
        Fault::new(Category::DependencyMissing, "clock_not_set", message)
            .hint("set the clock of the machine and retry"),
    )
}

/// Whether what lasts until `end` is over at the time `now`; by a clock that was never set everything is.
pub(crate) fn has_ended(end: WireTime, now: Timestamp) -> bool {
    now < WireTime::UNDATED || end.get().is_none_or(|end| now >= end)
}
