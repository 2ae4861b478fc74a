//! Work that must not hold up the async runtime.

use worldcompute_fault::{Category, Fault, Result};

/// Below this many rows, cryptography takes less time than handing it to another thread.
const SMALL: usize = 32;

/// Runs work that blocks where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| broke_off(&error))?
}

/// What a task that panicked leaves for whoever waits for it.
pub(crate) fn broke_off(error: &tokio::task::JoinError) -> Fault {
    let message = "a background task stopped";
    Fault::new(Category::InternalFailure, "task_failed", message).caused_by(error)
}

/// Runs cryptography over `rows` rows here when they are few, elsewhere when they are many.
pub(crate) async fn computing<T: Send + 'static>(
    rows: usize,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if rows < SMALL {
        return work();
    }
    blocking(work).await
}
