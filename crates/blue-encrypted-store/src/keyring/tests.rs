//! Who has read a data key does not unwrap it again, and is not fooled or left behind for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Barrier, Semaphore};
use worldcompute_fault::{Category, Fault};

use crate::attacks::changed;
use crate::commits::puts;
use crate::keys::{DekContext, KekContext, KeyError};
use crate::lab::{Lab, Meddling, partition, put};
use crate::{Batch, KeyLifetime, Partition, PartitionVersion, Store, StoreConfig, StorePath};

const PK: &str = "job#j1";

/// Counts what is unwrapped, and gives no keys once it is told so.
#[derive(Default)]
struct Counting {
    unwrapped: AtomicUsize,
    refuses: AtomicUsize,
}

impl Counting {
    fn unwrapped(&self) -> usize {
        self.unwrapped.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Meddling for Counting {
    async fn deriving(&self, context: &KekContext) -> Result<KekContext, KeyError> {
        match self.refuses.load(Ordering::SeqCst) {
            0 => Ok(context.clone()),
            _ => Err(Fault::new(Category::PolicyBlocked, "refused", "no").into()),
        }
    }

    async fn unwrapping(&self, _context: &DekContext) -> Result<(), KeyError> {
        self.unwrapped.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

struct Scene {
    lab: Lab,
    keys: Arc<Counting>,
    store: Store,
    partition: Partition,
}

/// A store with one record in a partition that was loaded once.
async fn scene(lifetime: KeyLifetime) -> Scene {
    let (lab, keys) = (Lab::new(), Arc::new(Counting::default()));
    put(&partition(&lab.store().await, "j1"), &[("t1", "x")]).await;
    let config = StoreConfig::new(StorePath::Memory).key_lifetime(lifetime);
    let store = lab.try_store_with(config, keys.clone()).await.unwrap();
    let partition = partition(&store, "j1");
    partition.load().await.unwrap().unwrap();
    assert_eq!(keys.unwrapped(), 1);
    Scene {
        lab,
        keys,
        store,
        partition,
    }
}

#[tokio::test]
async fn a_data_key_is_not_unwrapped_again_while_its_row_is_the_same() {
    let scene = scene(KeyLifetime::default()).await;
    for _ in 0..3 {
        scene.partition.load().await.unwrap().unwrap();
    }
    assert_eq!(scene.keys.unwrapped(), 1);
    scene.store.rotate_kek().await.unwrap();
    put(&scene.partition, &[("t1", "y")]).await;
    let before = scene.keys.unwrapped();
    scene.partition.load().await.unwrap().unwrap();
    assert_eq!(scene.keys.unwrapped(), before, "known from its new row");
    drop(scene.partition);
    let other = partition(&scene.store, "j1");
    other.load().await.unwrap().unwrap();
    assert_eq!(
        scene.keys.unwrapped(),
        before + 1,
        "forgotten with the last handle"
    );
}

#[tokio::test]
async fn a_data_key_that_is_too_old_or_used_up_is_unwrapped_again() {
    let lifetime = KeyLifetime::default();
    let old = KeyLifetime {
        max_age: Duration::ZERO,
        ..lifetime
    };
    let used_up = KeyLifetime {
        max_uses: 2,
        ..lifetime
    };
    for (lifetime, unwrapped) in [(old, [2, 3, 4]), (used_up, [1, 2, 2])] {
        let scene = scene(lifetime).await;
        for expected in unwrapped {
            scene.partition.load().await.unwrap().unwrap();
            assert_eq!(scene.keys.unwrapped(), expected, "{lifetime:?}");
        }
    }
}

#[tokio::test]
async fn a_known_data_key_opens_nothing_once_the_key_that_wraps_it_is_refused() {
    let scene = scene(KeyLifetime {
        max_uses: 6,
        ..KeyLifetime::default()
    })
    .await;
    scene.keys.refuses.store(1, Ordering::SeqCst);
    let at = scene.partition.load().await.unwrap().unwrap().version();
    // Commits use up the key-encryption key, not the data key.
    let mut commits = 0;
    while scene.partition.commit(Batch::new(), at).await.is_ok() {
        commits += 1;
        assert!(commits < 6, "the key outlives its uses");
    }
    let fault = scene.partition.load().await.unwrap_err();
    assert_eq!(fault.code(), "refused");
}

#[tokio::test]
async fn who_knows_a_data_key_still_refuses_every_changed_byte_of_its_row() {
    let scene = scene(KeyLifetime::default()).await;
    let stored = scene.lab.rows(PK)["dek#0001"].clone();
    let mut tried = 0;
    for (name, value) in &stored {
        for other in changed(value) {
            let mut row = stored.clone();
            row.insert(name.clone(), other);
            if ["pk", "sk"].contains(&name.as_str()) {
                continue;
            }
            scene.lab.put(&row);
            let fault = scene.partition.load().await.unwrap_err();
            assert_eq!(fault.category(), Category::VerificationFailed, "{name}");
            scene.lab.put(&stored);
            // A load that fails leaves nothing that is known.
            scene.partition.load().await.unwrap().unwrap();
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
}

/// Has those who unwrap a data key wait for each other.
struct Meeting(Barrier);

#[async_trait]
impl Meddling for Meeting {
    async fn unwrapping(&self, _context: &DekContext) -> Result<(), KeyError> {
        self.0.wait().await;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_load_a_partition_at_once_read_it_side_by_side() {
    let lab = Lab::new();
    put(&partition(&lab.store().await, "j1"), &[("t1", "x")]).await;
    let (config, keys) = (
        StoreConfig::new(StorePath::Memory),
        Arc::new(Meeting(Barrier::new(3))),
    );
    let store = lab.try_store_with(config, keys).await.unwrap();
    let handle = partition(&store, "j1");
    let loads = async { tokio::join!(handle.load(), handle.load(), handle.load()) };
    let (one, two, three) = tokio::time::timeout(Duration::from_secs(60), loads)
        .await
        .expect("nobody waits for another's load");
    for found in [one, two, three] {
        assert_eq!(found.unwrap().unwrap().len(), 1);
    }
}

/// Keeps the first who unwraps a data key until it is let go.
struct Kept {
    unwrapped: AtomicUsize,
    go: Semaphore,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            unwrapped: AtomicUsize::new(0),
            go: Semaphore::new(0),
        }
    }
}

#[async_trait]
impl Meddling for Kept {
    async fn unwrapping(&self, _context: &DekContext) -> Result<(), KeyError> {
        if self.unwrapped.fetch_add(1, Ordering::SeqCst) == 0 {
            self.go.acquire().await.unwrap().forget();
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_load_that_ends_after_a_commit_does_not_take_the_handle_back() {
    let lab = Lab::new();
    let at = put(&partition(&lab.store().await, "j1"), &[("t0000", "x")]).await;
    let (config, keys) = (
        StoreConfig::new(StorePath::Memory),
        Arc::new(Kept::default()),
    );
    let store = lab.try_store_with(config, keys.clone()).await.unwrap();
    let handle = partition(&store, "j1");
    let late = tokio::spawn({
        let handle = handle.clone();
        async move { handle.load().await.unwrap().unwrap().version() }
    });
    while keys.unwrapped.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let at = handle.commit(puts(0..1, "y"), at).await.unwrap();
    keys.go.add_permits(1);
    assert_eq!(
        late.await.unwrap().get() + 1,
        at.get(),
        "as it was when it was read"
    );
    let before = keys.unwrapped.load(Ordering::SeqCst);
    handle.commit(puts(0..1, "z"), at).await.unwrap();
    let after = keys.unwrapped.load(Ordering::SeqCst);
    assert_eq!(after, before, "nothing had to be read again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_a_partition_all_the_time_can_read_it_though_it_comes_in_many_pages() {
    let lab = Lab::new();
    let store = lab.store().await;
    let handle = partition(&store, "j1");
    let large = "x".repeat(300_000);
    let nothing = PartitionVersion::NONE;
    let mut at = handle.commit(puts(0..12, &large), nothing).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (handle, done) = (handle.clone(), done.clone());
        async move {
            while !done.load(Ordering::SeqCst) {
                // On the last page; the root is on the first.
                at = handle.commit(puts(11..12, "y"), at).await.unwrap();
            }
        }
    });
    for _ in 0..3 {
        assert_eq!(handle.load().await.unwrap().unwrap().len(), 12);
    }
    done.store(true, Ordering::SeqCst);
    writer.await.unwrap();
}
