//! What one connection does for requests: opens streams for those of this node, and reads and answers those of the peer.
//! All of it runs in the connection's own task.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, ready};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, ConnectionId, SubstreamProtocol};
use libp2p::{PeerId, Stream, StreamProtocol};
use tokio::sync::{mpsc, oneshot};

use super::answering::{Asker, Desk};
use super::asking::{Broken, Order};
use super::lines::{Counts, Route};
use crate::network::Network;
use crate::wire::{Content, Dispatch, Exchange, Kind, Lease, Offer, PeerExchange};

/// The handler's ends of what [`Lines`](super::Lines) holds of a connection.
pub(super) struct Ends {
    pub orders: mpsc::UnboundedReceiver<Order>,
    pub begun: oneshot::Receiver<()>,
}

/// See the module's text.
pub(crate) struct Handler {
    asker: Asker,
    orders: mpsc::UnboundedReceiver<Order>,
    /// Until it resolves, the node does not know yet what this connection is.
    begun: Option<oneshot::Receiver<()>>,
    /// Streams at work.
    streams: FuturesUnordered<BoxFuture<'static, Ended>>,
    opened: Counts<Kind>,
    /// Requests whose streams broke since the connection was last looked at, and before.
    broken: Vec<Broken>,
    broken_before: Vec<Broken>,
}

/// How a stream came to its end.
enum Ended {
    /// A request of the peer.
    Answered(Kind),
    /// One of this node.
    Asked(Option<Box<Broken>>),
}

impl Handler {
    pub(super) fn new(
        desk: &Arc<Desk>,
        peer: PeerId,
        id: ConnectionId,
        route: Route,
        network: Option<Network>,
        ends: Ends,
    ) -> Self {
        Self {
            asker: Asker::new(desk.clone(), peer, id, route, network),
            orders: ends.orders,
            begun: Some(ends.begun),
            streams: FuturesUnordered::new(),
            opened: Counts::default(),
            broken: Vec::new(),
            broken_before: Vec::new(),
        }
    }

    fn has_begun(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(begun) = &mut self.begun
            && begun.poll_unpin(cx).is_ready()
        {
            self.begun = None;
        }
        self.begun.is_none()
    }

    fn on_stream(&mut self, stream: Stream, kind: Kind) {
        if self.opened.of(&kind) >= most_streams(kind) {
            tracing::debug!(peer = %self.asker.peer, protocol = kind.id(), "a stream too many is dropped");
            return;
        }
        self.opened.add(kind);
        let asker = self.asker.clone();
        let answered = async move {
            match kind {
                Kind::Offer => asker.answer::<Offer>(stream).await,
                Kind::Dispatch => asker.answer::<Dispatch>(stream).await,
                Kind::Lease => asker.answer::<Lease>(stream).await,
                Kind::Content => asker.answer::<Content>(stream).await,
                Kind::PeerExchange => asker.answer::<PeerExchange>(stream).await,
            }
            Ended::Answered(kind)
        };
        self.streams.push(answered.boxed());
    }

    /// Settles what broke before the connection was last looked at: it stands, or this handler would be gone. The rest
    /// waits until it has been looked at again.
    fn settle_broken(&mut self, cx: &Context<'_>) {
        for broken in self.broken_before.drain(..) {
            broken.settle();
        }
        self.broken_before.append(&mut self.broken);
        if !self.broken_before.is_empty() {
            cx.waker().wake_by_ref();
        }
    }

    fn carry_out(&mut self, order: Order, stream: Stream) {
        let codec = self.asker.codec(order.kind);
        let carried_out =
            async move { Ended::Asked(order.carry_out(stream, &codec).await.map(Box::new)) };
        self.streams.push(carried_out.boxed());
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.asker.end();
    }
}

/// Streams of one protocol that a peer may have open on a connection: some more than are answered, so that whoever asks
/// too much is told.
const fn most_streams(kind: Kind) -> usize {
    2 * match kind {
        Kind::Offer => Offer::STREAMS,
        Kind::Dispatch => Dispatch::STREAMS,
        Kind::Lease => Lease::STREAMS,
        Kind::Content => Content::STREAMS,
        Kind::PeerExchange => PeerExchange::STREAMS,
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Protocols;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Order;

    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        SubstreamProtocol::new(Protocols, ())
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Order, Infallible>> {
        if !self.has_begun(cx) {
            return Poll::Pending;
        }
        while let Poll::Ready(Some(ended)) = self.streams.poll_next_unpin(cx) {
            match ended {
                Ended::Answered(kind) => self.opened.take(kind),
                Ended::Asked(broken) => self.broken.extend(broken.map(|broken| *broken)),
            }
        }
        match self.orders.poll_recv(cx) {
            Poll::Ready(Some(order)) => {
                let protocol = ReadyUpgrade::new(StreamProtocol::new(order.kind.id()));
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: SubstreamProtocol::new(protocol, order),
                })
            }
            Poll::Ready(None) | Poll::Pending => {
                self.settle_broken(cx);
                Poll::Pending
            }
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Protocols, Self::OutboundProtocol, (), Order>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, kind),
                ..
            }) => self.on_stream(stream, kind),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: order,
            }) => self.carry_out(order, stream),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: order, error }) => {
                self.broken.extend(order.fail(error));
            }
            _ => {}
        }
    }
}

/// A stream of any of the protocols.
pub(crate) struct Protocols;

impl UpgradeInfo for Protocols {
    type Info = Named;
    type InfoIter = std::array::IntoIter<Named, { Kind::ALL.len() }>;

    fn protocol_info(&self) -> Self::InfoIter {
        Kind::ALL.map(Named).into_iter()
    }
}

impl InboundUpgrade<Stream> for Protocols {
    type Output = (Stream, Kind);
    type Error = Infallible;
    type Future = futures::future::Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, Named(kind): Named) -> Self::Future {
        ready(Ok((stream, kind)))
    }
}

/// A protocol by its name.
#[derive(Clone, Copy)]
pub(crate) struct Named(Kind);

impl AsRef<str> for Named {
    fn as_ref(&self) -> &str {
        self.0.id()
    }
}
