//! Dials that nobody waits for any more because another address was first. libp2p drops them without a word.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};

/// Of so many it is remembered; the oldest are forgotten.
const MAX_REMEMBERED: usize = 1024;

/// Those that were dropped and not told yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct GivenUp(Arc<Mutex<Vec<Unanswered>>>);

/// A dial that was dropped before it came to anything.
#[derive(Clone, Debug)]
pub(crate) struct Unanswered {
    pub address: Multiaddr,
    /// How long it was under way.
    pub after: Duration,
    dropped: Instant,
}

impl Unanswered {
    /// Whether it was dropped before this time.
    pub(crate) fn is_before(&self, time: Instant) -> bool {
        self.dropped < time
    }
}

impl GivenUp {
    /// Takes out those that are `wanted`.
    pub(crate) fn take(&self, wanted: impl Fn(&Unanswered) -> bool) -> Vec<Unanswered> {
        let mut dropped = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        dropped.extract_if(.., |dial| wanted(dial)).collect()
    }

    fn add(&self, dial: Unanswered) {
        let mut dropped = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if dropped.len() >= MAX_REMEMBERED {
            dropped.remove(0);
        }
        dropped.push(dial);
    }
}

/// A transport that remembers which of its dials were dropped. One that never began is none of them.
pub(crate) struct Watched<T> {
    inner: T,
    given_up: GivenUp,
}

impl<T> Watched<T> {
    pub(crate) fn new(inner: T, given_up: GivenUp) -> Self {
        Self { inner, given_up }
    }
}

struct UnderWay {
    address: Multiaddr,
    since: Instant,
    given_up: Option<GivenUp>,
}

impl UnderWay {
    fn came_to_something(mut self) {
        self.given_up = None;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(given_up) = self.given_up.take() {
            given_up.add(Unanswered {
                address: self.address.clone(),
                after: self.since.elapsed(),
                dropped: Instant::now(),
            });
        }
    }
}

impl<T> Transport for Watched<T>
where
    T: Transport + Unpin,
    T::Dial: Send + 'static,
    T::Output: Send,
    T::Error: Send,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<T::Error>> {
        let dial = self.inner.dial(address.clone(), opts)?;
        let given_up = Some(self.given_up.clone());
        Ok(async move {
            let under_way = UnderWay {
                address,
                since: Instant::now(),
                given_up,
            };
            let outcome = dial.await;
            under_way.came_to_something();
            outcome
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
