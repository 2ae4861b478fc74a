//! One request-response protocol on a swarm, with an answer for everything that can happen to a request.
//!
//! libp2p's behaviour sends a request on any of the peer's connections, a relayed one as well as a direct one. This
//! one keeps the two apart: new requests go over a direct connection as soon as there is one, while those under way
//! on a relayed connection finish there, so that it can be closed without losing any.

use std::collections::HashMap;
use std::task::{Context, Poll};

use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::request_response::{
    self as rr, InboundFailure, InboundRequestId, Message, OutboundFailure, OutboundRequestId,
    ProtocolSupport, ResponseChannel,
};
use libp2p::swarm::behaviour::ConnectionClosed;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::oneshot;
use worldcompute_fault::Fault;

use crate::address::is_relayed;
use crate::codec::{Budget, Codec, Frame, Offence, Permit};
use crate::inbound::{Responder, busy, unanswered};
use crate::wire::{Answer, Exchange};

/// Requests of all peers together that may wait for an answer of this node, per protocol.
const MAX_ANSWERING: usize = 1024;

type Inner<E> = rr::Behaviour<Codec<E>>;
type Outcome<E> = Result<<E as Exchange>::Reply, Fault>;
type Ready<E> = (
    Ticket,
    ResponseChannel<Answer<<E as Exchange>::Reply>>,
    Answer<<E as Exchange>::Reply>,
);
type Ticket = (Route, InboundRequestId);

/// Which of the two kinds of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    Direct,
    Relayed,
}

/// What the protocol reports.
#[derive(Debug)]
pub(crate) enum Event<E: Exchange> {
    Arrived {
        peer: PeerId,
        route: Route,
        request: E::Request,
        memory: Permit,
        responder: Responder<E::Reply>,
    },
    Busy,
    Offence {
        peer: PeerId,
        offence: Offence,
    },
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("no answer in time")]
    Timeout,
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error("the peer does not speak this protocol")]
    Unsupported,
    #[error("too many requests to this peer are under way")]
    Busy,
    #[error("the request cannot be sent: {0}")]
    Unsendable(String),
    #[error("the answer is none: {0}")]
    Garbage(String),
}

/// The behaviour. See the module's text.
pub(crate) struct Exchanger<E: Exchange> {
    direct: Inner<E>,
    relayed: Inner<E>,
    connections: HashMap<ConnectionId, (PeerId, Route)>,
    calls: HashMap<(Route, OutboundRequestId), Call<E>>,
    answering: FuturesUnordered<Abortable<BoxFuture<'static, Ready<E>>>>,
    tickets: HashMap<Ticket, (PeerId, AbortHandle)>,
}

struct Call<E: Exchange> {
    peer: PeerId,
    done: oneshot::Sender<Outcome<E>>,
}

impl<E: Exchange> Exchanger<E> {
    pub(crate) fn new(budget: &Budget) -> Self {
        let inner = || {
            rr::Behaviour::with_codec(
                Codec::new(budget.clone()),
                [(StreamProtocol::new(E::ID), ProtocolSupport::Full)],
                rr::Config::default()
                    .with_request_timeout(E::TIMEOUT)
                    .with_max_concurrent_streams(2 * E::STREAMS),
            )
        };
        Self {
            direct: inner(),
            relayed: inner(),
            connections: HashMap::new(),
            calls: HashMap::new(),
            answering: FuturesUnordered::new(),
            tickets: HashMap::new(),
        }
    }

    /// Sends `request` on a connection that exists, a direct one if there is one.
    pub(crate) fn call(
        &mut self,
        peer: PeerId,
        request: E::Request,
        done: oneshot::Sender<Outcome<E>>,
    ) {
        let Some(route) = self.route_to(&peer) else {
            return settle(
                done,
                Err(CallError::Lost("it closed before the request was sent".to_owned()).into()),
            );
        };
        if self.calls.values().filter(|call| call.peer == peer).count() >= E::STREAMS {
            return settle(done, Err(CallError::Busy.into()));
        }
        let frame = Frame::Valid(request, Permit::default());
        let id = self.inner(route).send_request(&peer, frame);
        self.calls.insert((route, id), Call { peer, done });
    }

