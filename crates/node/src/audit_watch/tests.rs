use std::path::{Path, PathBuf};

use blue_encrypted_store::{
    Batch, Entity, Kind, LocalFileKeyProvider, OnAuditBreak, PartitionVersion, StoreConfig,
    StorePath,
};

use super::*;

/// A record without any content.
struct Note(String);

impl Entity for Note {
    const TYPE: &'static str = "note";
    type Clear = ();
    type Sealed = ();

    fn id(&self) -> String {
        self.0.clone()
    }

    fn split(self) -> ((), ()) {
        ((), ())
    }

    fn join(id: String, _clear: (), _sealed: ()) -> Result<Self> {
        Ok(Self(id))
    }
}

fn hour(hours: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(hours)
}

async fn open(dir: &Path) -> Store {
    let config = StoreConfig::new(StorePath::File(dir.join("store/table.db")));
    let config = config.on_audit_break(OnAuditBreak::Inspect);
    let keys = LocalFileKeyProvider::new(dir.join("keys/umk.key"));
    Store::open(config, Arc::new(keys)).await.unwrap()
}

fn watch(store: &Store, dir: &Path) -> Arc<AuditWatch> {
    let key = SigningKey::from_seed([7; 32]);
    AuditWatch::new(store.clone(), key, dir.join("checkpoint.json"))
}

async fn commit(store: &Store, id: &str) {
    let mut batch = Batch::new();
    batch.insert(Note(id.to_owned())).unwrap();
    let partition = store.partition(Kind::PEER, id).unwrap();
    partition
        .commit(batch, PartitionVersion::NONE)
        .await
        .unwrap();
}

/// Copies the store's files, and nothing else.
fn copy(from: &Path, to: &Path) {
    std::fs::remove_dir_all(to).ok();
    worldcompute_durable::private_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// A store that was copied, by its files, and went on until it was looked at.
struct Copied {
    dir: tempfile::TempDir,
    live: PathBuf,
    saved: PathBuf,
}

impl Copied {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (live, saved) = (dir.path().join("store"), dir.path().join("saved"));
        let store = open(dir.path()).await;
        commit(&store, "p1").await;
        store.close().await.unwrap();
        copy(&live, &saved);
        let store = open(dir.path()).await;
        commit(&store, "p2").await;
        watch(&store, dir.path()).look(hour(0)).await;
        store.close().await.unwrap();
        Self { dir, live, saved }
    }

    /// What it was when it was copied.
    async fn put_back(&self) -> Store {
        copy(&self.saved, &self.live);
        open(self.dir.path()).await
    }
}

#[test]
fn a_check_is_due_once_a_day_and_when_the_clock_was_set_back() {
    let now = Timestamp::now();
    let after = |hours| now + SignedDuration::from_hours(hours);
    let is_due = |last, now| is_due(last, now, CHECK_EVERY);
    assert!(is_due(None, now));
    assert!(!is_due(Some(now), now));
    assert!(!is_due(Some(now), after(23)));
    assert!(is_due(Some(now), after(24)));
    assert!(is_due(Some(after(1)), now));
}

#[tokio::test]
async fn a_whole_audit_leaves_a_checkpoint_that_this_node_signed_once_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let first = watch(&store, dir.path());
    first.look(hour(0)).await;
    assert_eq!(first.broken(), None);
    let kept = first.kept().await.unwrap().unwrap();
    assert_eq!(kept.store, store.id());
    assert!(store.verify_checkpoint(&kept).await.unwrap().is_whole());
    commit(&store, "p1").await;
    // Neither this process nor the next one checks again before a day has gone.
    first.look(hour(1)).await;
    watch(&store, dir.path()).look(hour(1)).await;
    assert_eq!(first.kept().await.unwrap().unwrap(), kept);
    watch(&store, dir.path()).look(hour(25)).await;
    assert_ne!(first.kept().await.unwrap().unwrap(), kept);
}

#[tokio::test]
async fn a_store_that_was_put_back_with_its_anchor_is_an_alert_that_stays() {
    let copied = Copied::new().await;
    let store = copied.put_back().await;
    let watch = watch(&store, copied.dir.path());
    let kept = watch.kept().await.unwrap();
    watch.look(hour(25)).await;
    let broken = watch.broken().unwrap();
    assert!(
        broken.contains("is not the one that was there before"),
        "{broken}"
    );
    assert_eq!(
        watch.kept().await.unwrap(),
        kept,
        "a broken audit gets no new checkpoint"
    );
    watch.look(hour(26)).await;
    assert_eq!(watch.broken(), Some(broken));
}

#[tokio::test]
async fn a_finding_makes_the_next_look_a_check_until_the_audit_is_whole_again() {
    let copied = Copied::new().await;
    let (dir, whole) = (copied.dir.path(), copied.dir.path().join("whole"));
    copy(&copied.live, &whole);
    let store = copied.put_back().await;
    // The last checkpoint is not a day old.
    let quiet = watch(&store, dir);
    quiet.look(hour(1)).await;
    assert_eq!(quiet.broken(), None);
    quiet.look(hour(25)).await;
    assert!(quiet.broken().is_some());
    let next = watch(&store, dir);
    next.look(hour(1)).await;
    assert!(next.broken().is_some());
    store.close().await.unwrap();
    copy(&whole, &copied.live);
    let store = open(dir).await;
    let next = watch(&store, dir);
    next.look(hour(1)).await;
    assert_eq!(next.broken(), None);
    assert!(!next.is_alarmed());
}

#[tokio::test]
async fn what_is_found_again_and_again_is_looked_for_once_an_hour_and_stays_an_alert() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let checkpoint = store.audit_checkpoint().await.unwrap();
    let path = dir.path().join("checkpoint.json");
    let forged = AuditWatch::new(store.clone(), SigningKey::from_seed([8; 32]), path.clone());
    forged.keep(&checkpoint).await.unwrap();
    let watch = watch(&store, dir.path());
    let (start, mut checks) = (hour(0), Vec::new());
    for minutes in (0..=180).step_by(10) {
        let now = start + SignedDuration::from_mins(minutes);
        watch.look(now).await;
        if watch.state().checked == Some(now) {
            checks.push(minutes);
        }
        assert!(watch.broken().is_some());
    }
    assert_eq!(checks, [0, 10, 70, 130]);
    // Once it is gone the next check says so, and from then on there is one a day.
    std::fs::remove_file(path).unwrap();
    watch.look(start + SignedDuration::from_mins(190)).await;
    assert_eq!(watch.broken(), None);
    assert!(!watch.is_alarmed());
}

#[tokio::test]
async fn a_checkpoint_of_somebody_else_is_an_alert() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let watch = watch(&store, dir.path());
    let checkpoint = store.audit_checkpoint().await.unwrap();
    let other = SigningKey::from_seed([8; 32]);
    let forged = AuditWatch::new(store.clone(), other, dir.path().join("checkpoint.json"));
    forged.keep(&checkpoint).await.unwrap();
    watch.look(hour(0)).await;
    let broken = watch.broken().unwrap();
    assert!(
        broken.contains("is not a checkpoint of this node"),
        "{broken}"
    );
}
