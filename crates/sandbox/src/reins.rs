//! A run held from outside: frozen, let go on, ended.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::stop::Stop;
use crate::watchdog::Bell;

/// Holds one run: freeze it, let it go on, end it, before it begins as well as later. Clones hold the same run.
///
/// A guest is frozen at its next loop or call; one that is in a call of its host's, when that returns. Its thread waits
/// then, with everything that it has. Time in which it is frozen does not count against its wall-clock limit, and changes
/// neither what it computes nor its fuel. Whoever freezes a run lets it go on or ends it: it waits for nothing else.
#[derive(Clone, Default)]
pub struct Reins(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Why the guest has to end, once it has to.
    stop: OnceLock<Stop>,
    /// Has every guest of its engine look at its reins, once there is one.
    bell: OnceLock<Bell>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    frozen_since: Option<Instant>,
    /// Time frozen before that, since the guest began.
    frozen: Duration,
    /// Code of the guest may run.
    runs: bool,
}

impl Reins {
    /// Of a run that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells the run to stand still, and does not wait for it. Nothing is allocated.
    pub fn freeze(&self) {
        self.state().frozen_since.get_or_insert_with(Instant::now);
        self.ring();
    }

    /// Lets the run go on where it was.
    pub fn resume(&self) {
        let mut state = self.state();
        if let Some(since) = state.frozen_since.take() {
            state.frozen += since.elapsed();
        }
        drop(state);
        self.0.changed.notify_all();
        self.ring();
    }

    /// Ends the run, also one that is frozen: with [`crate::Status::Cancelled`], unless it ends otherwise before.
    pub fn cancel(&self) {
        self.pull(Stop::Cancelled);
        self.ring();
    }

    /// Whether no code of the guest runs: it stands, it has not begun, or it has ended.
    pub fn stands_still(&self) -> bool {
        !self.state().runs
    }

    /// Whether the run is told to stand still.
    pub fn is_frozen(&self) -> bool {
        self.state().frozen_since.is_some()
    }

    /// Leaves a reason to end; the first one stands.
    pub(crate) fn pull(&self, stop: Stop) {
        let _first_reason_stands = self.0.stop.set(stop);
        // Under the lock, so that a guest cannot miss it between looking and waiting.
        let _state = self.state();
        self.0.changed.notify_all();
    }

    /// The reason to end, once there is one.
    pub(crate) fn pulled(&self) -> Option<Stop> {
        self.0.stop.get().copied()
    }

    /// Whether the guest has to be made to look here.
    pub(crate) fn wants_a_look(&self) -> bool {
        let state = self.state();
        state.runs && (state.frozen_since.is_some() || self.pulled().is_some())
    }

    /// From now on the guest hears the bell, and its time counts.
    pub(crate) fn begin(&self, bell: Bell) {
        let _one_bell_a_run = self.0.bell.set(bell);
        let mut state = self.state();
        state.frozen = Duration::ZERO;
        state.frozen_since = state.frozen_since.map(|_| Instant::now());
    }

    /// No code of the guest runs any more.
    pub(crate) fn end(&self) {
        self.state().runs = false;
    }

    /// How long the guest was frozen since it began; `None` while it is.
    pub(crate) fn was_frozen(&self) -> Option<Duration> {
        let state = self.state();
        state.frozen_since.is_none().then_some(state.frozen)
    }

    /// The same up to now.
    pub(crate) fn frozen(&self) -> Duration {
        let state = self.state();
        let now = state.frozen_since.map(|since| since.elapsed());
        state.frozen + now.unwrap_or_default()
    }

    /// Called by the guest's thread, before any of its code runs and then at every ring: waits as long as it is frozen.
    ///
    /// # Errors
    /// The reason to end.
    pub(crate) fn look(&self) -> Result<(), Stop> {
        let mut state = self.state();
        while state.frozen_since.is_some() && self.pulled().is_none() {
            state.runs = false;
            let woken = self.0.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        state.runs = true;
        self.pulled().map_or(Ok(()), Err)
    }

    fn ring(&self) {
        if let Some(bell) = self.0.bell.get() {
            bell.ring();
        }
    }

    /// What is in it is consistent after every statement.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Reins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Reins");
        debug
            .field("is_frozen", &self.is_frozen())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_guest_waits_while_it_is_frozen_and_goes_on_where_it_was() {
        let reins = Reins::new();
        reins.look().unwrap();
        assert!(!reins.stands_still());
        reins.freeze();
        reins.freeze();
        thread::scope(|scope| {
            let guest = scope.spawn(|| reins.look());
            while !reins.stands_still() {
                thread::yield_now();
            }
            assert!(reins.is_frozen() && !guest.is_finished());
            reins.resume();
            assert_eq!(guest.join().unwrap(), Ok(()));
        });
        assert!(!reins.is_frozen() && !reins.stands_still());
        reins.end();
        assert!(reins.stands_still());
    }

    #[test]
    fn a_guest_that_is_ended_waits_no_longer_and_never_again() {
        let reins = Reins::new();
        reins.look().unwrap();
        reins.freeze();
        thread::scope(|scope| {
            let guest = scope.spawn(|| reins.look());
            while !reins.stands_still() {
                thread::yield_now();
            }
            reins.cancel();
            assert_eq!(guest.join().unwrap(), Err(Stop::Cancelled));
        });
        assert_eq!(reins.look(), Err(Stop::Cancelled), "it is frozen still");
    }

    #[test]
    fn only_a_guest_whose_code_runs_has_to_be_made_to_look() {
        let reins = Reins::new();
        reins.freeze();
        assert!(!reins.wants_a_look(), "it has not begun");
        reins.resume();
        reins.look().unwrap();
        assert!(!reins.wants_a_look());
        reins.freeze();
        assert!(reins.wants_a_look());
        reins.resume();
        assert!(!reins.wants_a_look());
        reins.cancel();
        assert!(reins.wants_a_look());
        reins.end();
        assert!(!reins.wants_a_look());
    }

    #[test]
    fn time_is_frozen_with_the_guest() {
        let reins = Reins::new();
        assert_eq!(reins.was_frozen(), Some(Duration::ZERO));
        reins.freeze();
        assert_eq!(reins.was_frozen(), None);
        let before = Instant::now();
        while before.elapsed() < Duration::from_millis(2) {
            thread::yield_now();
        }
        reins.resume();
        let was = reins.was_frozen().unwrap();
        assert!(was >= Duration::from_millis(2));
        assert_eq!(reins.frozen(), was);
    }
}
