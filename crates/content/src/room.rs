//! Room in the store, counted before it is used.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use worldcompute_fault::{Category, Fault, Result};

use crate::collect::Collect;
use crate::store::ContentStore;

/// Which part of the store a collection frees beyond what is asked for.
const SPARE: u64 = 16;

/// Bytes counted before they are written, and given back unless the write succeeds.
pub struct Reserved {
    store: ContentStore,
    bytes: u64,
}

impl Reserved {
    pub const fn none(store: ContentStore) -> Self {
        Self { store, bytes: 0 }
    }

    /// Counts more of them.
    pub fn add(&mut self, bytes: u64) -> Result<()> {
        self.store.reserve(bytes)?;
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    /// They are written.
    pub fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut used = lock(&self.store.inner.used);
        *used = used.saturating_sub(self.bytes);
    }
}

impl ContentStore {
    fn reserve(&self, bytes: u64) -> Result<()> {
        match self.try_reserve(bytes) {
            Err(full) if self.inner.collects.load(Ordering::Relaxed) => self.make_room(bytes, full),
            reserved => reserved,
        }
    }

    fn try_reserve(&self, bytes: u64) -> Result<()> {
        let max = self.inner.limits.max_total;
        let mut used = lock(&self.inner.used);
        let after = used.saturating_add(bytes);
        if after > max {
            let message = format!("{bytes} bytes more than the {used} kept: {max} is the most");
            return Err(
                Fault::new(Category::IoFailure, "content_store_full", message)
                    .hint("raise the content store's limit or remove what is no longer needed"),
            );
        }
        *used = after;
        Ok(())
    }

    /// Collects until there is room, or until nothing is left to collect.
    fn make_room(&self, bytes: u64, full: Fault) -> Result<()> {
        let max = self.inner.limits.max_total;
        let Some(least) = max.checked_sub(bytes) else {
            return Err(full);
        };
        loop {
            let given_up = lock(&self.inner.needed).given_up();
            // A little more than needed, so that the next write need not collect again.
            let goal = Collect::DownTo(least.saturating_sub(max / SPARE));
            let (collected, exhausted) = self.collect_if_any(goal)?;
            let reserved = self.try_reserve(bytes);
            // Another writer may have taken the room, or be done with an object that it held meanwhile.
            let all_needed = exhausted
                && collected.objects == 0
                && lock(&self.inner.needed).given_up() == given_up;
            if reserved.is_ok() || all_needed {
                return reserved;
            }
        }
    }
}

/// A panic elsewhere cannot leave these values half-changed, so that a poisoned lock is as good as any.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
