//! Better ways to peers that stay connected: a network may begin to let through what it did not when they met.
//!
//! Whom nothing but a circuit leads to is dialled where it says that it is, and the circuit is made anew, for holes are
//! punched when one begins (DCUtR) and at the addresses that are known then. A connection that this node dialled gives way
//! to one of a better kind. Relays are seen to by [`crate::relays`].

use std::collections::HashSet;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::swarm::dial_opts::PeerCondition;

use super::Driver;
use super::pacing::Pacing;
use crate::book::Entry;
use crate::config::MAX_UPGRADE_PAUSE;
use crate::hearsay::stated;
use crate::network::Scope;
use crate::status::Path;

/// How often it is looked who could be better connected.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Peers that are tried at one look.
const AT_ONCE: usize = 4;
/// Addresses of one such dial.
const MAX_ADDRESSES: usize = 4;

/// When a better way to each peer is tried.
pub(super) struct Upgrades {
    looked: Instant,
    trials: Pacing,
}

impl Upgrades {
    pub(super) fn new(after: Duration, now: Instant) -> Self {
        Self {
            looked: now,
            trials: Pacing::new(after, after, after * MAX_UPGRADE_PAUSE),
        }
    }

    /// This node's own network lets through what it did not.
    pub(super) fn begin_anew(&mut self) {
        self.trials.begin_anew();
    }
}

impl Driver {
    pub(super) fn tend_upgrades(&mut self, now: Instant) {
        // Whom others come to has no hole to punch, and is dialled by them.
        if self.hub || now.saturating_duration_since(self.upgrades.looked) < LOOK_INTERVAL {
            return;
        }
        self.upgrades.looked = now;
        let poor = self.poorly_connected();
        for peer in self.upgrades.trials.due(&poor, AT_ONCE, now) {
            self.try_better(peer);
        }
    }

    /// Members that could be better connected, for all that is known.
    fn poorly_connected(&self) -> HashSet<PeerId> {
        let poor = self.book.iter().filter(|(peer, entry)| {
            entry.member && entry.could_be_better() && !self.relays.contains(peer)
        });
        poor.map(|(peer, _)| *peer).collect()
    }

    fn try_better(&mut self, peer: PeerId) {
        let Some(entry) = self.book.get(&peer) else {
            return;
        };
        let known = entry.addresses();
        match entry.path() {
            Some(Path::Relayed) => {
                self.dial_out_of_circuit(peer, known);
                self.renew_circuit(peer);
            }
            Some(Path::Direct) => {
                let within = entry.remote().and_then(|(remote, _)| Scope::of(remote));
                let mut better = stated(&peer, known, within.unwrap_or(Scope::World));
                better.retain(|address| entry.is_outdone_by(address));
                better.truncate(MAX_ADDRESSES);
                if !better.is_empty() && self.reversals.may_dial(peer, Instant::now()) {
                    self.upgrade(peer, better);
                }
            }
            Some(Path::HolePunched) | None => {}
        }
    }

    /// Dials a circuit beside the one that this node dialled, which is then closed. Not where this node takes no part in
    /// punching holes.
    fn renew_circuit(&mut self, peer: PeerId) {
        let entry = self.book.get(&peer);
        let circuit = entry.and_then(Entry::renewable_circuit).cloned();
        let Some(circuit) = circuit.filter(|_| self.swarm.behaviour().dcutr.is_enabled()) else {
            return;
        };
        tracing::debug!(%peer, %circuit, "a circuit is made anew, for a hole to be punched");
        self.dial_now(peer, vec![circuit], PeerCondition::Always, Vec::new());
    }
}
