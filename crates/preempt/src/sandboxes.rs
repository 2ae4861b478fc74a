//! The sandboxes that there are, and what can be done to them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::report::Log;
use crate::warden::RELEASE_AFTER;

/// A sandbox, as far as its machine's owner is concerned. No call may wait for it, ask anything of an async runtime or
/// fail for being made again: the others come after it, within milliseconds.
pub trait Freezable: Send + Sync {
    /// Tells it to stand still.
    fn freeze(&self);
    /// Whether it does, or has ended.
    fn stands_still(&self) -> bool;
    /// Lets it go on where it was.
    fn resume(&self);
    /// Has it give its memory back, which ends it, also while it is frozen.
    fn release(&self);
}

/// A sandbox is under the supervisor's hand as long as this lives.
#[must_use = "a sandbox that is not registered is not frozen"]
pub struct Registered {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        // What it held is dropped after the lock.
        let _gone = self.shared.lock().sandboxes.remove(self.id);
    }
}

/// What the supervisor's thread and everybody else have between them.
pub struct Shared {
    state: Mutex<State>,
}

pub struct State {
    pub sandboxes: Sandboxes,
    pub log: Log,
    /// The owner wants the work to go on.
    pub go_on: bool,
    pub closing: bool,
}

impl Shared {
    pub fn new(log: Log) -> Self {
        Self {
            state: Mutex::new(State {
                sandboxes: Sandboxes::default(),
                log,
                go_on: false,
                closing: false,
            }),
        }
    }

    /// What is in it is consistent after every statement.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a sandbox in; frozen, if all are.
    pub fn register(self: &Arc<Self>, sandbox: Arc<dyn Freezable>) -> Registered {
        Registered {
            id: self.lock().sandboxes.add(sandbox),
            shared: self.clone(),
        }
    }
}

#[derive(Default)]
pub struct Sandboxes {
    entries: Vec<Entry>,
    next: u64,
    frozen: bool,
}

struct Entry {
    id: u64,
    sandbox: Arc<dyn Freezable>,
    /// Since when it is seen to go on although it was told not to.
    moves_since: Option<Duration>,
    released: bool,
}

/// How many sandboxes were told to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    pub count: usize,
    /// Those among them that did not stand still.
    pub would_not_stop: usize,
}

impl Sandboxes {
    fn add(&mut self, sandbox: Arc<dyn Freezable>) -> u64 {
        if self.frozen {
            sandbox.freeze();
        }
        let id = self.next;
        self.next += 1;
        self.entries.push(Entry {
            id,
            sandbox,
            moves_since: None,
            released: false,
        });
        id
    }

    fn remove(&mut self, id: u64) -> Option<Arc<dyn Freezable>> {
        let at = self.entries.iter().position(|entry| entry.id == id)?;
        Some(self.entries.swap_remove(at).sandbox)
    }

    /// Tells all to stand still, and what comes from now on to begin so. How many were told.
    pub fn freeze(&mut self) -> usize {
        self.frozen = true;
        self.entries.iter().for_each(|entry| entry.sandbox.freeze());
        self.entries.len()
    }

    pub fn all_stand_still(&self) -> bool {
        let mut kept = self.entries.iter().filter(|entry| !entry.released);
        kept.all(|entry| entry.sandbox.stands_still())
    }

    /// Ends all, or only those that have gone on for [`RELEASE_AFTER`] although they were told not to.
    pub fn release(&mut self, now: Duration, all: bool) -> Released {
        let mut released = Released::default();
        for entry in self.entries.iter_mut().filter(|entry| !entry.released) {
            let moves = entry.moves_for(now);
            if all || moves.is_some_and(|time| time >= RELEASE_AFTER) {
                entry.released = true;
                entry.sandbox.release();
                released.count += 1;
                released.would_not_stop += usize::from(moves.is_some());
            }
        }
        released
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether something was told to end and is still there.
    pub fn releasing(&self) -> bool {
        self.entries.iter().any(|entry| entry.released)
    }

    /// Lets go on what was not ended. How many.
    pub fn resume(&mut self) -> usize {
        self.frozen = false;
        let kept = self.entries.iter().filter(|entry| !entry.released);
        kept.map(|entry| entry.sandbox.resume()).count()
    }
}

impl Entry {
    /// For how long it has been seen to go on; `None` for one that stands still.
    fn moves_for(&mut self, now: Duration) -> Option<Duration> {
        if self.sandbox.stands_still() {
            self.moves_since = None;
            return None;
        }
        Some(now.saturating_sub(*self.moves_since.get_or_insert(now)))
    }
}
