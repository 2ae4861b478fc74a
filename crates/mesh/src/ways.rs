//! Where relays are, for dials that go through one that is not connected.
//!
//! libp2p dials the relay of a circuit by the address that the circuit's begins with, and by no other: of several
//! circuits through one relay all but the first are given up while that dial is under way. Where the first begins with an
//! address that leads nowhere from here, the peer would not be reached at all. So a relay is dialled by all of them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::address::way_to_relay;

/// Relays that are remembered. Past them all are forgotten: each dial says anew where its relays are.
const MAX_RELAYS: usize = 256;
/// Addresses of one relay. Further ones are left out.
const MAX_ADDRESSES: usize = 8;

/// Tells a dial of a relay where that is.
pub(crate) struct Ways {
    known: HashMap<PeerId, Vec<Multiaddr>>,
    /// Limits nothing. Its part of a connection is one that does nothing, as that of this behaviour.
    idle: connection_limits::Behaviour,
}

impl Ways {
    pub(crate) fn new() -> Self {
        Self {
            known: HashMap::new(),
            idle: connection_limits::Behaviour::new(ConnectionLimits::default()),
        }
    }

    /// These are about to be dialled.
    pub(crate) fn lead_to(&mut self, addresses: &[Multiaddr]) {
        let mut named: HashMap<PeerId, Vec<Multiaddr>> = HashMap::new();
        for (relay, way) in addresses.iter().filter_map(way_to_relay) {
            let ways = named.entry(relay).or_default();
            if ways.len() < MAX_ADDRESSES && !ways.contains(&way) {
                ways.push(way);
            }
        }
        if self.known.len() + named.len() > MAX_RELAYS {
            self.known.clear();
        }
        self.known.extend(named);
    }
}

impl NetworkBehaviour for Ways {
    type ConnectionHandler = THandler<connection_limits::Behaviour>;
    type ToSwarm = Infallible;

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let ways = peer.and_then(|peer| self.known.get(&peer));
        Ok(ways.cloned().unwrap_or_default())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.idle
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
        self.idle
            .handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit(port: u16, relay: PeerId) -> Multiaddr {
        let to = PeerId::random();
        let text = format!("/ip4/192.0.2.1/tcp/{port}/p2p/{relay}/p2p-circuit/p2p/{to}");
        text.parse().unwrap()
    }

    fn known(ways: &mut Ways, relay: PeerId) -> Vec<String> {
        let id = ConnectionId::new_unchecked(1);
        let found = ways.handle_pending_outbound_connection(id, Some(relay), &[], Endpoint::Dialer);
        found.unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_relay_is_where_the_circuits_begin_that_were_named_last() {
        let (mut ways, relay) = (Ways::new(), PeerId::random());
        ways.lead_to(&[circuit(1, relay), circuit(2, relay), circuit(2, relay)]);
        assert_eq!(
            known(&mut ways, relay),
            ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/tcp/2"]
        );
        ways.lead_to(&["/ip4/192.0.2.1/tcp/3".parse().unwrap(), circuit(4, relay)]);
        assert_eq!(known(&mut ways, relay), ["/ip4/192.0.2.1/tcp/4"]);
        assert!(known(&mut ways, PeerId::random()).is_empty());
    }

    #[test]
    fn whoever_names_relays_and_addresses_without_end_fills_no_memory() {
        let mut ways = Ways::new();
        for _ in 0..4 * MAX_RELAYS {
            let relay = PeerId::random();
            let many: Vec<_> = (1..100).map(|port| circuit(port, relay)).collect();
            ways.lead_to(&many);
            assert_eq!(known(&mut ways, relay).len(), MAX_ADDRESSES);
            assert!(ways.known.len() <= MAX_RELAYS);
        }
    }
}
