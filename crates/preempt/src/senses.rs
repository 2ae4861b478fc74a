//! What the supervisor asks of the machine and of time.

use std::time::Duration;

use jiff::Timestamp;

use crate::Trigger;

/// What one look at a trigger shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Nothing.
    Quiet,
    /// It fires.
    Fires,
    /// It cannot be sensed here, and why.
    Blind(&'static str),
}

impl Reading {
    /// It fires, or it is quiet.
    pub(crate) const fn of(fires: bool) -> Self {
        if fires { Self::Fires } else { Self::Quiet }
    }
}

/// The seam for the machine.
pub trait Senses: Send + 'static {
    /// What there is to see of a trigger.
    fn look(&mut self, trigger: Trigger) -> Reading;

    /// Waits for `limit` at most, shorter when it is woken. True when there is input, which is listened to on demand.
    fn wait(&mut self, limit: Option<Duration>, listen: bool) -> bool;
}

/// The seam for time.
pub trait Clock: Send + 'static {
    /// Time that only goes on, since any instant.
    fn now(&self) -> Duration;
    /// What the clock on the wall says.
    fn wall(&self) -> Timestamp;
}
