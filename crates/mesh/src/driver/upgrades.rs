//! Better ways to peers that stay connected: a network may begin to let through what it did not when they met.
//!
//! Whom nothing but a circuit leads to is dialled where it says that it is, and the circuit is made anew, for holes are
//! punched when one begins (DCUtR) and at the addresses that are known then. A connection that this node dialled gives way
//! to one of a better kind. Relays are seen to by [`crate::relays`].

use std::collections::HashSet;
use std::time::{Duration, Instant};

use libp2p::swarm::dial_opts::PeerCondition;
use libp2p::{Multiaddr, PeerId};
use rand::seq::SliceRandom as _;

use super::Driver;
use super::pacing::Pacing;
use super::reversal::MAX_ADDRESSES;
use crate::allowance::Allowance;
use crate::book::Entry;
use crate::config::MAX_UPGRADE_PAUSE;
use crate::hearsay::stated;
use crate::network::Scope;
use crate::status::Path;

/// How often it is looked who could be better connected.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Tries together: so many at once, then one at each interval.
const TRIES: f64 = 16.0;
const TRIES_PAUSE: Duration = Duration::from_secs(2);
/// Who asks nothing and is asked nothing for so long is left connected as it is.
const IN_USE: Duration = Duration::from_secs(600);

/// When a better way to each peer is tried.
pub(super) struct Upgrades {
    looked: Instant,
    allowance: Allowance,
    tries: Pacing,
}

impl Upgrades {
    pub(super) fn new(after: Duration, now: Instant) -> Self {
        Self {
            looked: now,
            allowance: Allowance::new(TRIES, TRIES_PAUSE, now),
            tries: Pacing::new(after, after, after * MAX_UPGRADE_PAUSE),
        }
    }

    /// This node's own network lets through what it did not.
    pub(super) fn begin_anew(&mut self) {
        self.tries.begin_anew();
    }
}

impl Driver {
    pub(super) fn tend_upgrades(&mut self, now: Instant) {
        // Whom others come to has no hole to punch, and is dialled by them.
        if self.hub || now.saturating_duration_since(self.upgrades.looked) < LOOK_INTERVAL {
            return;
        }
        self.upgrades.looked = now;
        let poor = self.poorly_connected(now);
        for peer in self.upgrades.tries.due(&poor, now) {
            let ways = self.better_ways(&peer);
            if ways.is_empty() || !self.upgrades.allowance.take(1, now) {
                continue;
            }
            self.upgrades.tries.tried(&peer, rand::random(), now);
            for addresses in ways {
                self.dial_now(peer, addresses, PeerCondition::Always, Vec::new());
            }
        }
    }

    /// Members in use that could be better connected, for all that is known.
    fn poorly_connected(&self, now: Instant) -> HashSet<PeerId> {
        let poor = self.book.iter().filter(|(peer, entry)| {
            entry.member
                && entry.could_be_better()
                && !self.relays.contains(peer)
                && self.lines.is_used(peer, IN_USE, now)
        });
        poor.map(|(peer, _)| *peer).collect()
    }

    /// What there is to dial at present, each by itself. Nothing while that would be in the way of something else.
    fn better_ways(&self, peer: &PeerId) -> Vec<Vec<Multiaddr>> {
        let Some(entry) = self.book.get(peer).filter(|_| !self.is_dialling(peer)) else {
            return Vec::new();
        };
        let mut ways = match entry.path() {
            Some(Path::Relayed) => vec![
                some_of(self.out_of_circuit(peer)),
                Vec::from_iter(self.circuit_made_anew(peer, entry)),
            ],
            Some(Path::Direct) if !self.is_needed(peer) => vec![some_of(outdoing(peer, entry))],
            _ => Vec::new(),
        };
        ways.retain(|addresses| !addresses.is_empty());
        ways
    }

    /// Where to dial a circuit beside the one that this node dialled, which is then closed. Of two that dialled each other one
    /// is enough; and whoever takes no part in punching holes needs none.
    fn circuit_made_anew(&self, peer: &PeerId, entry: &Entry) -> Option<Multiaddr> {
        let punches = self.swarm.behaviour().dcutr.is_enabled();
        let (circuit, both) = entry.renewable_circuit().filter(|_| punches)?;
        (!both || self.swarm.local_peer_id() < peer).then(|| circuit.clone())
    }
}

/// Where a peer says that it is, of a better kind than the connection to it, and meaning as much as its address does.
fn outdoing(peer: &PeerId, entry: &Entry) -> Vec<Multiaddr> {
    let within = entry.remote().and_then(|(remote, _)| Scope::of(remote));
    let mut better = stated(
        peer,
        entry.stated().to_vec(),
        within.unwrap_or(Scope::World),
    );
    better.retain(|address| entry.is_outdone_by(address));
    better
}

/// As many as are dialled at once, others each time.
fn some_of(mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    addresses.shuffle(&mut rand::rng());
    addresses.truncate(MAX_ADDRESSES);
    addresses
}
