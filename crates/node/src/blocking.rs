//! Work that must not hold up the async runtime.

use tokio::task::JoinError;
use worldcompute_fault::{Category, Fault, Result};

/// Runs work that waits for a disk, a person or a processor where waiting is allowed. It goes on also when nobody waits
/// for it any more.
///
/// # Errors
/// Those of the work; `task_broke_off` if it panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(broke_off)?
}

/// Runs what must not end half done: it goes on to its end when nobody waits for it any more.
///
/// # Errors
/// Those of the work; `task_broke_off` if it panicked.
pub async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.map_err(broke_off)?
}

fn broke_off(error: JoinError) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "task_broke_off",
        "work in the background broke off",
    )
    .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_a_fault_of_whoever_waits_for_it() {
        let fault = blocking(|| -> Result<()> { panic!("on purpose") }).await;
        assert_eq!(fault.unwrap_err().code(), "task_broke_off");
        assert_eq!(blocking(|| Ok(1)).await.unwrap(), 1);
    }
}
