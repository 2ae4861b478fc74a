//! What comes out is what went in; whatever was done to a bundle, or is wrong with where it goes, leaves nothing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::codec::{Header, encode_row};
use super::import::Target;
use super::*;
use crate::anchor::Anchor;
use crate::audit::{AuditOutcome, Operation};
use crate::crypto::{hmac, hmac_key};
use crate::keys::{DekContext, KeyError};
use crate::lab::{Lab, Meddling, MemoryKey, partition, put, secrets, task, version};
use crate::{Batch, Partition, PartitionVersion, Store, StoreConfig, StorePath};

/// A store with a partition, a place for bundles.
struct World {
    lab: Lab,
    store: Store,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let lab = Lab::new();
        let store = lab.store().await;
        Self {
            lab,
            store,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    async fn filled(tasks: usize) -> Self {
        let world = Self::new().await;
        let mut batch = Batch::new();
        for id in 0..tasks {
            batch
                .insert(task(format!("t{id}"), format!("secret {id}")))
                .unwrap();
        }
        let partition = world.partition();
        partition
            .commit(batch, PartitionVersion::NONE)
            .await
            .unwrap();
        world
    }

    fn partition(&self) -> Partition {
        partition(&self.store, "j1")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn exported(&self) -> PathBuf {
        let path = self.path("bundle");
        self.partition().export(&path).await.unwrap();
        path
    }

    /// Takes the partition out of the table, as the loss of a table's part does.
    fn lose(&self) {
        for row in self.lab.rows(PK).values() {
            self.lab.delete(row);
        }
    }

    async fn import(&self, path: &Path) -> Result<Imported> {
        self.store.import(path, None).await
    }
}

const PK: &str = "job#j1";

fn code<T>(result: Result<T>) -> String {
    result
        .err()
        .map_or_else(String::new, |fault| fault.code().to_owned())
}

fn save(path: &Path, bytes: impl AsRef<[u8]>) {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(bytes.as_ref()).unwrap();
}

fn own_key() -> Option<Arc<dyn crate::KeyProvider>> {
    Some(Arc::new(MemoryKey([1; 32])))
}

/// Another store, with another key.
async fn elsewhere() -> (Lab, Store) {
    let lab = Lab::new();
    let store = lab.open(lab.anchor.clone(), 2).await.unwrap();
    (lab, store)
}

#[tokio::test]
async fn a_lost_partition_comes_back_row_by_row_as_it_was() {
    for tasks in [1, 3, 200] {
        let world = World::filled(tasks).await;
        put(&world.partition(), &[("t0", "changed")]).await;
        let (rows, at) = (world.lab.rows(PK), version(&world.partition()).await);
        let path = world.exported().await;
        world.lose();
        assert_eq!(code(world.partition().load().await), "version_rolled_back");
        let imported = world.import(&path).await.unwrap();
        assert_eq!((imported.records, imported.version_now), (tasks, at.get()));
        assert!(imported.written);
        assert_eq!(world.lab.rows(PK), rows);
        // It goes on from there.
        put(&world.partition(), &[("new", "secret")]).await;
        assert_eq!(secrets(&world.partition()).await.len(), tasks + 1);
        assert!(
            world
                .store
                .verify(&[], &mut |_| {})
                .await
                .unwrap()
                .is_sound()
        );
    }
}

#[tokio::test]
async fn a_damaged_partition_is_mended_and_a_whole_one_left_alone() {
    let world = World::filled(70).await;
    let path = world.exported().await;
    assert!(!world.import(&path).await.unwrap().written);
    let rows = world.lab.rows(PK);
    let record = rows.keys().find(|sk| sk.starts_with("task#"));
    let others = rows.keys().filter(|sk| !sk.starts_with("task#"));
    for sk in others.chain(record) {
        let mut damaged = rows[sk].clone();
        damaged.insert("seal".to_owned(), dynoxide::AttributeValue::B(vec![7; 32]));
        for damage in [Some(damaged), None] {
            match damage {
                Some(row) => world.lab.put(&row),
                None => world.lab.delete(&rows[sk]),
            }
            assert!(world.partition().load().await.is_err(), "{sk}");
            assert!(world.import(&path).await.unwrap().written, "{sk}");
            assert_eq!(world.lab.rows(PK), rows, "{sk}");
        }
    }
    let mut forged = rows["dek#0001"].clone();
    forged.insert(
        "sk".to_owned(),
        dynoxide::AttributeValue::S("dek#0002".to_owned()),
    );
    world.lab.put(&forged);
    assert!(world.partition().load().await.is_err());
    assert!(world.import(&path).await.unwrap().written);
    assert_eq!(world.lab.rows(PK), rows);
}

#[tokio::test]
async fn a_bundle_is_of_no_use_where_something_else_or_later_is() {
    let world = World::filled(3).await;
    let path = world.exported().await;
    put(&world.partition(), &[("t0", "later")]).await;
    let later = world.lab.rows(PK);
    let fault = world.import(&path).await.unwrap_err();
    assert_eq!(fault.code(), "version_rolled_back");
    assert!(
        fault.message().contains("and the bundle at version"),
        "{fault}"
    );
    assert_eq!(world.lab.rows(PK), later);
    // The machine remembers what the table has lost.
    world.lose();
    assert_eq!(code(world.import(&path).await), "version_rolled_back");
    assert!(world.lab.rows(PK).is_empty());
    // The audit remembers what another machine does not.
    world.store.clone().close().await.unwrap();
    let stranger = world.lab.stranger().await;
    assert_eq!(
        code(stranger.import(&path, None).await),
        "version_rolled_back"
    );
    assert!(world.lab.rows(PK).is_empty());
    // One that does not remember sees what is in the table.
    for row in later.values() {
        world.lab.put(row);
    }
    let stranger = world.lab.stranger().await;
    assert_eq!(
        code(stranger.import(&path, None).await),
        "version_rolled_back"
    );
    assert_eq!(world.lab.rows(PK), later);
}

#[tokio::test]
async fn a_bundle_of_an_erased_partition_does_not_bring_it_back() {
    let world = World::filled(3).await;
    let path = world.exported().await;
    world.partition().erase().await.unwrap();
    let rows = world.lab.rows(PK);
    assert_eq!(code(world.import(&path).await), "partition_erased");
    let stranger = world.lab.stranger().await;
    assert_eq!(code(stranger.import(&path, None).await), "partition_erased");
    let after = world.partition().export(&world.path("after")).await;
    assert_eq!(code(after), "partition_erased");
    assert_eq!(world.lab.rows(PK), rows);
}

/// Has the partition erased by somebody else, or imported, when it opens a data key for the last time that it is told of.
struct Late {
    opened: AtomicUsize,
    last: usize,
    other: Store,
    path: Option<PathBuf>,
}

impl Late {
    fn new(other: &Store, last: usize) -> Arc<Self> {
        Self::importing(other, None, last)
    }

    fn importing(other: &Store, path: Option<&Path>, last: usize) -> Arc<Self> {
        Arc::new(Self {
            opened: AtomicUsize::new(0),
            last,
            other: other.clone(),
            path: path.map(Path::to_owned),
        })
    }
}

#[async_trait]
impl Meddling for Late {
    async fn unwrapping(&self, _context: &DekContext) -> Result<(), KeyError> {
        if self.opened.fetch_add(1, Ordering::SeqCst) + 1 == self.last {
            match &self.path {
                Some(path) => drop(self.other.import(path, None).await.unwrap()),
                None => drop(partition(&self.other, "j1").erase().await.unwrap()),
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn an_erasure_while_a_bundle_is_imported_leaves_nothing_of_it() {
    // While it is verified, and when its rows are about to be written.
    for (last, told) in [(1, "partition_erased"), (2, "state_contention")] {
        let world = World::filled(200).await;
        let path = world.exported().await;
        world.lose();
        let eraser = world.lab.stranger().await;
        let keys = Late::new(&eraser, last);
        let config = StoreConfig::new(StorePath::Memory);
        let store = world.lab.try_store_with(config, keys).await.unwrap();
        assert_eq!(code(store.import(&path, None).await), told);
        assert_eq!(world.lab.keys(PK, ""), ["manifest"]);

        let (lab, other) = elsewhere().await;
        let eraser = lab.open(Arc::new(Anchor::memory()), 2).await.unwrap();
        let source = Late::new(&eraser, last);
        assert_eq!(code(other.import(&path, Some(source)).await), told);
        assert_eq!(lab.keys(PK, ""), ["manifest"]);
    }
}

#[tokio::test]
async fn an_erasure_in_the_place_of_a_damaged_root_is_not_written_over() {
    let world = World::filled(3).await;
    let path = world.exported().await;
    let mut root = world.lab.rows(PK).remove("manifest").unwrap();
    root.remove("seal");
    // Nothing else refuses what is written over it.
    world.lose();
    world.lab.put(&root);
    let eraser = world.lab.stranger().await;
    // Once to verify the bundle, once to write.
    let keys = Late::new(&eraser, 2);
    let config = StoreConfig::new(StorePath::Memory);
    let store = world.lab.try_store_with(config, keys).await.unwrap();
    assert!(store.import(&path, None).await.is_err());
    assert_eq!(world.lab.keys(PK, ""), ["manifest"]);
    let fault = partition(&world.lab.stranger().await, "j1").load().await;
    assert_eq!(code(fault), "partition_erased");
}

#[tokio::test]
async fn of_two_imports_in_the_place_of_a_damaged_root_one_is_refused() {
    let world = World::filled(3).await;
    let path = world.exported().await;
    let mut root = world.lab.rows(PK).remove("manifest").unwrap();
    root.remove("seal");
    world.lab.put(&root);
    let other = world.lab.stranger().await;
    // Once to verify the bundle, twice for what is there, once to write.
    let keys = Late::importing(&other, Some(&path), 4);
    let config = StoreConfig::new(StorePath::Memory);
    let store = world.lab.try_store_with(config, keys).await.unwrap();
    assert_eq!(code(store.import(&path, None).await), "state_contention");
    assert!(other.verify(&[], &mut |_| {}).await.unwrap().is_sound());
}

#[tokio::test]
async fn an_import_whose_rows_are_swept_before_its_root_is_there_is_refused() {
    let world = World::filled(3).await;
    let shared = world.partition().0;
    let room = shared.store.limits.room();
    let mut rows = shared.store.table.partition(PK, room).await.unwrap();
    world.lose();
    let is_root = |row: &crate::row::Row| row.text("sk") == Ok("manifest");
    let root = rows.swap_remove(rows.iter().position(is_root).unwrap());
    let same_epoch = shared.store.wrapping().same_epoch();
    let mut target = Target::look(&shared, same_epoch).await.unwrap();
    target.stage(rows).await.unwrap();
    // It takes them for what a first commit has left.
    let other = partition(&world.lab.stranger().await, "j1");
    other.rotate().await.unwrap();
    assert_eq!(world.lab.keys(PK, ""), ["dek#0001"]);
    let mark = crate::anchor::Mark::new(1, &[0; 32]);
    let flipped = target.flip(root, Vec::new(), mark).await;
    assert_eq!(code(flipped), "state_contention");
    assert!(other.load().await.unwrap().is_none());
}

#[tokio::test]
async fn a_bundle_is_of_no_use_where_the_audit_does_not_tell_what_became_of_the_partition() {
    let world = World::filled(3).await;
    // Opening a store looks at the end of the audit alone.
    for _ in 0..20 {
        put(&world.partition(), &[("t0", "again")]).await;
    }
    let path = world.exported().await;
    world.partition().erase().await.unwrap();
    world.store.clone().close().await.unwrap();
    world.lose();
    let lane = world.partition().0.lane().pk();
    let first = world.lab.keys(&lane, "event#").remove(0);
    let mut event = world.lab.rows(&lane).remove(&first).unwrap();
    event.insert(
        "event_mac".to_owned(),
        dynoxide::AttributeValue::B(vec![7; 32]),
    );
    world.lab.put(&event);
    let stranger = world.lab.stranger().await;
    assert_eq!(
        code(stranger.import(&path, None).await),
        "audit_chain_broken"
    );
    assert!(world.lab.rows(PK).is_empty());
}

#[tokio::test]
async fn a_bundle_from_before_its_keys_were_retired_does_not_come_back() {
    let world = World::filled(3).await;
    let path = world.exported().await;
    world.store.rotate_kek().await.unwrap();
    let still = world.lab.rows(PK);
    world.lose();
    world.import(&path).await.unwrap();
    assert_eq!(world.lab.rows(PK), still);
    world.store.retire_keks().await.unwrap();
    world.lose();
    assert_eq!(code(world.import(&path).await), "key_epoch_retired");
    assert!(world.lab.rows(PK).is_empty());
}

#[tokio::test]
async fn another_store_takes_a_bundle_with_the_keys_of_the_first_and_encrypts_it_anew() {
    let world = World::filled(200).await;
    world.partition().rotate().await.unwrap();
    put(&world.partition(), &[("t7", "changed")]).await;
    let before = secrets(&world.partition()).await;
    let path = world.exported().await;
    let (lab, other) = elsewhere().await;
    assert_eq!(
        code(other.import(&path, None).await),
        "bundle_of_another_store"
    );
    let wrong: Arc<dyn crate::KeyProvider> = Arc::new(MemoryKey([9; 32]));
    assert_eq!(
        code(other.import(&path, Some(wrong)).await),
        "bundle_of_another_key"
    );
    assert!(lab.rows(PK).is_empty());
    let imported = other.import(&path, own_key()).await.unwrap();
    assert_eq!((imported.records, imported.version_now), (200, 1));
    assert_eq!(secrets(&partition(&other, "j1")).await, before);
    let (old, new) = (world.lab.rows(PK), lab.rows(PK));
    for (sk, row) in new.iter().filter(|(sk, _)| sk.starts_with("task#")) {
        assert_ne!(row["content_encrypted"], old[sk]["content_encrypted"]);
        for kept in [
            "created_at",
            "updated_at",
            "status",
            "attempts",
            "score",
            "gsi1pk",
            "gsi1sk",
        ] {
            assert_eq!(row[kept], old[sk][kept], "{kept}");
        }
    }
    assert!(other.verify(&[], &mut |_| {}).await.unwrap().is_sound());
    assert_eq!(
        code(other.import(&path, own_key()).await),
        "partition_exists"
    );
    put(&partition(&other, "j1"), &[("t0", "goes on")]).await;
}

#[tokio::test]
async fn what_an_import_left_when_it_broke_off_is_written_over_by_the_next() {
    let world = World::filled(200).await;
    let path = world.exported().await;
    let rows = world.lab.rows(PK);
    // Everything but the flip: the root is not there, and the machine has seen nothing yet.
    world.lab.delete(&rows["manifest"]);
    let (lab, other) = elsewhere().await;
    other.import(&path, own_key()).await.unwrap();
    let landed = lab.rows(PK);
    lab.delete(&landed["manifest"]);
    let stranger = lab.open(Arc::new(Anchor::memory()), 2).await.unwrap();
    assert!(partition(&stranger, "j1").load().await.unwrap().is_none());
    stranger.import(&path, own_key()).await.unwrap();
    assert_eq!(secrets(&partition(&stranger, "j1")).await.len(), 200);
    assert!(world.import(&path).await.unwrap().written);
    assert_eq!(world.lab.rows(PK), rows);
}

#[tokio::test]
async fn export_and_import_are_on_record_with_the_bundles_mac() {
    let world = World::filled(3).await;
    let path = world.path("bundle");
    let info = world.partition().export(&path).await.unwrap();
    world.lose();
    world.import(&path).await.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let changed = world.path("changed");
    save(&changed, bytes);
    assert_eq!(code(world.import(&changed).await), "bundle_seal_mismatch");
    world.store.clone().close().await.unwrap();
    let mut seen = Vec::new();
    for lane in 0..8 {
        let events = world.store.audit_events(lane, 0).await.unwrap();
        let bounds = events
            .into_iter()
            .filter(|event| event.operation == Operation::Boundary);
        seen.extend(bounds.map(|event| (event.key_id, event.outcome, event.count)));
    }
    let (store, mac) = (world.store.id(), &info.mac);
    assert_eq!(
        seen,
        [
            (format!("export#job#j1#1#{mac}"), AuditOutcome::Success, 3),
            (
                format!("import#{store}#job#j1#1#{mac}"),
                AuditOutcome::Success,
                3
            ),
            (format!("import#{store}#job#j1"), AuditOutcome::Failure, 1),
        ]
    );
}

#[tokio::test]
async fn a_bundle_is_this_users_alone_and_tells_what_it_is_without_a_key() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::filled(3).await;
    let path = world.path("bundle");
    let info = world.partition().export(&path).await.unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(BundleInfo::read(&path).unwrap(), info);
    assert_eq!((info.rows, info.version), (5, 1));
    assert_eq!(info.bytes, fs::metadata(&path).unwrap().len());
    let bytes = fs::read(&path).unwrap();
    assert!(!bytes.windows(7).any(|part| part == b"secret "));
    let nothing = partition(&world.store, "j2")
        .export(&world.path("none"))
        .await;
    assert_eq!(code(nothing), "partition_not_found");
    let nowhere = world.partition().export(&world.path("no/such/dir")).await;
    assert_eq!(code(nowhere), "not_found");
    let again = world.partition().export(&path).await;
    assert_eq!(code(again), "already_exists");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let left: Vec<_> = fs::read_dir(world.dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn no_damaged_partition_is_exported() {
    let world = World::filled(70).await;
    let rows = world.lab.rows(PK);
    for (sk, row) in &rows {
        world.lab.delete(row);
        let path = world.path("bundle");
        let refused = world.partition().export(&path).await;
        assert!(refused.is_err() && !path.exists(), "{sk}");
        world.lab.put(row);
    }
    world.exported().await;
}

/// A bundle with these header and rows, under the MAC of the store's own key.
async fn forged(store: &Store, header: &Header, rows: &[Vec<u8>]) -> Vec<u8> {
    let (key, _) = key_of(&store.0.keks).await.unwrap();
    let mut bytes = header.encode();
    bytes.extend(rows.concat());
    let mac = hmac(&hmac_key(&key), &bytes);
    bytes.extend(mac);
    bytes
}

#[tokio::test]
async fn whoever_has_the_key_cannot_leave_out_add_or_swap_rows_either() {
    let world = World::filled(70).await;
    let path = world.exported().await;
    let file = codec::open(&path).unwrap();
    let header = Header::read(&file).unwrap();
    let mut reader = Reader::new(file, header.clone(), &Key::default()).unwrap();
    let mut rows = Vec::new();
    while let Some(row) = reader.row().unwrap() {
        rows.push(encode_row(&row).unwrap());
    }
    let whole = forged(&world.store, &header, &rows).await;
    assert_eq!(whole, fs::read(&path).unwrap());
    world.lose();
    let copy = world.path("copy");
    let count = rows.len();
    // Data key, root, chunk, the first records, the last.
    for number in (0..8).chain([count - 1]) {
        let mut without = rows.clone();
        without.remove(number);
        let mut twice = rows.clone();
        twice.insert(number, rows[number].clone());
        let mut swapped = rows.clone();
        swapped.swap(number, (number + 1) % count);
        for changed in [without, twice, swapped] {
            let header = Header {
                rows: changed.len() as u64,
                ..header.clone()
            };
            save(&copy, forged(&world.store, &header, &changed).await);
            let refused = world.import(&copy).await.unwrap_err();
            assert_eq!(
                refused.category(),
                Category::VerificationFailed,
                "{number}: {refused}"
            );
            assert!(world.lab.rows(PK).is_empty());
        }
    }
    for header in [
        Header {
            version: 2,
            ..header.clone()
        },
        Header {
            rows: header.rows - 1,
            ..header.clone()
        },
        Header {
            rows: header.rows + 1,
            ..header.clone()
        },
    ] {
        save(&copy, forged(&world.store, &header, &rows).await);
        assert_eq!(
            code(world.import(&copy).await),
            "bundle_malformed",
            "{header:?}"
        );
    }
    save(&copy, &whole);
    world.import(&copy).await.unwrap();
}

#[test]
fn any_cut_and_any_changed_byte_is_refused_and_leaves_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (world, whole) = runtime.block_on(async {
        let world = World::filled(2).await;
        let whole = fs::read(world.exported().await).unwrap();
        world.lose();
        (world, whole)
    });
    let copy = world.path("copy");
    let refused = |bytes: &[u8]| {
        save(&copy, bytes);
        let imported = runtime.block_on(world.import(&copy));
        assert!(imported.is_err() && world.lab.rows(PK).is_empty());
    };
    for (at, _) in whole.iter().enumerate() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        refused(&changed);
    }
    println!("{} changed bytes of a bundle, none accepted", whole.len());
    let mut runner = TestRunner::new(Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    });
    let change = (
        0..whole.len(),
        any::<u8>(),
        proptest::collection::vec(any::<u8>(), 1..50),
    );
    runner
        .run(&change, |(at, byte, more)| {
            refused(&whole[..at]);
            let mut changed = whole.clone();
            if changed[at] != byte {
                changed[at] = byte;
                refused(&changed);
            }
            refused(&[&whole[..], &more].concat());
            refused(&[&whole[..at], &more, &whole[at..]].concat());
            Ok(())
        })
        .unwrap();
    save(&copy, &whole);
    runtime.block_on(world.import(&copy)).unwrap();
}
