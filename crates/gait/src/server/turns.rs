//! Taking turns at work that a client asked for.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many requests are worked on at a time.
const AT_A_TIME: usize = 128;

/// Who asks waits for a turn, and keeps it until the work is done: those who ask and go away cannot pile up work.
#[derive(Clone)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_A_TIME)))
    }
}

impl Turns {
    /// A turn, once there is one.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_than_so_many_have_a_turn_and_the_next_comes_when_one_is_done() {
        let turns = Turns::default();
        let mut taken = Vec::new();
        for _ in 0..AT_A_TIME {
            taken.push(turns.turn().await.unwrap());
        }
        assert_eq!(turns.0.available_permits(), 0);
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.turn().await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        taken.pop();
        assert!(waiting.await.unwrap());
    }
}
