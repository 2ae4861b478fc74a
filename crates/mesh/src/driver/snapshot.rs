//! What the node says when it is asked.

use std::time::Instant;

use libp2p::PeerId;
use worldcompute_proof as proof;

use super::Driver;
use crate::address::is_relayed;
use crate::status::{InboundCounts, MeshStatus, PeerInfo};

impl Driver {
    /// Everybody known, by peer id.
    pub(super) fn peers(&self) -> Vec<PeerInfo> {
        let now = Instant::now();
        let mut peers: Vec<PeerInfo> = self.book.iter().map(|(_, entry)| entry.info(now)).collect();
        peers.sort_by_key(|info| info.peer);
        peers
    }

    /// Whether a box opens the TLS on the way to a peer.
    pub(super) fn inspects(&self, peer: &proof::PeerId) -> bool {
        PeerId::from_bytes(&peer.to_bytes()).is_ok_and(|peer| self.is_inspected_to(&peer))
    }

    pub(super) fn status(&self) -> MeshStatus {
        let network = self.swarm.network_info();
        let mut external: Vec<_> = self.swarm.external_addresses().cloned().collect();
        external.sort_by_key(ToString::to_string);
        let requests = self.desk.counts();
        MeshStatus {
            peer: self.me,
            agent: self.agent.clone(),
            listen: self
                .swarm
                .listeners()
                .filter(|address| !is_relayed(address))
                .cloned()
                .collect(),
            external,
            reservations: self
                .reservations()
                .into_iter()
                .map(|(_, info)| info)
                .collect(),
            connections: usize::try_from(network.connection_counters().num_established())
                .unwrap_or(usize::MAX),
            connected_peers: network.num_peers(),
            dials: self.dials,
            inbound: InboundCounts {
                accepted: requests.accepted,
                busy: requests.busy,
                ..self.counts
            },
        }
    }
}
