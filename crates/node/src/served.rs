//! How much of which content each peer has fetched from here: what a donor has to show for a task while its bytes are on
//! their way.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use worldcompute_proof::{Cid, PeerId};

/// Most pairs of a peer and an object that are remembered; the one that moved longest ago makes room.
const MAX_PARTS: usize = 4096;

/// Most pieces of one object that are remembered while others before them are missing; more than are asked for at a time.
const MAX_AHEAD: usize = 16;

/// How far every peer has come with every object.
#[derive(Default)]
pub struct Served(Mutex<HashMap<(PeerId, Cid), Part>>);

struct Part {
    /// Everything before this was given out.
    end: u64,
    /// Where pieces further on begin and end: chunks are asked for side by side.
    ahead: BTreeMap<u64, u64>,
    at: Instant,
}

impl Served {
    /// A peer was given these bytes of an object. The same bytes again count for nothing, and neither do some that leave
    /// out those before them.
    pub fn note(&self, peer: PeerId, cid: Cid, bytes: Range<u64>) {
        let (at, mut parts) = (Instant::now(), self.parts());
        if parts.len() >= MAX_PARTS && !parts.contains_key(&(peer, cid)) {
            let oldest = parts.iter().min_by_key(|(_, part)| part.at);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                parts.remove(&oldest);
            }
        }
        let part = parts.entry((peer, cid)).or_insert_with(|| Part {
            end: 0,
            ahead: BTreeMap::new(),
            at,
        });
        part.add(bytes);
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

impl Part {
    fn add(&mut self, bytes: Range<u64>) {
        if bytes.start <= self.end || self.ahead.len() < MAX_AHEAD {
            let end = self.ahead.entry(bytes.start).or_default();
            *end = bytes.end.max(*end);
        }
        while let Some(next) = self.ahead.first_entry()
            && *next.key() <= self.end
        {
            self.end = self.end.max(next.remove());
        }
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
        for bytes in [0..10, 10..20, 0..10, 10..20] {
            served.note(peer, one, bytes);
        }
        served.note(peer, two, 0..5);
        served.note(other, two, 0..7);
        assert_eq!(served.to(peer, [one, two].iter()), 25);
        assert_eq!(served.to(other, [one, two].iter()), 7);
    }

    #[test]
    fn chunks_count_in_any_order_but_only_without_a_gap() {
        let peer = SigningKey::from_seed([1; 32]).peer_id();
        let cid = Cid::raw(b"one");
        let served = Served::default();
        for (bytes, fetched) in [
            (20..30, 0),
            (90..90, 0),
            (0..10, 10),
            (5..5, 10),
            (10..20, 30),
            (50..60, 30),
            (30..50, 60),
        ] {
            served.note(peer, cid, bytes.clone());
            assert_eq!(served.to(peer, [cid].iter()), fetched, "{bytes:?}");
        }
        for at in (100..200).step_by(2) {
            served.note(peer, cid, at..at + 1);
        }
        assert_eq!(served.parts()[&(peer, cid)].ahead.len(), MAX_AHEAD);
    }

    #[test]
    fn so_many_are_remembered() {
        let peer = SigningKey::from_seed([1; 32]).peer_id();
        let served = Served::default();
        for number in 0..=MAX_PARTS {
            served.note(peer, Cid::raw(number.to_be_bytes()), 0..1);
        }
        assert_eq!(served.parts().len(), MAX_PARTS);
    }
}
