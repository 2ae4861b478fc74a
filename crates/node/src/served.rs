//! How much of which content each peer has fetched from here: what a donor has to show for a task while its bytes are on
//! their way.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use worldcompute_proof::{Cid, PeerId};

/// Most pairs of a peer and an object that are remembered; the one that moved longest ago makes room.
const MAX_PARTS: usize = 4096;

/// How far every peer has come with every object.
#[derive(Default)]
pub struct Served(Mutex<HashMap<(PeerId, Cid), Part>>);

struct Part {
    /// The end of what was given out.
    end: u64,
    at: Instant,
}

impl Served {
    /// A peer was given the bytes of an object up to `end`. The same bytes again count for nothing.
    pub fn note(&self, peer: PeerId, cid: Cid, end: u64) {
        let (at, mut parts) = (Instant::now(), self.parts());
        if parts.len() >= MAX_PARTS && !parts.contains_key(&(peer, cid)) {
            let oldest = parts.iter().min_by_key(|(_, part)| part.at);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                parts.remove(&oldest);
            }
        }
        let part = parts.entry((peer, cid)).or_insert(Part { end, at });
        part.end = part.end.max(end);
        part.at = at;
    }

    /// How many bytes of these objects a peer has fetched.
    pub fn to<'a>(&self, peer: PeerId, cids: impl Iterator<Item = &'a Cid>) -> u64 {
        let parts = self.parts();
        let ends = cids.filter_map(|cid| parts.get(&(peer, *cid)).map(|part| part.end));
        ends.fold(0, u64::saturating_add)
    }

    fn parts(&self) -> MutexGuard<'_, HashMap<(PeerId, Cid), Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldcompute_proof::SigningKey;

    #[test]
    fn what_is_fetched_again_counts_for_nothing_and_what_another_fetches_is_another_s() {
        let [peer, other] = [1, 2].map(|seed| SigningKey::from_seed([seed; 32]).peer_id());
        let [one, two] = [Cid::raw(b"one"), Cid::raw(b"two")];
        let served = Served::default();
        for end in [10, 20, 10, 20] {
            served.note(peer, one, end);
        }
        served.note(peer, two, 5);
        served.note(other, two, 7);
        assert_eq!(served.to(peer, [one, two].iter()), 25);
        assert_eq!(served.to(other, [one, two].iter()), 7);
    }

    #[test]
    fn so_many_are_remembered() {
        let peer = SigningKey::from_seed([1; 32]).peer_id();
        let served = Served::default();
        for number in 0..=MAX_PARTS {
            served.note(peer, Cid::raw(number.to_be_bytes()), 1);
        }
        assert_eq!(served.parts().len(), MAX_PARTS);
    }
}
