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
/// Addresses of one such dial.
const MAX_ADDRESSES: usize = 4;

/// The dials that may be made yet.
pub(super) struct Reversals {
    all: Allowance,
    /// Before one peer is dialled so again.
    pause: Duration,
    lately: HashMap<PeerId, Instant>,
}

impl Reversals {
    pub(super) fn new(pause: Duration, now: Instant) -> Self {
        Self {
            all: Allowance::new(DIALS, DIALS_PAUSE, now),
            pause,
            lately: HashMap::new(),
        }
    }

    pub(super) fn may_dial(&mut self, peer: PeerId, now: Instant) -> bool {
        self.lately
            .retain(|_, at| now.saturating_duration_since(*at) < self.pause);
        let may = !self.lately.contains_key(&peer) && self.all.take(1, now);
        if may {
            self.lately.insert(peer, now);
        }
        may
    }
}

impl Driver {
    /// A peer said where it is. If nothing but a circuit leads to it, it is dialled there, at addresses that mean as much as
    /// that of the circuit's relay.
    pub(super) fn dial_out_of_circuit(&mut self, peer: PeerId, listen: Vec<Multiaddr>) {
        let within = self.book.get(&peer).and_then(|entry| entry.circuit_scope());
        let Some(within) = within.filter(|_| !self.is_dialling(&peer)) else {
            return;
        };
        let mut addresses = stated(&peer, listen, within.max(Scope::Site));
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() || !self.reversals.may_dial(peer, Instant::now()) {
            return;
        }
        tracing::info!(%peer, ?addresses, "dialling out of a circuit");
        self.dial_now(peer, addresses, PeerCondition::Always, Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_opens_circuits_without_end_has_few_dials_made() {
        let start = Instant::now();
        let anew = || Reversals::new(Duration::from_secs(60), start);
        let mut reversals = anew();
        let second = |second| start + Duration::from_secs(second);
        let strangers =
            (0..100).filter(|second_| reversals.may_dial(PeerId::random(), second(*second_)));
        assert!((20..=8 + 20).contains(&strangers.count()));
        assert!(reversals.lately.len() <= 20, "{}", reversals.lately.len());
        let peer = PeerId::random();
        let mut reversals = anew();
        let again = (0..120).filter(|second_| reversals.may_dial(peer, second(*second_)));
        assert_eq!(again.count(), 2);
    }
}
