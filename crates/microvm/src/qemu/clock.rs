//! How fast this machine's time stamp counter runs, which is how fast the emulated one does.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::poll;

/// Long enough for a thousandth, which is all that a first guess needs.
const MEASURED: Duration = Duration::from_millis(20);
/// Counters of real processors, in kHz.
const PLAUSIBLE: std::ops::RangeInclusive<u64> = 500_000..=10_000_000;
/// What a clock that counts nanoseconds runs at, in kHz: where there is no counter to be read.
const NANOSECONDS: std::ops::RangeInclusive<u64> = 999_000..=1_001_000;

/// In kHz, measured once in a process; `None` where there is no counter that can be relied on.
pub fn tsc_khz() -> Option<u64> {
    static KHZ: OnceLock<Option<u64>> = OnceLock::new();
    *KHZ.get_or_init(measure)
}

fn measure() -> Option<u64> {
    let counter = quanta::Clock::new();
    let (start, first) = (Instant::now(), counter.raw());
    poll(&mut [], Some(&MEASURED.try_into().ok()?)).ok()?;
    let (time, last) = (start.elapsed(), counter.raw());
    let ticks = u128::from(last.checked_sub(first)?);
    let khz = u64::try_from(ticks * 1_000_000 / time.as_nanos().max(1)).ok()?;
    (PLAUSIBLE.contains(&khz) && !NANOSECONDS.contains(&khz)).then_some(khz)
}
