//! Garbage collection: what nobody needs goes, what was not used for longest first.

use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use worldcompute_fault::Result;
use worldcompute_proof::Cid;

use crate::disk::Kept;
use crate::room::lock;
use crate::store::ContentStore;

/// How many objects are looked up at once, so that memory does not depend on how many there are: 2 MiB.
const BATCH: usize = 16_384;

/// How far to go. What is pinned or held always stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collect {
    /// Everything.
    All,
    /// Until at most that many bytes are kept: first corrupt copies, then what was not used for longest.
    DownTo(u64),
    /// What was not used for that long.
    Unused(Duration),
}

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Files: objects and corrupt copies.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Collected {
    /// Counts a file of so many bytes, if one was removed.
    fn count(&mut self, freed: Option<u64>) {
        self.objects += u64::from(freed.is_some());
        self.bytes += freed.unwrap_or(0);
    }
}

impl ContentStore {
    /// Removes objects that are neither pinned nor held, and corrupt copies.
    ///
    /// # Errors
    /// What the disk says; what was removed by then is gone.
    pub fn collect(&self, what: Collect) -> Result<Collected> {
        Ok(self.collect_if_any(what)?.0)
    }

    /// Removes those of these objects that are neither pinned nor held. What is not there is passed over.
    ///
    /// # Errors
    /// What the disk says; what was removed by then is gone.
    pub fn remove_unneeded(&self, objects: impl IntoIterator<Item = Cid>) -> Result<Collected> {
        let _alone = lock(&self.inner.collecting);
        let mut removed = Collected::default();
        for cid in objects {
            if let Some(kept) = self.inner.layout.kept(&cid)? {
                removed.count(self.remove_if_still_unneeded(&kept)?);
            }
        }
        Ok(removed)
    }

    /// As [`Self::collect`], and whether nothing is left to remove, although that was not far enough.
    pub(crate) fn collect_if_any(&self, what: Collect) -> Result<(Collected, bool)> {
        let _alone = lock(&self.inner.collecting);
        let mut collected = Collected::default();
        loop {
            let before = collected;
            for unneeded in self.oldest_unneeded(what)? {
                if self.is_enough(what) {
                    return Ok((collected, false));
                }
                collected.count(self.remove_if_still_unneeded(&unneeded)?);
            }
            if collected == before {
                return Ok((collected, !self.is_enough(what)));
            }
        }
    }

    /// From now on the store makes room by itself when it is full, as by [`Collect::DownTo`]. Whoever shares the store
    /// has to pin or hold what is needed.
    pub fn collect_when_full(&self) {
        self.inner.collects.store(true, Ordering::Relaxed);
    }

    fn is_enough(&self, what: Collect) -> bool {
        matches!(what, Collect::DownTo(bytes) if self.used() <= bytes)
    }

    /// What may go, the first to go first, as far as it fits into memory.
    fn oldest_unneeded(&self, what: Collect) -> Result<Vec<Kept>> {
        let now = SystemTime::now();
        let mut oldest = BinaryHeap::new();
        self.inner.layout.each_kept(&mut |kept: Kept| {
            let spared = match what {
                Collect::Unused(least) => now.duration_since(kept.used).unwrap_or_default() < least,
                Collect::All | Collect::DownTo(_) => false,
            };
            if spared || (kept.sound && lock(&self.inner.needed).contains(&kept.cid)) {
                return;
            }
            oldest.push(kept);
            if oldest.len() > BATCH {
                oldest.pop();
            }
        })?;
        Ok(oldest.into_sorted_vec())
    }

    /// Removes the file, and says how many bytes that gave; `None` when somebody came to need or use it meanwhile.
    fn remove_if_still_unneeded(&self, kept: &Kept) -> Result<Option<u64>> {
        // Who needs it from here on finds it gone.
        let needed = lock(&self.inner.needed);
        if kept.sound && needed.contains(&kept.cid) {
            return Ok(None);
        }
        let freed = self.inner.layout.remove_unused(kept)?;
        let mut used = lock(&self.inner.used);
        *used = used.saturating_sub(freed.unwrap_or(0));
        Ok(freed)
    }
}