    /// Whether a request to or from the peer is under way on a relayed connection.
    pub(crate) fn relays_for(&self, peer: &PeerId) -> bool {
        let calls = self
            .calls
            .iter()
            .map(|((route, _), call)| (*route, &call.peer));
        let answers = self
            .tickets
            .iter()
            .map(|((route, _), (peer, _))| (*route, peer));
        calls
            .chain(answers)
            .any(|under_way| under_way == (Route::Relayed, peer))
    }

    /// Whether any request to or from the peer is under way.
    pub(crate) fn is_engaged(&self, peer: &PeerId) -> bool {
        self.calls.values().any(|call| call.peer == *peer)
            || self.tickets.values().any(|(asking, _)| asking == peer)
    }

    fn route_to(&self, peer: &PeerId) -> Option<Route> {
        match () {
            () if self.direct.is_connected(peer) => Some(Route::Direct),
            () if self.relayed.is_connected(peer) => Some(Route::Relayed),
            () => None,
        }
    }

    fn inner(&mut self, route: Route) -> &mut Inner<E> {
        match route {
            Route::Direct => &mut self.direct,
            Route::Relayed => &mut self.relayed,
        }
    }

    fn digest(
        &mut self,
        route: Route,
        event: rr::Event<Frame<E::Request>, Answer<E::Reply>>,
    ) -> Option<Event<E>> {
        match event {
            rr::Event::Message { peer, message, .. } => self.on_message(route, peer, message),
            rr::Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => self.on_outbound_failure(route, peer, request_id, error),
            rr::Event::InboundFailure {
                request_id, error, ..
            } => {
                self.forget((route, request_id), &error);
                None
            }
            rr::Event::ResponseSent { request_id, .. } => {
                self.tickets.remove(&(route, request_id));
                None
            }
        }
    }

    fn on_message(
        &mut self,
        route: Route,
        peer: PeerId,
        message: Message<Frame<E::Request>, Answer<E::Reply>>,
    ) -> Option<Event<E>> {
        match message {
            Message::Response {
                request_id,
                response,
            } => {
                let call = self.calls.remove(&(route, request_id))?;
                settle(call.done, response.into_result());
                None
            }
            Message::Request {
                request_id,
                request,
                channel,
            } => match request {
                Frame::Valid(request, memory) => {
                    Some(self.on_request((route, request_id), peer, request, memory, channel))
                }
                Frame::Overload => {
                    self.answer(route, channel, &busy());
                    Some(Event::Busy)
                }
                // Dropping the channel closes the stream without an answer.
                Frame::Offending(offence) => Some(Event::Offence { peer, offence }),
            },
        }
    }

    fn on_request(
        &mut self,
        ticket: Ticket,
        peer: PeerId,
        request: E::Request,
        memory: Permit,
        channel: ResponseChannel<Answer<E::Reply>>,
    ) -> Event<E> {
        if !self.has_room_for(&peer) {
            self.answer(ticket.0, channel, &busy());
            return Event::Busy;
        }
        let (responder, waiting) = Responder::new();
        let ready = async move {
            let answer = waiting.await;
            (
                ticket,
                channel,
                answer.unwrap_or_else(|_| Answer::refused(&unanswered())),
            )
        };
        let (abort, registration) = AbortHandle::new_pair();
        self.tickets.insert(ticket, (peer, abort));
        self.answering
            .push(Abortable::new(ready.boxed(), registration));
        Event::Arrived {
            peer,
            route: ticket.0,
            request,
            memory,
            responder,
        }
    }

    fn has_room_for(&self, peer: &PeerId) -> bool {
        let of_peer = self.tickets.values().filter(|(asking, _)| asking == peer);
        self.tickets.len() < MAX_ANSWERING && of_peer.count() < E::STREAMS
    }

    fn on_outbound_failure(
        &mut self,
        route: Route,
        peer: PeerId,
        id: OutboundRequestId,
        error: OutboundFailure,
    ) -> Option<Event<E>> {
        let error = CallError::from(error);
        let offence = match &error {
            CallError::Garbage(why) => Some(Event::Offence {
                peer,
                offence: Offence::Malformed(crate::wire::Malformed::Cbor(why.clone())),
            }),
            _ => None,
        };
        if let Some(call) = self.calls.remove(&(route, id)) {
            settle(call.done, Err(error.into()));
        }
        offence
    }

