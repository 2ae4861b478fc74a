//! A request of a peer: read, handed to whoever answers it, answered. No task but the connection's own is in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, Stream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use worldcompute_fault::Fault;

use super::lines::{Lines, Route};
use crate::codec::{Budget, Codec, DISPATCH_MEMORY, Frame, MESSAGE_MEMORY, Offence, Permit};
use crate::driver::Command;
use crate::inbound::{Inbound, Request, Responder, busy, cut_off, unanswered};
use crate::network::Network;
use crate::status::{InboundCounts, Path};
use crate::wire::{
    Answer, Content, Dispatch, Exchange, Kind, Lease, Offer, PeerExchange, RelaysRequest,
};

/// Where the requests of all peers arrive.
pub(crate) struct Desk {
    pub(super) lines: Lines,
    inbound: mpsc::Sender<Inbound>,
    /// What the node itself has to see.
    own: mpsc::WeakSender<Command>,
    /// Tasks are large. What keeps running ones alive must not wait until there is room for another.
    tasks: Budget,
    messages: Budget,
    accepted: AtomicU64,
    busy: AtomicU64,
}

/// A peer on one of its connections.
#[derive(Clone)]
pub(super) struct Asker {
    pub peer: PeerId,
    connection: ConnectionId,
    route: Route,
    desk: Arc<Desk>,
    tasks: Arc<Codec>,
    messages: Arc<Codec>,
}

/// Who answers a protocol.
pub(super) trait Answers: Exchange {
    /// Hands a request on, or refuses it.
    fn hand_on(
        asker: &Asker,
        request: Self::Request,
        memory: Permit,
        responder: Responder<Self::Reply>,
    );
}

impl Desk {
    pub(crate) fn new(
        lines: Lines,
        inbound: mpsc::Sender<Inbound>,
        own: mpsc::WeakSender<Command>,
    ) -> Self {
        Self {
            lines,
            inbound,
            own,
            tasks: Budget::new(DISPATCH_MEMORY),
            messages: Budget::new(MESSAGE_MEMORY),
            accepted: AtomicU64::new(0),
            busy: AtomicU64::new(0),
        }
    }

    /// What came of the requests of others so far.
    pub(crate) fn counts(&self) -> InboundCounts {
        InboundCounts {
            accepted: self.accepted.load(Ordering::Relaxed),
            busy: self.busy.load(Ordering::Relaxed),
            ..InboundCounts::default()
        }
    }

    /// Counts a request that is refused because there is no room for it.
    pub(crate) fn refuse(&self) -> Fault {
        self.busy.fetch_add(1, Ordering::Relaxed);
        busy()
    }
}

impl Asker {
    pub(super) fn new(
        desk: Arc<Desk>,
        peer: PeerId,
        connection: ConnectionId,
        route: Route,
        network: Option<Network>,
    ) -> Self {
        let codec = |budget: &Budget| Arc::new(Codec::new(budget.pools(peer, network.clone())));
        Self {
            peer,
            connection,
            route,
            tasks: codec(&desk.tasks),
            messages: codec(&desk.messages),
            desk,
        }
    }

    pub(super) fn codec(&self, kind: Kind) -> Arc<Codec> {
        match kind {
            Kind::Dispatch => self.tasks.clone(),
            _ => self.messages.clone(),
        }
    }

    /// Reads what comes on a stream that the peer opened, and answers it.
    pub(super) async fn answer<E: Answers>(self, mut stream: Stream) {
        let _occupied = self.desk.lines.occupy(self.peer, self.connection);
        let codec = self.codec(E::KIND);
        let exchange = async {
            match codec.read_request::<E>(&mut stream).await {
                Frame::Valid(request, memory) => {
                    self.serve::<E>(request, memory, &codec, &mut stream).await;
                }
                Frame::Overload => self.turn_away::<E>(&codec, &mut stream).await,
                Frame::Offending(offence) => {
                    let broke = offence.is_cut_off() && !self.hears::<E>(&codec, &mut stream).await;
                    return (!broke).then_some(offence);
                }
            }
            None
        };
        match timeout(E::TIMEOUT, exchange).await {
            Ok(Some(offence)) => self.report(offence, stream).await,
            Ok(None) => {}
            Err(_) => {
                tracing::debug!(peer = %self.peer, protocol = E::ID, "a request ran out of time")
            }
        }
    }

