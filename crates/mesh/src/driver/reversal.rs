//! Out of a circuit: a peer that says where everybody can dial it is dialled there, by whichever side of the circuit can.
//!
//! A hole cannot be punched through every firewall, but who sits behind one can still dial (connection reversal, in the
//! specification of DCUtR). Anybody may open a circuit and name a victim, so these dials are few.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::swarm::dial_opts::PeerCondition;
use libp2p::{Multiaddr, PeerId};

use super::Driver;
use crate::allowance::Allowance;
use crate::hearsay::stated;
use crate::network::Scope;

/// Such dials together: so many at once, then one at each interval.
const DIALS: f64 = 8.0;
const DIALS_PAUSE: Duration = Duration::from_secs(5);
/// The pause before one peer is dialled so again.
const PEER_PAUSE: Duration = Duration::from_secs(60);
/// Addresses of one such dial.
pub(super) const MAX_ADDRESSES: usize = 4;

/// The dials that may be made yet.
pub(super) struct Reversals {
    all: Allowance,
    lately: HashMap<PeerId, Instant>,
}

impl Reversals {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            all: Allowance::new(DIALS, DIALS_PAUSE, now),
            lately: HashMap::new(),
        }
    }

    fn may_dial(&mut self, peer: PeerId, now: Instant) -> bool {
        self.lately
            .retain(|_, at| now.saturating_duration_since(*at) < PEER_PAUSE);
        let may = !self.lately.contains_key(&peer) && self.all.take(1, now);
        if may {
            self.lately.insert(peer, now);
        }
        may
    }
}

impl Driver {
    /// A peer said where it is. If nothing but a circuit leads to it, it is dialled there.
    pub(super) fn dial_out_of_circuit(&mut self, peer: PeerId) {
        let mut addresses = self.out_of_circuit(&peer);
        addresses.truncate(MAX_ADDRESSES);
        let now = Instant::now();
        if addresses.is_empty() || self.is_dialling(&peer) || !self.reversals.may_dial(peer, now) {
            return;
        }
        if let Some(left_out) = self.peer_lines.next(now) {
            tracing::info!(%peer, ?addresses, left_out, "dialling out of a circuit");
        }
        self.dial_now(peer, addresses, PeerCondition::Always, Vec::new());
    }

    /// Where a peer says that it is, if nothing but a circuit leads to it: addresses that mean as much as that of the
    /// circuit's relay.
    pub(super) fn out_of_circuit(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let entry = self.book.get(peer);
        let within = entry.and_then(|entry| Some((entry, entry.circuit_scope()?)));
        let usable = within
            .map(|(entry, within)| stated(peer, entry.stated().to_vec(), within.max(Scope::Site)));
        usable.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_opens_circuits_without_end_has_few_dials_made() {
        let start = Instant::now();
        let mut reversals = Reversals::new(start);
        let second = |second| start + Duration::from_secs(second);
        let strangers =
            (0..100).filter(|second_| reversals.may_dial(PeerId::random(), second(*second_)));
        assert!((20..=8 + 20).contains(&strangers.count()));
        assert!(reversals.lately.len() <= 20, "{}", reversals.lately.len());
        let peer = PeerId::random();
        let mut reversals = Reversals::new(start);
        let again = (0..120).filter(|second_| reversals.may_dial(peer, second(*second_)));
        assert_eq!(again.count(), 2);
    }
}
