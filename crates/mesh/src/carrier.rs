//! The relay of libp2p, and one word of the end of each circuit that it carries.
//!
//! When the connection of its destination closes, libp2p tells of the end of a circuit twice: at once, and when the source's
//! side of it has ended, until which the circuit takes up a place here. Only what is told first says whose connection closed,
//! and only to whoever sees it close: so this stands between the swarm and the relay.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use futures::task::noop_waker_ref;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, relay};

use crate::circuits::Circuits;

type Action = ToSwarm<relay::Event, THandlerInEvent<relay::Behaviour>>;

pub(crate) struct Carrier {
    relay: relay::Behaviour,
    circuits: Circuits,
    /// What the relay wants done, and was not asked for yet.
    actions: VecDeque<Action>,
}

impl Carrier {
    pub(crate) const fn new(relay: relay::Behaviour, circuits: Circuits) -> Self {
        Self {
            relay,
            circuits,
            actions: VecDeque::new(),
        }
    }

    /// What the relay wants done at present. Whoever polls it next is woken for the rest.
    fn wanted(&mut self) -> Vec<Action> {
        let mut nobody = Context::from_waker(noop_waker_ref());
        let next = || match self.relay.poll(&mut nobody) {
            Poll::Ready(action) => Some(action),
            Poll::Pending => None,
        };
        std::iter::from_fn(next).collect()
    }

    fn keep_wanted(&mut self) {
        let wanted = self.wanted();
        self.actions.extend(wanted);
    }
}

/// Whether this is the end of a circuit that the source's side will tell of.
fn is_told_again(action: &Action, closed: &PeerId) -> bool {
    match action {
        ToSwarm::GenerateEvent(relay::Event::CircuitClosed {
            src_peer_id,
            dst_peer_id,
            ..
        }) => src_peer_id != closed || dst_peer_id == closed,
        _ => false,
    }
}

/// Whether this answers who asked on this connection: with a refusal, where it would otherwise be asked of another.
fn answers(action: &Action, peer: PeerId, connection: ConnectionId) -> bool {
    match action {
        ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(to),
            ..
        } => (*peer_id, *to) == (peer, connection),
        _ => false,
    }
}

impl NetworkBehaviour for Carrier {
    type ConnectionHandler = THandler<relay::Behaviour>;
    type ToSwarm = relay::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.relay
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
        self.relay
            .handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let closed = match &event {
            FromSwarm::ConnectionClosed(closed) => {
                Some((closed.peer_id, closed.remaining_established))
            }
            _ => None,
        };
        self.keep_wanted();
        self.relay.on_swarm_event(event);
        let mut wanted = self.wanted();
        if let Some((peer, remaining)) = closed {
            wanted.retain(|action| !is_told_again(action, &peer));
            if remaining == 0 {
                self.circuits.left(&peer);
            }
        }
        self.actions.extend(wanted);
    }

    /// A circuit that was admitted and leads to nobody who reserved comes to nothing, whether or not its source hears of that.
    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.keep_wanted();
        let before = self.circuits.admitted();
        self.relay
            .on_connection_handler_event(peer, connection, event);
        let wanted = self.wanted();
        let refused = |action: &Action| answers(action, peer, connection);
        if self.circuits.admitted() > before && wanted.iter().any(refused) {
            self.circuits.failed(&peer);
        }
        self.actions.extend(wanted);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Action> {
        match self.actions.pop_front() {
            Some(action) => Poll::Ready(action),
            None => self.relay.poll(cx),
        }
    }
}
