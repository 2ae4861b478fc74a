//! Bytes that a client has put into the content store, for a job that it has yet to submit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use worldcompute_content::Held;
use worldcompute_proof::Cid;

/// For how long what was added stays, whether or not a job has named it by then. After that it is as good as anything else
/// that nobody needs: there until room is needed.
pub const GRACE: Duration = Duration::from_secs(3_600);

/// The most objects that stay for that reason; the oldest give way.
pub const MAX_ADDED: usize = 16_384;

/// How often it is looked whose time is over.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What was added lately.
#[derive(Default)]
pub struct Added(Mutex<HashMap<Cid, (Instant, Held)>>);

impl Added {
    /// Keeps an object for a while; from the start, where it was added before.
    pub fn spare(&self, held: Held, now: Instant) {
        let mut added = self.added();
        added.insert(*held.cid(), (now, held));
        if added.len() > MAX_ADDED {
            let oldest = added.iter().min_by_key(|(_, (at, _))| *at);
            if let Some(oldest) = oldest.map(|(cid, _)| *cid) {
                added.remove(&oldest);
            }
        }
    }

    /// Lets go of what has had its time.
    pub fn sweep(&self, now: Instant) {
        self.added()
            .retain(|_, (at, _)| now.saturating_duration_since(*at) < GRACE);
    }

    fn added(&self) -> MutexGuard<'_, HashMap<Cid, (Instant, Held)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does so until `stop`.
pub async fn keep_sweeping(added: Arc<Added>, stop: CancellationToken) {
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = sweep.tick() => added.sweep(Instant::now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldcompute_content::{Collect, ContentStore, Limits};

    fn store() -> (tempfile::TempDir, ContentStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path().join("content"), Limits::default()).unwrap();
        (dir, store)
    }

    #[test]
    fn what_was_added_stays_for_an_hour_and_from_the_start_when_it_is_added_again() {
        let (_dir, store) = store();
        let (added, start) = (Added::default(), Instant::now());
        let cids = [b"once", b"more"].map(|bytes| store.put(bytes).unwrap());
        let left = |now: Duration| {
            added.sweep(start + now);
            store.collect(Collect::All).unwrap();
            cids.map(|cid| store.has(&cid).unwrap())
        };
        for cid in &cids {
            added.spare(store.hold(cid), start);
        }
        let minute = Duration::from_secs(60);
        added.spare(store.hold(&cids[1]), start + minute);
        assert_eq!(left(GRACE - Duration::from_millis(1)), [true, true]);
        assert_eq!(left(GRACE), [false, true]);
        assert_eq!(left(GRACE + minute), [false, false]);
    }

    #[test]
    fn so_many_objects_stay_and_the_oldest_give_way() {
        let (_dir, store) = store();
        let (added, start) = (Added::default(), Instant::now());
        let oldest = store.put(b"oldest").unwrap();
        added.spare(store.hold(&oldest), start);
        for number in 1..MAX_ADDED {
            let cid = Cid::raw(number.to_be_bytes());
            added.spare(store.hold(&cid), start + Duration::from_millis(1));
        }
        store.collect(Collect::All).unwrap();
        assert!(store.has(&oldest).unwrap());
        let one_more = store.hold(&Cid::raw(b"one more"));
        added.spare(one_more, start + Duration::from_millis(2));
        store.collect(Collect::All).unwrap();
        assert!(!store.has(&oldest).unwrap());
        assert_eq!(added.added().len(), MAX_ADDED);
    }
}
