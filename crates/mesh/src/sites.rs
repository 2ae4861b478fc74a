//! No network keeps the others out: the connections that come from one are counted, and denied past its share.
//!
//! Identities cost nothing, so limits per peer alone do not stop one machine from taking every place there is, be it
//! with connections that never say who they are. A [network](Network)'s share is large enough for a company behind one
//! address. Circuits are counted where they leave the network.

use std::collections::HashMap;
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, connection_limits};

use crate::network::Network;

/// Incoming connections of one network that have not said who they are.
pub(crate) const MAX_PENDING_OF_SITE: usize = 64;
/// Incoming connections of one network that have.
pub(crate) const MAX_CONNECTIONS_OF_SITE: usize = 512;

/// Why a connection is denied.
#[derive(Debug, thiserror::Error)]
#[error("more than {0} connections of one network")]
struct Crowded(usize);

/// Counts and denies, beside the limits of all connections together and of one peer's, which are libp2p's.
pub(crate) struct Sites {
    all: connection_limits::Behaviour,
    pending: HashMap<ConnectionId, Network>,
    established: HashMap<ConnectionId, Network>,
}

impl Sites {
    pub(crate) fn new(all: connection_limits::ConnectionLimits) -> Self {
        Self {
            all: connection_limits::Behaviour::new(all),
            pending: HashMap::new(),
            established: HashMap::new(),
        }
    }
}

fn check(
    counted: &HashMap<ConnectionId, Network>,
    site: &Network,
    limit: usize,
) -> Result<(), ConnectionDenied> {
    let count = counted.values().filter(|known| *known == site).count();
    match count < limit {
        true => Ok(()),
        false => Err(ConnectionDenied::new(Crowded(limit))),
    }
}

impl NetworkBehaviour for Sites {
    type ConnectionHandler = THandler<connection_limits::Behaviour>;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.all
            .handle_pending_inbound_connection(id, local, remote)?;
        if let Some(site) = Network::of(remote) {
            // Before anything is computed for it: who is denied asks again and again.
            check(&self.established, &site, MAX_CONNECTIONS_OF_SITE)?;
            check(&self.pending, &site, MAX_PENDING_OF_SITE)?;
            self.pending.insert(id, site);
        }
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&id);
        if let Some(site) = Network::of(remote) {
            check(&self.established, &site, MAX_CONNECTIONS_OF_SITE)?;
        }
        self.all
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.all
            .handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.all
            .handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.all.on_swarm_event(event);
        match event {
            FromSwarm::ConnectionEstablished(made) => {
                if let ConnectedPoint::Listener { send_back_addr, .. } = made.endpoint
                    && let Some(site) = Network::of(send_back_addr)
                {
                    self.established.insert(made.connection_id, site);
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.established.remove(&closed.connection_id);
            }
            FromSwarm::ListenFailure(failed) => {
                self.pending.remove(&failed.connection_id);
            }
            _ => {}
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

#[cfg(test)]
mod tests {
    use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, ListenFailure};
    use libp2p::swarm::{ConnectionError, ListenError};

    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    fn knocks(sites: &mut Sites, number: usize, from: &str) -> bool {
        let from = address(from);
        sites
            .handle_pending_inbound_connection(id(number), &Multiaddr::empty(), &from)
            .is_ok()
    }

    fn enters(sites: &mut Sites, number: usize, from: &str) -> bool {
        let (peer, from) = (PeerId::random(), address(from));
        let entered = sites
            .handle_established_inbound_connection(id(number), peer, &Multiaddr::empty(), &from)
            .is_ok();
        if entered {
            let endpoint = ConnectedPoint::Listener {
                local_addr: Multiaddr::empty(),
                send_back_addr: from,
            };
            sites.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: peer,
                connection_id: id(number),
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
        }
        entered
    }

    fn leaves(sites: &mut Sites, number: usize) {
        let endpoint = ConnectedPoint::Listener {
            local_addr: Multiaddr::empty(),
            send_back_addr: Multiaddr::empty(),
        };
        let cause = ConnectionError::KeepAliveTimeout;
        sites.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id: PeerId::random(),
            connection_id: id(number),
            endpoint: &endpoint,
            cause: Some(&cause),
            remaining_established: 0,
        }));
    }

    fn gives_up(sites: &mut Sites, number: usize) {
        sites.on_swarm_event(FromSwarm::ListenFailure(ListenFailure {
            local_addr: &Multiaddr::empty(),
            send_back_addr: &Multiaddr::empty(),
            error: &ListenError::Aborted,
            connection_id: id(number),
            peer_id: None,
        }));
    }

    #[test]
    fn one_network_takes_its_share_and_leaves_the_rest_to_others() {
        let mut sites = Sites::new(Default::default());
        for number in 0..MAX_PENDING_OF_SITE {
            let from = format!("/ip4/10.0.0.{}/tcp/1", number % 200);
            assert!(knocks(&mut sites, number, &from));
        }
        assert!(!knocks(&mut sites, 1000, "/ip4/10.0.0.201/tcp/1"));
        assert!(knocks(&mut sites, 1001, "/ip4/10.0.1.1/tcp/1"));
        gives_up(&mut sites, 0);
        assert!(knocks(&mut sites, 1002, "/ip4/10.0.0.201/udp/1/quic-v1"));
        for number in 0..MAX_CONNECTIONS_OF_SITE {
            assert!(enters(&mut sites, number, "/ip4/10.0.0.7/tcp/1"));
        }
        assert!(!enters(&mut sites, 2000, "/ip4/10.0.0.8/tcp/1"));
        gives_up(&mut sites, 1002);
        assert!(!knocks(&mut sites, 3000, "/ip4/10.0.0.8/tcp/1"));
        assert!(enters(&mut sites, 2001, "/ip4/10.0.1.1/tcp/1"));
        leaves(&mut sites, 5);
        assert!(knocks(&mut sites, 3001, "/ip4/10.0.0.8/tcp/1"));
        assert!(enters(&mut sites, 2002, "/ip4/10.0.0.8/tcp/1"));
    }

    #[test]
    fn a_connection_that_says_who_it_is_makes_room_for_the_next() {
        let mut sites = Sites::new(Default::default());
        for number in 0..3 * MAX_PENDING_OF_SITE {
            assert!(knocks(&mut sites, number, "/ip4/10.0.0.1/tcp/1"));
            assert!(enters(&mut sites, number, "/ip4/10.0.0.1/tcp/1"));
        }
        assert!(sites.pending.is_empty());
    }
}
