//! What a person sees while the demo works: one bar for the picture, one line a donor.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use worldcompute_node::api::JobEvent;
use worldcompute_proof::PeerId;

use crate::output::Output;

/// How often the spinners move.
const TICK: Duration = Duration::from_millis(120);

/// Shows progress on a terminal; silent otherwise.
pub struct Progress {
    bars: MultiProgress,
    whole: ProgressBar,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    donors: BTreeMap<PeerId, Donor>,
    first_result: Option<Instant>,
}

struct Donor {
    bar: ProgressBar,
    running: Vec<u32>,
    done: u32,
}

impl Progress {
    /// A bar that counts tiles, hidden unless a person watches.
    pub fn new(output: Output) -> Self {
        let target = if output.is_watched() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bars = MultiProgress::with_draw_target(target);
        let whole = bars.add(ProgressBar::new_spinner());
        whole.enable_steady_tick(TICK);
        Self {
            bars,
            whole,
            state: Mutex::default(),
        }
    }

    /// Says what is being done.
    pub fn step(&self, message: &str) {
        self.whole.set_message(message.to_owned());
    }

    /// Takes note of what happened to the job.
    pub fn event(&self, event: &JobEvent) {
        match event {
            JobEvent::TaskStarted { task, executor, .. } => {
                self.on_donor(executor, |donor| donor.running.push(*task))
            }
            JobEvent::TaskLost { task, executor, .. } => {
                self.on_donor(executor, |donor| donor.running.retain(|one| one != task))
            }
            JobEvent::TaskAccepted { task, executor, .. } => {
                self.on_donor(executor, |donor| {
                    donor.running.retain(|one| one != task);
                    donor.done += 1;
                });
                self.state().first_result.get_or_insert_with(Instant::now);
                self.whole.inc(1);
            }
            JobEvent::Job { job } => self.count_to(u64::from(job.tasks.total)),
        }
    }

    /// When the first verified result came.
    pub fn first_result(&self) -> Option<Instant> {
        self.state().first_result
    }

    /// Clears the screen for the report.
    pub fn finish(&self) {
        self.whole.finish_and_clear();
        for donor in self.state().donors.values() {
            donor.bar.finish_and_clear();
        }
        drop(self.bars.clear());
    }

    fn count_to(&self, tiles: u64) {
        if self.whole.length() != Some(tiles) {
            self.whole.set_length(tiles);
            self.whole
                .set_style(style("{spinner} tiles {wide_bar} {pos}/{len}"));
        }
    }

    fn on_donor(&self, peer: &PeerId, change: impl FnOnce(&mut Donor)) {
        let mut state = self.state();
        let donor = state
            .donors
            .entry(*peer)
            .or_insert_with(|| self.new_donor(peer));
        change(donor);
        let running: Vec<String> = donor.running.iter().map(u32::to_string).collect();
        donor.bar.set_message(format!(
            "{:>4} done, running {}",
            donor.done,
            running.join(" ")
        ));
    }

    fn new_donor(&self, peer: &PeerId) -> Donor {
        let bar = self
            .bars
            .add(ProgressBar::new_spinner().with_style(style("  {prefix} {msg}")));
        let id = peer.to_string();
        bar.set_prefix(format!(
            "donor ..{}",
            id.get(id.len().saturating_sub(6)..).unwrap_or(&id)
        ));
        Donor {
            bar,
            running: Vec::new(),
            done: 0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A template that does not parse falls back to the plain style: it changes looks, never results.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
