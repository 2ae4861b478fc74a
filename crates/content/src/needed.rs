//! What must not be collected: counts of those who need an object, be it a pin or a running operation.

use std::collections::HashMap;

use worldcompute_proof::Cid;

use crate::room::lock;
use crate::store::ContentStore;

/// How many need each object.
#[derive(Default)]
pub struct Needed {
    counts: HashMap<Cid, usize>,
    /// How often an object came to be needed by nobody.
    given_up: u64,
}

impl Needed {
    pub fn add(&mut self, cid: &Cid) {
        *self.counts.entry(*cid).or_default() += 1;
    }

    pub fn remove(&mut self, cid: &Cid) {
        if let Some(count) = self.counts.get_mut(cid) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(cid);
                self.given_up += 1;
            }
        }
    }

    pub fn contains(&self, cid: &Cid) -> bool {
        self.counts.contains_key(cid)
    }

    /// Changes whenever there may be something new to collect.
    pub const fn given_up(&self) -> u64 {
        self.given_up
    }
}

/// Keeps an object from being collected for as long as this lives. It says nothing of the object being there: hold it
/// first, then put it, or look for it.
pub struct Held {
    store: ContentStore,
    cid: Cid,
}

impl Held {
    /// The object's name.
    pub const fn cid(&self) -> &Cid {
        &self.cid
    }

    pub(crate) const fn store(&self) -> &ContentStore {
        &self.store
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.store.inner.needed).remove(&self.cid);
    }
}

impl ContentStore {
    /// Keeps the object of this name, which may be there or come later, from being collected.
    pub fn hold(&self, cid: &Cid) -> Held {
        lock(&self.inner.needed).add(cid);
        Held {
            store: self.clone(),
            cid: *cid,
        }
    }
}
