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
    /// How many have begun to ask.
    begun: u64,
    /// Which of them the last answer was given to.
    answered: u64,
    /// Why the last was none.
    refusal: Option<Fault>,
}

impl Answers {
    fn begin(&mut self) -> u64 {
        self.begun = self.begun.wrapping_add(1);
        self.begun
    }

    /// The last answer, if who got it began after the first `begun`.
    fn of_later(&self, begun: u64) -> Option<Result<()>> {
        (self.answered > begun).then(|| self.told())
    }

    fn told(&self) -> Result<()> {
        self.refusal.clone().map_or(Ok(()), Err)
    }
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
        self.ask(ask).await
    }

    /// Asks, or waits for who begins to ask from now on.
    ///
    /// # Errors
    /// Those of the one who asked.
    pub(crate) async fn join_next(&self, ask: impl Future<Output = Result<()>>) -> Result<()> {
        let begun = self.last().begun;
        let _turn = self.turn.lock().await;
        if let Some(answer) = self.last().of_later(begun) {
            return answer;
        }
        self.ask(ask).await
    }

    /// For who has the turn.
    async fn ask(&self, ask: impl Future<Output = Result<()>>) -> Result<()> {
        let number = self.last().begin();
        let answer = ask.await;
        let mut last = self.last();
        last.count = last.count.wrapping_add(1);
        last.answered = number;
        last.refusal = answer.as_ref().err().cloned();
        answer
    }

    fn since(&self, count: u64) -> Option<Result<()>> {
        let last = self.last();
        (last.count != count).then(|| last.told())
    }

    fn last(&self) -> MutexGuard<'_, Answers> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A hundred who wait while one asks; how often is asked in the end.
    async fn asked(next: bool) -> usize {
        let (flight, asked) = (Arc::new(Flight::default()), Arc::new(AtomicUsize::new(0)));
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let ask = || {
            let (asked, gate) = (asked.clone(), gate.clone());
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok(())
            }
        };
        let mut first = Box::pin(flight.join(ask()));
        assert!(std::future::Future::poll(first.as_mut(), &mut cx()).is_pending());
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let (flight, ask) = (flight.clone(), ask());
                tokio::spawn(async move {
                    match next {
                        true => flight.join_next(ask).await,
                        false => flight.join(ask).await,
                    }
                })
            })
            .collect();
        // Until each of them waits.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(10);
        first.await.unwrap();
        for one in waiting {
            one.await.unwrap().unwrap();
        }
        asked.load(Ordering::SeqCst)
    }

    fn cx() -> std::task::Context<'static> {
        std::task::Context::from_waker(std::task::Waker::noop())
    }

    #[tokio::test]
    async fn who_needs_what_is_true_from_now_on_waits_for_nobody_who_began_before() {
        assert_eq!(asked(false).await, 1);
        assert_eq!(asked(true).await, 2);
    }
}
