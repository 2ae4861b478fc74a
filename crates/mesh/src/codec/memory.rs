//! The memory that requests of others occupy, read or half read: bounded for all of them together, for those of a network,
//! and for those of a peer on all of its connections. Who fills its share has left room for others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use libp2p::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::network::Network;

/// Bytes accounted for at a time.
pub(crate) const STEP: usize = 16 * 1024;
/// What one peer may take.
pub(crate) const PEER_MEMORY: usize = 24 * 1024 * 1024;
/// Networks that can take all there is together.
const NETWORKS: usize = 2;

/// What there is for requests of one kind, in steps.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    all: Arc<Semaphore>,
    of_network: usize,
    of_peer: usize,
    shares: Arc<Mutex<HashMap<Holder, Weak<Semaphore>>>>,
}

/// From where one peer takes memory.
#[derive(Debug)]
pub(crate) struct Pools([Arc<Semaphore>; 3]);

/// Steps of all pools, given back on drop.
#[derive(Debug, Default)]
pub(crate) struct Permit([Option<OwnedSemaphorePermit>; 3]);

/// Who has a share.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Holder {
    Peer(PeerId),
    /// `None` for whoever comes from where nothing is known of.
    Network(Option<Network>),
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self::with_share(bytes, PEER_MEMORY)
    }

    pub(super) fn with_share(bytes: usize, of_peer: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(bytes / STEP)),
            of_network: bytes / STEP / NETWORKS,
            of_peer: of_peer / STEP,
            shares: Arc::default(),
        }
    }

    /// Those of a peer that is in this network, or behind a relay that is.
    pub(crate) fn pools(&self, peer: PeerId, network: Option<Network>) -> Pools {
        Pools([
            self.share(Holder::Peer(peer), self.of_peer),
            self.share(Holder::Network(network), self.of_network),
            self.all.clone(),
        ])
    }

    /// The share that a holder has already, on another connection, or a new one.
    fn share(&self, holder: Holder, steps: usize) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.retain(|_, share| share.strong_count() > 0);
        let known = shares.get(&holder).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let share = Arc::new(Semaphore::new(steps));
            shares.insert(holder, Arc::downgrade(&share));
            share
        })
    }
}

impl Permit {
    /// Takes one more step. False when there is none left, for this peer, its network or anybody.
    pub(super) fn grow(&mut self, pools: &Pools) -> bool {
        let mut both = self.0.iter_mut().zip(&pools.0);
        both.all(|(held, pool)| add(held, pool))
    }
}

fn add(held: &mut Option<OwnedSemaphorePermit>, from: &Arc<Semaphore>) -> bool {
    let Ok(step) = Arc::clone(from).try_acquire_owned() else {
        return false;
    };
    match held {
        Some(held) => held.merge(step),
        None => *held = Some(step),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 12;

    fn budget() -> Budget {
        Budget::with_share(ROOM * STEP, 2 * STEP)
    }

    fn network(number: u32) -> Option<Network> {
        Some(Network::V4(number << 8))
    }

    /// As many steps as there are, up to a limit that no share reaches.
    fn fill(pools: &Pools) -> (Permit, usize) {
        let mut permit = Permit::default();
        let steps = (0..100).take_while(|_| permit.grow(pools)).count();
        (permit, steps)
    }

    #[test]
    fn a_peer_has_one_share_on_all_of_its_connections() {
        let (budget, peer) = (budget(), PeerId::random());
        let first = budget.pools(peer, network(1));
        let second = budget.pools(peer, network(2));
        let (held, steps) = fill(&first);
        assert_eq!((steps, fill(&second).1), (2, 0));
        drop(held);
        assert_eq!(fill(&second).1, 2);
    }

    #[test]
    fn however_many_peers_a_network_has_it_leaves_half_to_others() {
        let budget = budget();
        let of = |number| budget.pools(PeerId::random(), network(number));
        let held: Vec<_> = (0..20).map(|_| fill(&of(1))).collect();
        assert_eq!(held.iter().map(|(_, steps)| steps).sum::<usize>(), ROOM / 2);
        assert_eq!(fill(&of(2)).1, 2);
        let unknown = budget.pools(PeerId::random(), None);
        assert_eq!(fill(&unknown).1, 2);
    }

    #[test]
    fn nobody_is_remembered_who_is_gone() {
        let budget = budget();
        for number in 0..100 {
            drop(budget.pools(PeerId::random(), network(number)));
        }
        let _kept = budget.pools(PeerId::random(), network(0));
        assert_eq!(budget.shares.lock().unwrap().len(), 2);
    }
}
