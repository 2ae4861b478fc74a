//! Durations as they are printed.

use std::time::Duration;

/// Durations of one kind of thing.
#[derive(Default)]
pub struct Figures(Vec<Duration>);

impl Figures {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// The duration that the given share of all stays at or below; zero where there is none.
    pub fn quantile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// Prints one line.
    pub fn print(&self, what: &str) {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| ms(self.quantile(percent)));
        println!("  {what:<44}p50 {p50:8.3} ms  p90 {p90:8.3} ms  p99 {p99:8.3} ms");
    }
}

/// Milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Whether a promise was kept, in a word.
pub const fn kept(kept: bool) -> &'static str {
    if kept { "kept" } else { "MISSED" }
}