    /// The requester is gone: whoever works on its request learns it from the responder.
    fn forget(&mut self, ticket: Ticket, error: &InboundFailure) {
        if let Some((peer, abort)) = self.tickets.remove(&ticket) {
            tracing::debug!(%peer, protocol = E::ID, %error, "a request lost its requester");
            abort.abort();
        }
    }

    fn answer(
        &mut self,
        route: Route,
        channel: ResponseChannel<Answer<E::Reply>>,
        refusal: &Fault,
    ) {
        self.send(route, channel, Answer::refused(refusal));
    }

    fn send(
        &mut self,
        route: Route,
        channel: ResponseChannel<Answer<E::Reply>>,
        answer: Answer<E::Reply>,
    ) {
        if self.inner(route).send_response(channel, answer).is_err() {
            tracing::debug!(protocol = E::ID, "an answer came too late");
        }
    }

    fn poll_inner(
        &mut self,
        route: Route,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Event<E>, THandlerInEvent<Self>>> {
        loop {
            match self.inner(route).poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => {
                    if let Some(event) = self.digest(route, event) {
                        return Poll::Ready(ToSwarm::GenerateEvent(event));
                    }
                }
                Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler,
                    event,
                }) => {
                    return Poll::Ready(ToSwarm::NotifyHandler {
                        peer_id,
                        handler,
                        event,
                    });
                }
                Poll::Ready(ToSwarm::Dial { opts }) => return Poll::Ready(ToSwarm::Dial { opts }),
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn of_route(&self, peer: &PeerId, route: Route) -> usize {
        self.connections
            .values()
            .filter(|known| **known == (*peer, route))
            .count()
    }
}

impl<E: Exchange> NetworkBehaviour for Exchanger<E> {
    type ConnectionHandler = THandler<Inner<E>>;
    type ToSwarm = Event<E>;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let route = Route::of(local);
        self.connections.insert(id, (peer, route));
        self.inner(route)
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let route = Route::of(address);
        self.connections.insert(id, (peer, route));
        self.inner(route)
            .handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => {
                let Some((peer, route)) = self.connections.remove(&closed.connection_id) else {
                    return;
                };
                let remaining_established = self.of_route(&peer, route);
                let closed = ConnectionClosed {
                    remaining_established,
                    ..closed
                };
                self.inner(route)
                    .on_swarm_event(FromSwarm::ConnectionClosed(closed));
            }
            FromSwarm::AddressChange(change) => {
                if let Some((_, route)) = self.connections.get(&change.connection_id).copied() {
                    self.inner(route).on_swarm_event(event);
                }
            }
            event => {
                self.direct.on_swarm_event(event);
                self.relayed.on_swarm_event(event);
            }
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if let Some((_, route)) = self.connections.get(&id).copied() {
            self.inner(route)
                .on_connection_handler_event(peer, id, event);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        while let Poll::Ready(Some(ready)) = self.answering.poll_next_unpin(cx) {
            if let Ok(((route, _), channel, answer)) = ready {
                self.send(route, channel, answer);
            }
        }
        match self.poll_inner(Route::Direct, cx) {
            Poll::Ready(event) => Poll::Ready(event),
            Poll::Pending => self.poll_inner(Route::Relayed, cx),
        }
    }
}

impl Route {
    fn of(address: &Multiaddr) -> Self {
        if is_relayed(address) {
            Self::Relayed
        } else {
            Self::Direct
        }
    }
}

impl From<OutboundFailure> for CallError {
    fn from(failure: OutboundFailure) -> Self {
        match failure {
            OutboundFailure::Timeout => Self::Timeout,
            OutboundFailure::DialFailure | OutboundFailure::ConnectionClosed => {
                Self::Lost("it closed before the answer".to_owned())
            }
            OutboundFailure::UnsupportedProtocols => Self::Unsupported,
            OutboundFailure::Io(error) => match error.kind() {
                std::io::ErrorKind::InvalidData => Self::Garbage(error.to_string()),
                std::io::ErrorKind::InvalidInput => Self::Unsendable(error.to_string()),
                std::io::ErrorKind::TimedOut => Self::Timeout,
                _ => Self::Lost(error.to_string()),
            },
        }
    }
}

/// A requester that no longer waits needs no answer.
fn settle<T>(done: oneshot::Sender<T>, outcome: T) {
    let _ = done.send(outcome);
}
