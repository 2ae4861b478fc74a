//! Fetches of what tasks need, which are a stranger's to draw out: none of them holds a slot, no peer has more of them than
//! tasks could run, and those of one peer follow each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::PeerId;

/// How many times as many tasks may wait for their bytes as may run, all peers together.
const SHARE: usize = 4;

/// The tasks that wait for bytes.
pub struct Fetches {
    of_peers: Mutex<HashMap<PeerId, Peer>>,
    per_peer: usize,
    in_all: Arc<Semaphore>,
}

#[derive(Clone)]
struct Peer {
    places: Arc<Semaphore>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// One task's leave to fetch. Dropped, it is another's.
pub struct Place {
    turn: Arc<tokio::sync::Mutex<()>>,
    _of_peer: OwnedSemaphorePermit,
    _in_all: OwnedSemaphorePermit,
}

impl Place {
    /// Waits until no other task of the same peer fetches. What that one fetched may be what this one needs.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

impl Fetches {
    /// For a donor of so many slots.
    pub fn new(slots: usize) -> Self {
        Self {
            of_peers: Mutex::default(),
            per_peer: slots,
            in_all: Arc::new(Semaphore::new(slots.saturating_mul(SHARE))),
        }
    }

    /// Lets one more task of a peer fetch.
    ///
    /// # Errors
    /// `too_many_fetches`, which passes.
    pub fn enter(&self, peer: &PeerId) -> Result<Place> {
        let Peer { places, turn } = self.peer(peer);
        let of_peer = places.try_acquire_owned().map_err(|_| too_many())?;
        let in_all = self.in_all.clone().try_acquire_owned();
        Ok(Place {
            turn,
            _of_peer: of_peer,
            _in_all: in_all.map_err(|_| too_many())?,
        })
    }

    /// How many tasks wait for their bytes.
    #[cfg(test)]
    pub fn under_way(&self) -> usize {
        self.per_peer * SHARE - self.in_all.available_permits()
    }

    /// Those that nobody fetches from are forgotten.
    fn peer(&self, peer: &PeerId) -> Peer {
        let mut peers = self.peers();
        peers.retain(|_, peer| peer.places.available_permits() < self.per_peer);
        let new = || Peer {
            places: Arc::new(Semaphore::new(self.per_peer)),
            turn: Arc::default(),
        };
        peers.entry(*peer).or_insert_with(new).clone()
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<PeerId, Peer>> {
        self.of_peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_many() -> Fault {
    Fault::new(
        Category::StateContention,
        "too_many_fetches",
        "too many tasks wait here for their bytes",
    )
    .hint("ask again once they have arrived, or ask another donor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldcompute_proof::SigningKey;

    fn peer(number: u8) -> PeerId {
        SigningKey::from_seed([number; 32]).peer_id()
    }

    #[test]
    fn no_peer_has_more_places_than_slots_nor_all_of_them_more_than_their_share() {
        let slots = 2;
        let fetches = Fetches::new(slots);
        let mut places: Vec<_> = (0..slots)
            .map(|_| fetches.enter(&peer(0)).unwrap())
            .collect();
        let fault = fetches.enter(&peer(0)).err().unwrap();
        assert_eq!(fault.code(), "too_many_fetches");
        assert!(fault.retryable());
        let others = (1..).take(SHARE - 1).flat_map(|number| [number; 2]);
        places.extend(others.map(|number| fetches.enter(&peer(number)).unwrap()));
        assert!(fetches.enter(&peer(99)).is_err());
        places.pop();
        fetches.enter(&peer(99)).unwrap();
        assert!(fetches.enter(&peer(0)).is_err());
        places.clear();
        fetches.enter(&peer(0)).unwrap();
        assert_eq!(fetches.peers().len(), 1, "idle peers are forgotten");
    }
}
