//! Requests of peers to each other, each on a stream of its own, with an answer for everything that can happen to one.
//!
//! A request goes from whoever makes it to the task of the connection, and there from the peer to whoever answers it: the
//! task that owns the swarm sees neither. What it needs to know of them is in [`Lines`], and it says there which
//! connections are to be used: new requests go over a direct one as soon as there is one, while those under way on a
//! relayed one finish there, so that it can be closed without losing any.

mod answering;
mod asking;
mod handler;
mod lines;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use self::handler::Handler;
use self::lines::Route;
use crate::address::is_relayed;
use crate::network::Network;

pub(crate) use answering::Desk;
pub(crate) use asking::{CONNECTION_LOST, CallError};
pub(crate) use lines::{Line, Lines, Standing};

/// The behaviour. See the module's text.
pub(crate) struct Exchanger {
    desk: Arc<Desk>,
}

impl Exchanger {
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        Self { desk }
    }

    /// `way` is where the peer comes from; of a circuit, how its relay is reached.
    fn handler(&self, peer: PeerId, id: ConnectionId, way: &Multiaddr) -> Handler {
        let route = match is_relayed(way) {
            true => Route::Relayed,
            false => Route::Direct,
        };
        let ends = self.desk.lines.add(peer, id, route);
        Handler::new(&self.desk, peer, id, route, Network::next_on(way), ends)
    }
}

impl NetworkBehaviour for Exchanger {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // Of who comes over a circuit, only the relay has an address.
        let way = if is_relayed(local) { local } else { remote };
        Ok(self.handler(peer, id, way))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, id, address))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let gone = match event {
            FromSwarm::ConnectionClosed(closed) => Some((closed.peer_id, closed.connection_id)),
            // Another behaviour did not want it.
            FromSwarm::DialFailure(failure) => failure.peer_id.zip(Some(failure.connection_id)),
            FromSwarm::ListenFailure(failure) => failure.peer_id.zip(Some(failure.connection_id)),
            _ => None,
        };
        if let Some((peer, id)) = gone {
            self.desk.lines.remove(&peer, id);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
