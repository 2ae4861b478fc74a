//! Room in the store, counted before it is used.

use std::sync::{Mutex, MutexGuard, PoisonError};

use worldcompute_fault::{Category, Fault, Result};

use crate::store::ContentStore;

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
}

/// A panic elsewhere cannot leave these values half-changed, so that a poisoned lock is as good as any.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
