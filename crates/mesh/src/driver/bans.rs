//! Peers that the operator shut out, until the operator lets them in again: nothing is said to them, heard of them, or
//! passed on for them, whichever way they come.

use libp2p::PeerId;
use worldcompute_proof as proof;

use super::Driver;

impl Driver {
    pub(super) fn ban(&mut self, peer: &proof::PeerId) {
        let Ok(peer) = PeerId::from_bytes(&peer.to_bytes()) else {
            return;
        };
        if peer == *self.swarm.local_peer_id() || !self.banned.insert(peer) {
            return;
        }
        tracing::warn!(%peer, "a peer is banned");
        let behaviour = self.swarm.behaviour_mut();
        // Closes its connections, with the circuits and reservations on them, and denies new ones in both directions.
        behaviour.block.block_peer(peer);
        behaviour.kad.remove_peer(&peer);
        if let Some(listener) = self.relays.strike(&peer) {
            // Tells only whether it was still there.
            let _ = self.swarm.remove_listener(listener);
        }
        if let Some(entry) = self.book.get_mut(&peer) {
            entry.silence();
        }
    }

    pub(super) fn unban(&mut self, peer: &proof::PeerId) {
        let Ok(peer) = PeerId::from_bytes(&peer.to_bytes()) else {
            return;
        };
        if self.banned.remove(&peer) {
            tracing::warn!(%peer, "a peer is banned no more");
            let offender = self.blocked.iter().any(|(shut_out, _)| *shut_out == peer);
            if !offender {
                self.swarm.behaviour_mut().block.unblock_peer(peer);
            }
        }
    }

    /// Whether it is banned, or has to wait for what it sent.
    pub(super) fn is_shut_out(&self, peer: &PeerId) -> bool {
        let offender = || self.blocked.iter().any(|(shut_out, _)| shut_out == peer);
        self.banned.contains(peer) || offender()
    }
}
