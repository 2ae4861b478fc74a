//! Of many who ask the same at a time one does, and the answer it gets, good or bad, is everybody's.

use std::sync::{Mutex, MutexGuard, PoisonError};

use worldcompute_fault::{Fault, Result};

/// The queue before one question. What is learned lies elsewhere; here is whether it could be.
#[derive(Default)]
pub(crate) struct Flight {
    /// Held by the one who asks.
    turn: tokio::sync::Mutex<()>,
    last: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    count: u64,
    /// Why the last was none.
    refusal: Option<Fault>,
}

impl Flight {
    /// Asks, or waits for who is asking.
    ///
    /// # Errors
    /// Those of the one who asked.
    pub(crate) async fn join(&self, ask: impl Future<Output = Result<()>>) -> Result<()> {
        let count = self.last().count;
        let _turn = self.turn.lock().await;
        if let Some(answer) = self.since(count) {
            return answer;
        }
        let answer = ask.await;
        let mut last = self.last();
        last.count = last.count.wrapping_add(1);
        last.refusal = answer.as_ref().err().cloned();
        answer
    }

    fn since(&self, count: u64) -> Option<Result<()>> {
        let last = self.last();
        (last.count != count).then(|| last.refusal.clone().map_or(Ok(()), Err))
    }

    fn last(&self) -> MutexGuard<'_, Answers> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