    async fn serve<E: Answers>(
        &self,
        request: E::Request,
        memory: Permit,
        codec: &Codec,
        stream: &mut Stream,
    ) {
        let Some(ticket) = self.desk.lines.admit::<E>(self.peer, self.connection) else {
            return self.turn_away::<E>(codec, stream).await;
        };
        let (responder, waiting) = Responder::new();
        E::hand_on(self, request, memory, responder);
        let answer = waiting
            .await
            .unwrap_or_else(|_| Answer::refused(&unanswered()));
        self.write::<E>(codec, stream, &answer).await;
        drop(ticket);
    }

    /// Whether the peer is still there, which ended its request too soon.
    async fn hears<E: Exchange>(&self, codec: &Codec, stream: &mut Stream) -> bool {
        let refusal = Answer::refused(&cut_off());
        codec.write_answer::<E>(stream, &refusal).await.is_ok()
    }

    async fn turn_away<E: Exchange>(&self, codec: &Codec, stream: &mut Stream) {
        let refusal = Answer::refused(&self.desk.refuse());
        self.write::<E>(codec, stream, &refusal).await;
    }

    async fn write<E: Exchange>(
        &self,
        codec: &Codec,
        stream: &mut Stream,
        answer: &Answer<E::Reply>,
    ) {
        if let Err(error) = codec.write_answer::<E>(stream, answer).await {
            tracing::debug!(peer = %self.peer, protocol = E::ID, %error, "a request lost its requester");
        }
    }

    /// The connection ends.
    pub(super) fn end(&self) {
        self.desk.lines.end(&self.peer, self.connection);
    }

    /// The stream ends when the offence was counted.
    async fn report(&self, offence: Offence, stream: Stream) {
        if let Some(own) = self.desk.own.upgrade() {
            // A node that has left the mesh counts nothing.
            let _ = own
                .send(Command::Offence(self.peer, offence, Some(stream)))
                .await;
        }
    }

    fn to_application(&self, request: Request, memory: Permit) {
        let known = self.desk.lines.standing(&self.peer, self.connection);
        let Some((standing, inspected)) = known else {
            return;
        };
        let inbound = Inbound {
            from: standing.id,
            path: match self.route {
                Route::Relayed => Path::Relayed,
                Route::Direct => standing.path,
            },
            inspected,
            request,
            _memory: memory,
        };
        match self.desk.inbound.try_send(inbound) {
            Ok(()) => drop(self.desk.accepted.fetch_add(1, Ordering::Relaxed)),
            // Whoever gave up meanwhile needs no answer.
            Err(full) => drop(full.into_inner().request.refuse(&self.desk.refuse())),
        }
    }
}

macro_rules! answered_by_the_application {
    ($exchange:ident, $request:expr) => {
        impl Answers for $exchange {
            fn hand_on(
                asker: &Asker,
                request: Self::Request,
                memory: Permit,
                responder: Responder<Self::Reply>,
            ) {
                asker.to_application($request(request.into(), responder), memory);
            }
        }
    };
}

answered_by_the_application!(Offer, Request::Offer);
answered_by_the_application!(Dispatch, Request::Dispatch);
answered_by_the_application!(Lease, Request::Lease);
answered_by_the_application!(Content, Request::Content);

impl Answers for PeerExchange {
    fn hand_on(asker: &Asker, _: RelaysRequest, _: Permit, responder: Responder<Self::Reply>) {
        let Some(own) = asker.desk.own.upgrade() else {
            return;
        };
        if let Err(full) = own.try_send(Command::Asked(asker.peer, responder))
            && let Command::Asked(_, responder) = full.into_inner()
        {
            // Whoever gave up meanwhile needs no answer.
            let _ = responder.refuse(&asker.desk.refuse());
        }
    }
}
