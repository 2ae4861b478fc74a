//! How many circuits a network may have through this relay: who has many identities would else take every one there is, and with
//! them every place at the node that they lead to, which cannot see where they come from.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use crate::network::Network;

/// A circuit that was asked for stands by then, or never will: libp2p drops some without a word.
const BEGINNING: Duration = Duration::from_secs(60);

/// The circuits under way, by who asked for them. Clones are the same.
#[derive(Clone)]
pub(crate) struct Circuits(Arc<Mutex<Counted>>);

struct Counted {
    most_of_network: usize,
    admitted: u64,
    of_peers: HashMap<PeerId, Of>,
}

struct Of {
    network: Option<Network>,
    /// When those were asked for that do not stand yet.
    asked: VecDeque<Instant>,
    standing: usize,
}

impl Of {
    const fn nothing() -> Self {
        Self {
            network: None,
            asked: VecDeque::new(),
            standing: 0,
        }
    }

    fn count(&self) -> usize {
        self.asked.len() + self.standing
    }
}

impl Circuits {
    pub(crate) fn new(most_of_network: usize) -> Self {
        Self(Arc::new(Mutex::new(Counted {
            most_of_network,
            admitted: 0,
            of_peers: HashMap::new(),
        })))
    }

    /// Whether a peer that asks from this address gets one more; it counts until it came to nothing or has ended.
    pub(crate) fn admits(&self, peer: PeerId, from: &Multiaddr, now: Instant) -> bool {
        let (mut counted, network) = (self.counted(), Network::of(from));
        counted.forget_vanished(now);
        let neighbours = counted.of_peers.values().filter(|of| of.network == network);
        let count: usize = neighbours.map(Of::count).sum();
        if count >= counted.most_of_network {
            return false;
        }
        let of = counted.of_peers.entry(peer).or_insert_with(Of::nothing);
        if of.count() == 0 {
            of.network = network;
        }
        of.asked.push_back(now);
        counted.admitted += 1;
        true
    }

    /// How many were ever admitted.
    pub(crate) fn admitted(&self) -> u64 {
        self.counted().admitted
    }

    /// One that was asked for stands.
    pub(crate) fn stands(&self, peer: &PeerId) {
        self.change(peer, |of| {
            of.asked.pop_front();
            of.standing += 1;
        });
    }

    /// One that was asked for came to nothing.
    pub(crate) fn failed(&self, peer: &PeerId) {
        self.change(peer, |of| {
            of.asked.pop_front();
        });
    }

    /// One that stood has ended.
    pub(crate) fn ended(&self, peer: &PeerId) {
        self.change(peer, |of| of.standing = of.standing.saturating_sub(1));
    }

    /// The peer has gone, and all of its circuits with it. It is remembered until then: a circuit that came to nothing by all
    /// appearances may stand yet.
    pub(crate) fn left(&self, peer: &PeerId) {
        self.counted().of_peers.remove(peer);
    }

    fn change(&self, peer: &PeerId, how: impl FnOnce(&mut Of)) {
        let mut counted = self.counted();
        if let Some(of) = counted.of_peers.get_mut(peer) {
            how(of);
        }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn forget_vanished(&mut self, now: Instant) {
        for of in self.of_peers.values_mut() {
            of.asked
                .retain(|asked| now.saturating_duration_since(*asked) < BEGINNING);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(network: u8) -> Multiaddr {
        format!("/ip4/20.0.{network}.7/tcp/1").parse().unwrap()
    }

    #[test]
    fn one_network_takes_its_share_whoever_asks_and_leaves_the_rest_to_others() {
        let (circuits, now) = (Circuits::new(4), Instant::now());
        let admitted = |network| {
            let peers = (0..10).map(|_| PeerId::random());
            let asked = peers.filter(|peer| circuits.admits(*peer, &at(network), now));
            asked.count()
        };
        assert_eq!([admitted(1), admitted(2)], [4, 4]);
    }

    #[test]
    fn a_circuit_that_ends_or_fails_makes_room_and_so_does_a_peer_that_goes() {
        let (circuits, now) = (Circuits::new(3), Instant::now());
        let [one, other] = [PeerId::random(), PeerId::random()];
        assert!((0..3).all(|_| circuits.admits(one, &at(1), now)));
        circuits.stands(&one);
        assert!(!circuits.admits(other, &at(1), now));
        circuits.ended(&one);
        assert!(circuits.admits(other, &at(1), now));
        circuits.failed(&one);
        assert!(circuits.admits(other, &at(1), now));
        assert!(!circuits.admits(other, &at(1), now));
        circuits.left(&other);
        assert!((0..2).all(|_| circuits.admits(one, &at(1), now)));
        assert!(!circuits.admits(one, &at(1), now));
    }

    #[test]
    fn one_that_stands_counts_whatever_was_thought_of_it_before() {
        let (circuits, start) = (Circuits::new(1), Instant::now());
        let [one, other] = [PeerId::random(), PeerId::random()];
        assert!(circuits.admits(one, &at(1), start));
        circuits.failed(&one);
        circuits.stands(&one);
        assert!(!circuits.admits(other, &at(1), start + BEGINNING));
        circuits.left(&one);
        assert!(circuits.counted().of_peers.is_empty());
    }

    #[test]
    fn one_that_is_never_heard_of_again_counts_for_a_minute_and_one_that_stands_for_ever() {
        let (circuits, start) = (Circuits::new(2), Instant::now());
        let peer = PeerId::random();
        assert!((0..2).all(|_| circuits.admits(peer, &at(1), start)));
        circuits.stands(&peer);
        let later = start + BEGINNING;
        assert!(!circuits.admits(peer, &at(1), later - Duration::from_millis(1)));
        assert!(circuits.admits(peer, &at(1), later));
        assert!(!circuits.admits(peer, &at(1), later));
    }
}
