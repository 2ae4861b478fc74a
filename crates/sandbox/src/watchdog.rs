//! Ends guests from outside: at their wall-clock limit, or when cancelled.
//!
//! Each guest is held by its [`Reins`]. Whoever pulls them rings the [`Bell`], and every guest of the engine looks at its
//! own reins at the next loop or call; those that are not meant go on. One thread watches the deadlines. It sleeps as long
//! as none is due: idle donors are not woken.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wasmtime::Engine;
use worldcompute_fault::{Fault, Result, WcCode};

use crate::reins::Reins;
use crate::stop::Stop;

/// How often a guest is reminded that has not ended yet: it may have looked just before its reins were pulled.
const REMINDER: Duration = Duration::from_millis(5);

pub struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Has every guest of an engine look at its reins. Cheap to clone.
#[derive(Clone)]
pub struct Bell(Arc<Shared>);

struct Shared {
    engine: Engine,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The guests running, with the instant at which each has to end, were it never frozen.
    watched: BTreeMap<u64, (Instant, Reins)>,
    next: u64,
    /// When the thread wakes by itself; never if absent.
    wakes: Option<Instant>,
    closing: bool,
}

/// A guest is watched as long as this lives.
pub struct Watched {
    shared: Arc<Shared>,
    id: u64,
}

impl Watchdog {
    /// # Errors
    /// WC-007 when the system gives no thread.
    pub fn start(engine: &Engine) -> Result<Self> {
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let watching = shared.clone();
        let thread = std::thread::Builder::new().name("sandbox-watchdog".to_owned());
        let thread = thread.spawn(move || watching.watch()).map_err(|error| {
            Fault::wc(WcCode::SandboxUnavailable, "no thread to watch guests").caused_by(error)
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Watches a guest, which has to end after `limit`.
    pub fn watch(&self, reins: Reins, limit: Duration) -> Watched {
        let deadline = Instant::now() + limit;
        let mut state = self.shared.lock();
        reins.begin(Bell(self.shared.clone()));
        let id = state.next;
        state.next += 1;
        state.watched.insert(id, (deadline, reins));
        // Most guests end long before the thread would wake for them, or for the one before them.
        if state.wakes.is_none_or(|wakes| deadline < wakes) {
            self.shared.changed.notify_one();
        }
        Watched {
            shared: self.shared.clone(),
            id,
        }
    }
}

impl Bell {
    /// At once, from whatever thread, and again by the watchdog until nobody has to look any more.
    pub fn ring(&self) {
        self.0.engine.increment_epoch();
        // Under the lock, so that the thread cannot miss it between looking and sleeping.
        let _state = self.0.lock();
        self.0.changed.notify_one();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some((_, reins)) = self.shared.lock().watched.remove(&self.id) {
            reins.end();
        }
    }
}

impl Shared {
    fn watch(&self) {
        let mut state = self.lock();
        while !state.closing {
            let now = Instant::now();
            state.expire(now);
            if state.anyone_has_to_look() {
                self.engine.increment_epoch();
            }
            state.wakes = state.next_look(now);
            state = self.sleep(state, now);
        }
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State>, now: Instant) -> MutexGuard<'a, State> {
        match state.wakes {
            Some(wakes) => {
                let length = wakes.saturating_duration_since(now);
                let woken = self.changed.wait_timeout(state, length);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn expire(&self, now: Instant) {
        for (deadline, reins) in self.watched.values() {
            if due(*deadline, reins).is_some_and(|due| due <= now) {
                reins.pull(Stop::TimedOut);
            }
        }
    }

    fn anyone_has_to_look(&self) -> bool {
        self.watched.values().any(|(_, reins)| reins.wants_a_look())
    }

    /// When something is due; never if no guest runs.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        if self.anyone_has_to_look() {
            return Some(now + REMINDER);
        }
        let waited_for = self
            .watched
            .values()
            .filter(|(_, reins)| reins.pulled().is_none());
        waited_for
            .filter_map(|(deadline, reins)| due(*deadline, reins))
            .min()
    }
}

/// When a guest has to end; never while it is frozen.
fn due(deadline: Instant, reins: &Reins) -> Option<Instant> {
    Some(deadline + reins.was_frozen()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> Engine {
        let mut config = wasmtime::Config::new();
        Engine::new(config.epoch_interruption(true).consume_fuel(true)).unwrap()
    }

    #[test]
    fn a_guest_that_overlooked_its_reins_is_reminded() {
        let engine = engine();
        let watchdog = Watchdog::start(&engine).unwrap();
        let reins = Reins::new();
        let _watched = watchdog.watch(reins.clone(), Duration::from_millis(1));
        reins.look().unwrap();
        let spin = "(module (func (export \"spin\") (loop (br 0))))";
        let module = wasmtime::Module::new(&engine, spin).unwrap();
        let mut store = wasmtime::Store::new(&engine, 0);
        // Never reminded, it would run out of fuel instead.
        store.set_fuel(5_000_000_000).unwrap();
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            *store.data_mut() += 1;
            match *store.data() {
                1..=3 => Ok(wasmtime::UpdateDeadline::Continue(1)),
                _ => Err(Stop::TimedOut.into()),
            }
        });
        let guest = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let spin = guest.get_typed_func::<(), ()>(&mut store, "spin").unwrap();
        let error = spin.call(&mut store, ()).unwrap_err();
        assert_eq!(
            error.downcast_ref::<Stop>(),
            Some(&Stop::TimedOut),
            "{error}"
        );
    }

    #[test]
    fn reins_are_pulled_at_the_deadline_and_the_first_reason_stands() {
        let watchdog = Watchdog::start(&engine()).unwrap();
        let (early, late) = (Reins::new(), Reins::new());
        let _late = watchdog.watch(late.clone(), Duration::from_secs(3600));
        let _early = watchdog.watch(early.clone(), Duration::from_millis(1));
        while early.pulled().is_none() {
            std::thread::yield_now();
        }
        early.cancel();
        assert_eq!(early.pulled(), Some(Stop::TimedOut));
        assert_eq!(late.pulled(), None);
    }

    #[test]
    fn a_deadline_is_kept_whatever_the_thread_was_waiting_for() {
        let watchdog = Watchdog::start(&engine()).unwrap();
        for (first, second) in [(3600, 0), (0, 3600)] {
            let (one, other) = (Reins::new(), Reins::new());
            let _one = watchdog.watch(one.clone(), Duration::from_secs(first));
            let _other = watchdog.watch(other.clone(), Duration::from_secs(second));
            let due = if first == 0 { one } else { other };
            while due.pulled().is_none() {
                std::thread::yield_now();
            }
        }
        // The thread has gone to sleep for a guest that ended long ago; the next one is due earlier.
        drop(watchdog.watch(Reins::new(), Duration::from_secs(3600)));
        let reins = Reins::new();
        let _watched = watchdog.watch(reins.clone(), Duration::from_millis(1));
        while reins.pulled().is_none() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_no_longer_watched_is_forgotten() {
        let watchdog = Watchdog::start(&engine()).unwrap();
        let reins = Reins::new();
        drop(watchdog.watch(reins.clone(), Duration::ZERO));
        assert!(watchdog.shared.lock().watched.is_empty());
    }

    #[test]
    fn a_watchdog_with_guests_left_still_goes() {
        let watchdog = Watchdog::start(&engine()).unwrap();
        let watched = watchdog.watch(Reins::new(), Duration::from_secs(3600));
        drop(watchdog);
        drop(watched);
    }
}
