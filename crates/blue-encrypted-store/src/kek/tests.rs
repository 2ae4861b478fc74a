//! One asks for many, a refusal is everybody's, and no key is used for longer than it lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use worldcompute_fault::{Category, Fault};

use super::{Keks, KeyLifetime};
use crate::keys::{KekContext, KeyError};
use crate::lab::Meddling;

/// A provider that answers when it is let, and refuses or changes its key when it is told to.
struct Slow {
    calls: AtomicUsize,
    gate: Semaphore,
    refuses: AtomicUsize,
    key: AtomicUsize,
}

impl Slow {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            gate: Semaphore::new(permits),
            refuses: AtomicUsize::new(0),
            key: AtomicUsize::new(1),
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Meddling for Slow {
    fn master_key(&self) -> u8 {
        u8::try_from(self.key.load(Ordering::SeqCst)).unwrap()
    }

    async fn deriving(&self, context: &KekContext) -> Result<KekContext, KeyError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        if self.refuses.load(Ordering::SeqCst) > 0 {
            return Err(Fault::new(Category::NetworkTransient, "refused", "no").into());
        }
        Ok(context.clone())
    }
}

fn keks(slow: &Arc<Slow>, lifetime: KeyLifetime) -> Arc<Keks> {
    let owner = KekContext::of("s1", "acme", "ada");
    Arc::new(Keks::new(slow.clone(), owner, lifetime))
}

/// Lets every task run until it waits.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn of_a_thousand_one_asks_and_all_have_the_key() {
    let slow = Slow::new(0);
    let keks = keks(&slow, KeyLifetime::default());
    let tasks: Vec<_> = (0..1_000)
        .map(|_| {
            let keks = keks.clone();
            tokio::spawn(async move { keks.get(1).await.map(|kek| *kek.bytes()) })
        })
        .collect();
    settle().await;
    assert_eq!(slow.calls(), 1);
    slow.gate.add_permits(1_000);
    let first = *keks.get(1).await.unwrap().bytes();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), first);
    }
    assert_eq!(slow.calls(), 1);
}

#[tokio::test]
async fn a_refusal_is_that_of_all_who_waited_and_of_nobody_who_comes_later() {
    let slow = Slow::new(0);
    slow.refuses.store(1, Ordering::SeqCst);
    let keks = keks(&slow, KeyLifetime::default());
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let keks = keks.clone();
            tokio::spawn(async move { keks.get(1).await.map(drop) })
        })
        .collect();
    settle().await;
    slow.gate.add_permits(100);
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap_err().code(), "refused");
    }
    assert_eq!(slow.calls(), 1);
    slow.refuses.store(0, Ordering::SeqCst);
    keks.get(1).await.unwrap();
    assert_eq!(slow.calls(), 2);
}

#[tokio::test]
async fn who_asks_and_goes_away_leaves_the_question_to_the_next() {
    let slow = Slow::new(0);
    let keks = keks(&slow, KeyLifetime::default());
    let ask = |keks: Arc<Keks>| tokio::spawn(async move { keks.get(1).await.map(drop) });
    let (first, second) = (ask(keks.clone()), ask(keks.clone()));
    settle().await;
    first.abort();
    slow.gate.add_permits(1);
    second.await.unwrap().unwrap();
    assert_eq!(slow.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_asked_for_again_when_it_is_too_old_or_used_up() {
    let slow = Slow::new(100);
    let lifetime = KeyLifetime {
        max_age: Duration::from_secs(10),
        max_uses: 3,
    };
    let keks = keks(&slow, lifetime);
    for (calls, uses) in [(1, 3), (2, 3), (3, 1)] {
        for _ in 0..uses {
            keks.get(1).await.unwrap();
            assert_eq!(slow.calls(), calls);
        }
    }
    tokio::time::advance(Duration::from_secs(9)).await;
    keks.get(1).await.unwrap();
    assert_eq!(slow.calls(), 3);
    tokio::time::advance(Duration::from_secs(1)).await;
    keks.get(1).await.unwrap();
    assert_eq!(slow.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_gives_another_key_than_before_is_refused() {
    let slow = Slow::new(100);
    let lifetime = KeyLifetime::default();
    let keks = keks(&slow, lifetime);
    keks.get(1).await.unwrap();
    slow.key.store(2, Ordering::SeqCst);
    keks.get(2).await.unwrap();
    tokio::time::advance(lifetime.max_age).await;
    assert_eq!(
        keks.get(1).await.err().unwrap().code(),
        "encryption_key_changed"
    );
    slow.key.store(1, Ordering::SeqCst);
    keks.get(1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_without_end_does_not_overflow() {
    let slow = Slow::new(1);
    let lifetime = KeyLifetime {
        max_age: Duration::MAX,
        max_uses: u64::MAX,
    };
    let keks = keks(&slow, lifetime);
    keks.get(1).await.unwrap();
    tokio::time::advance(Duration::from_secs(1 << 30)).await;
    keks.get(1).await.unwrap();
    assert_eq!(slow.calls(), 1);
}
