//! What was said about which intent, for more intents than one would want to hold as objects.

use std::collections::{HashMap, HashSet};

use worldcompute_proof::{Hasher, Sha256};

/// An intent id in 16 bytes that nobody can find a second id for.
type Key = [u8; 16];

fn key(id: &str) -> Key {
    let digest = Sha256::of(id);
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// A set of intent ids.
#[derive(Default)]
pub(super) struct Ids(HashSet<Key>);

impl Ids {
    /// False when it was there already.
    pub(super) fn insert(&mut self, id: &str) -> bool {
        self.0.insert(key(id))
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.0.contains(&key(id))
    }
}

/// A digest for each intent id: of all records noted under it, in their order.
#[derive(Default)]
pub(super) struct Digests(HashMap<Key, Key>);

impl Digests {
    pub(super) fn insert(&mut self, id: &str, content: &[u8]) {
        let before = self.0.get(&key(id));
        let mut hasher = Hasher::new();
        hasher.update([u8::from(before.is_some())]);
        hasher.update(before.map_or([].as_slice(), Key::as_slice));
        hasher.update(content);
        let digest = hasher.finish();
        let digest = digest.as_bytes().first_chunk().copied().unwrap_or_default();
        self.0.insert(key(id), digest);
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.0.contains_key(&key(id))
    }

    /// Whether both know the same ids with the same digests.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
