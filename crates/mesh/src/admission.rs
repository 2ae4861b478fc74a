//! Who may hold a reservation on this relay.
//!
//! libp2p counts a renewal like a reservation that is new, so a relay that is full would refuse to renew what it granted,
//! and lose those that it serves. Here whoever holds one may renew it, and only newcomers need room: for them all, and in the
//! share of their network.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use crate::allowance::Allowance;
use crate::config::RelayLimits;
use crate::network::Network;

/// Reservations that are new, of one network: so many at once, then one at each interval. It may be a whole company that
/// comes back after its uplink was down.
const NEWCOMERS: f64 = 1024.0;
const NEWCOMERS_PAUSE: Duration = Duration::from_millis(250);
/// Renewals of one peer. It needs one in a minute and a half.
const RENEWALS: f64 = 8.0;
const RENEWALS_PAUSE: Duration = Duration::from_secs(2);
/// Networks whose newcomers are counted. With more, those are forgotten that may have all again.
const MAX_NETWORKS: usize = 4096;

/// The reservations that are held. Clones are the same.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Mutex<Held>>);

struct Held {
    most: usize,
    most_of_network: usize,
    duration: Duration,
    holders: HashMap<PeerId, Holder>,
    newcomers: HashMap<Option<Network>, Allowance>,
}

struct Holder {
    network: Option<Network>,
    until: Instant,
    renewals: Allowance,
}

impl Admission {
    pub(crate) fn new(limits: &RelayLimits, duration: Duration) -> Self {
        Self(Arc::new(Mutex::new(Held {
            most: limits.reservations,
            most_of_network: limits.reservations_of_network,
            duration,
            holders: HashMap::new(),
            newcomers: HashMap::new(),
        })))
    }

    /// Whether a peer that asks from this address gets a reservation, or keeps the one that it has.
    pub(crate) fn admits(&self, peer: PeerId, from: &Multiaddr, now: Instant) -> bool {
        self.held().admits(peer, Network::of(from), now)
    }

    /// The peer holds none any more.
    pub(crate) fn left(&self, peer: &PeerId) {
        self.held().holders.remove(peer);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn admits(&mut self, peer: PeerId, network: Option<Network>, now: Instant) -> bool {
        let until = now + self.duration;
        if let Some(holder) = self.holders.get_mut(&peer).filter(|held| held.until > now) {
            let renewed = holder.renewals.take(1, now);
            if renewed {
                holder.until = until;
            }
            return renewed;
        }
        self.holders.retain(|_, holder| holder.until > now);
        let neighbours = self.holders.values();
        let neighbours = neighbours
            .filter(|holder| holder.network == network)
            .count();
        let has_room = self.holders.len() < self.most && neighbours < self.most_of_network;
        if !has_room || !self.may_come(&network, now) {
            return false;
        }
        let renewals = Allowance::new(RENEWALS, RENEWALS_PAUSE, now);
        self.holders.insert(
            peer,
            Holder {
                network,
                until,
                renewals,
            },
        );
        true
    }

    fn may_come(&mut self, network: &Option<Network>, now: Instant) -> bool {
        if self.newcomers.len() >= MAX_NETWORKS {
            self.newcomers
                .retain(|_, allowance| !allowance.is_full(now));
        }
        if self.newcomers.len() >= MAX_NETWORKS && !self.newcomers.contains_key(network) {
            return false;
        }
        let fresh = || Allowance::new(NEWCOMERS, NEWCOMERS_PAUSE, now);
        let allowance = self.newcomers.entry(network.clone()).or_insert_with(fresh);
        allowance.take(1, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(120);

    fn admission(reservations: usize, reservations_of_network: usize) -> Admission {
        let limits = RelayLimits {
            reservations,
            reservations_of_network,
            ..RelayLimits::default()
        };
        Admission::new(&limits, DURATION)
    }

    fn at(network: u32) -> Multiaddr {
        let ip = std::net::Ipv4Addr::from((20 << 24) + (network << 8) + 7);
        format!("/ip4/{ip}/tcp/1").parse().unwrap()
    }

    #[test]
    fn a_full_relay_renews_what_it_granted_and_takes_a_newcomer_when_one_leaves() {
        let (admission, start) = (admission(3, 3), Instant::now());
        let peers: Vec<PeerId> = (0..4).map(|_| PeerId::random()).collect();
        for peer in &peers[..3] {
            assert!(admission.admits(*peer, &at(1), start));
        }
        for round in 1..20 {
            let now = start + round * DURATION * 3 / 4;
            assert!(
                peers[..3]
                    .iter()
                    .all(|peer| admission.admits(*peer, &at(1), now))
            );
            assert!(!admission.admits(peers[3], &at(2), now));
        }
        let now = start + 20 * DURATION * 3 / 4;
        admission.left(&peers[0]);
        assert!(admission.admits(peers[3], &at(2), now));
        assert!(!admission.admits(peers[0], &at(1), now));
    }

    #[test]
    fn a_reservation_that_is_not_renewed_ends() {
        let (admission, start) = (admission(1, 1), Instant::now());
        assert!(admission.admits(PeerId::random(), &at(1), start));
        let next = PeerId::random();
        assert!(!admission.admits(next, &at(1), start + DURATION - Duration::from_millis(1)));
        assert!(admission.admits(next, &at(1), start + DURATION));
    }

    #[test]
    fn one_network_takes_its_share_and_leaves_the_rest_to_others() {
        let (admission, now) = (admission(10, 4), Instant::now());
        let admitted = |network: u32| {
            let asking = (0..10).map(|_| PeerId::random());
            asking
                .filter(|peer| admission.admits(*peer, &at(network), now))
                .count()
        };
        assert_eq!([admitted(1), admitted(2), admitted(3)], [4, 4, 2]);
    }

    #[test]
    fn who_comes_and_goes_without_end_is_taken_at_a_bounded_rate() {
        let (admission, start) = (admission(10_000, 10_000), Instant::now());
        let mut admitted = 0;
        for milli in 0..10_000_u32 {
            let peer = PeerId::random();
            let now = start + Duration::from_millis(milli.into());
            admitted += u32::from(admission.admits(peer, &at(1), now));
            admission.left(&peer);
        }
        assert!((1024..=1024 + 41).contains(&admitted), "{admitted}");
        let peer = PeerId::random();
        let renewals = (0..1000)
            .filter(|_| admission.admits(peer, &at(2), start))
            .count();
        assert_eq!(renewals, 9, "one that is new, and eight more");
    }

    #[test]
    fn the_networks_that_are_counted_are_bounded() {
        let (admission, start) = (admission(10, 10), Instant::now());
        for network in 0..2 * u32::try_from(MAX_NETWORKS).unwrap() {
            let peer = PeerId::random();
            admission.admits(peer, &at(network), start);
            admission.left(&peer);
        }
        assert_eq!(admission.held().newcomers.len(), MAX_NETWORKS);
        let later = start + NEWCOMERS_PAUSE;
        assert!(admission.admits(PeerId::random(), &at(1 << 20), later));
    }
}
