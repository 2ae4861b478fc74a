//! Time and randomness, so that tests can stop both.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use worldcompute_fault::Result;

use crate::crypto;

/// The longest pause between two attempts is two to the power of this, in milliseconds.
const MAX_BACKOFF: u32 = 6;

/// Where a store gets its time and its random bytes.
pub(crate) struct Sources {
    now: fn() -> Timestamp,
    random: fn(&mut [u8]) -> Result<()>,
    last: Mutex<Timestamp>,
}

impl Sources {
    /// Those of the operating system.
    pub(crate) fn system() -> Self {
        Self::new(Timestamp::now, crypto::random)
    }

    pub(crate) fn new(now: fn() -> Timestamp, random: fn(&mut [u8]) -> Result<()>) -> Self {
        Self {
            now,
            random,
            last: Mutex::new(Timestamp::UNIX_EPOCH),
        }
    }

    /// The time, later than at every call before: sort keys hold it and must not collide.
    pub(crate) fn tick(&self) -> Timestamp {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let next = last.saturating_add(SignedDuration::from_nanos(1));
        *last = (self.now)().max(next.unwrap_or(*last));
        *last
    }

    /// Longer from attempt to attempt, and hardly ever the same for two who wait for each other.
    pub(crate) async fn pause(&self, attempt: u32) -> Result<()> {
        let [first, ..] = self.random()?;
        let most = 1_u32 << attempt.min(MAX_BACKOFF);
        tokio::time::sleep(Duration::from_millis(1) * most * u32::from(first) / 256).await;
        Ok(())
    }

    /// 32 random bytes.
    pub(crate) fn random(&self) -> Result<[u8; 32]> {
        let mut bytes = [0; 32];
        (self.random)(&mut bytes)?;
        Ok(bytes)
    }
}
