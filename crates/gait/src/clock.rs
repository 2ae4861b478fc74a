//! Where the gate takes the time from.

use std::sync::Arc;
use std::time::SystemTime;

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
    /// What no timestamp can say is the last that one can, by which everything is over.
    fn now(&self) -> Timestamp {
        Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX)
    }
}

/// 9999-01-01T00:00:00Z: what begins from here on may end where no timestamp reaches.
const END: Timestamp = Timestamp::constant(253_370_764_800, 0);

/// Refuses as `clock_not_set` a time before 1980, at which nothing would ever expire, and one from 9999 on: no clock
/// that was ever set shows one.
pub fn check_set(at: Timestamp) -> Result<()> {
    if (WireTime::UNDATED..END).contains(&at) {
        return Ok(());
    }
    let message = format!("the clock shows {at}, which is not between 1980 and 9999");
    Err(
        Fault::new(Category::DependencyMissing, "clock_not_set", message)
            .hint("set the clock of the machine and retry"),
    )
}

/// Whether what lasts until `end` is over at the time `now`; by a clock that was never set everything is.
pub(crate) fn has_ended(end: WireTime, now: Timestamp) -> bool {
    now < WireTime::UNDATED || end.get().is_none_or(|end| now >= end)
}
