//! What others send that is no request: counted against them.

use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::Driver;
use crate::codec::Offence;

/// How long an offender is shut out, and how many are remembered.
const BLOCK_TIME: Duration = Duration::from_secs(60);
const MAX_BLOCKED: usize = 1024;

impl Driver {
    /// Counts what a peer did wrong, and shuts it out when it was too much.
    pub(super) fn on_offence(&mut self, peer: PeerId, offence: &Offence) {
        self.counts.malformed += 1;
        tracing::info!(%peer, %offence, "a peer sent what it should not");
        let now = Instant::now();
        if self
            .book
            .get_mut(&peer)
            .is_some_and(|entry| entry.offended(now))
        {
            self.block(peer, now);
        }
    }

    fn block(&mut self, peer: PeerId, now: Instant) {
        if self.swarm.behaviour_mut().block.block_peer(peer) {
            tracing::warn!(%peer, seconds = BLOCK_TIME.as_secs(), "a peer is shut out");
            self.counts.blocked += 1;
            self.blocked.push_back((peer, now));
        }
        if self.blocked.len() > MAX_BLOCKED {
            self.unblock_first();
        }
    }

    pub(super) fn forgive(&mut self, now: Instant) {
        while self
            .blocked
            .front()
            .is_some_and(|(_, since)| now.saturating_duration_since(*since) >= BLOCK_TIME)
        {
            self.unblock_first();
        }
    }

    fn unblock_first(&mut self) {
        if let Some((peer, _)) = self.blocked.pop_front()
            && !self.banned.contains(&peer)
        {
            self.swarm.behaviour_mut().block.unblock_peer(peer);
        }
    }
}
