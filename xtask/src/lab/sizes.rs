//! What the first relay and the donor take of the machine's memory.

use std::time::{Duration, Instant};

use super::ground::Nodes;
use super::stop::Stop;
use crate::shell::Result;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Memory of the relay and of the donor, in bytes.
#[derive(Clone, Copy)]
pub struct Sizes(pub [u64; 2]);

impl Sizes {
    /// As they are now.
    pub fn of(nodes: &Nodes<'_>) -> Result<Self> {
        Ok(Self([nodes.relays[0].memory()?, nodes.donor.memory()?]))
    }

    /// The most of each until then.
    pub fn most(nodes: &Nodes<'_>, before: Self, until: Instant, stop: &Stop) -> Result<Self> {
        let mut most = before;
        while Instant::now() < until {
            stop.wait(LOOK)?;
            let now = Self::of(nodes)?;
            most.0
                .iter_mut()
                .zip(now.0)
                .for_each(|(most, now)| *most = now.max(*most));
        }
        Ok(most)
    }
}

/// Bytes as they are told.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
