//! What commits do, at every size, against each other, and when they are interrupted.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dynoxide::AttributeValue;
use jiff::Timestamp;
use proptest::prelude::*;

use crate::anchor::Anchor;
use crate::crypto::random;
use crate::lab::{Job, Lab, MemoryKey, Task, job, partition, put, secrets, task, text, version};
use crate::manifest::{CHUNK_ENTRIES, Listed, MAX_PARTITION_RECORDS, Manifest};
use crate::name::RecordId;
use crate::plan::{self, FirstKey, MAX_FLIP_ACTIONS, Prepared};
use crate::record::Scope;
use crate::sources::Sources;
use crate::table::{MAX_ACTIONS, Outcome, Room};
use crate::{
    Batch, CrossPartition, Hint, Kind, Partition, PartitionVersion, Store, StoreConfig, StorePath,
};

const PK: &str = "job#j1";

fn inserts(ids: impl Iterator<Item = usize>, secret: &str) -> Batch {
    let mut batch = Batch::new();
    for id in ids {
        batch.insert(task(format!("t{id:04}"), secret)).unwrap();
    }
    batch
}

pub(crate) fn puts(ids: impl Iterator<Item = usize>, secret: &str) -> Batch {
    let mut batch = Batch::new();
    for id in ids {
        batch.put(task(format!("t{id:04}"), secret)).unwrap();
    }
    batch
}

#[tokio::test]
async fn records_come_back_as_they_were() {
    let store = Lab::new().store().await;
    let partition = partition(&store, "j1");
    assert!(partition.load().await.unwrap().is_none());
    let mut strange = task("t1", "a \"secret\" \u{1F512}\0 with everything");
    strange.clear.attempts = (1 << 53) - 1;
    strange.clear.score = -1.5e-9;
    strange.clear.reason = Some(String::new());
    let mut batch = Batch::new();
    batch.insert(strange.clone()).unwrap();
    batch.insert(job("analysis")).unwrap();
    let at = partition
        .commit(batch, PartitionVersion::NONE)
        .await
        .unwrap();
    let snapshot = partition.load().await.unwrap().unwrap();
    assert_eq!((snapshot.version(), snapshot.len(), at.get()), (at, 2, 1));
    let stored = snapshot.get::<Task>("t1").unwrap().unwrap();
    assert_eq!((stored.id(), stored.value()), ("t1", &strange));
    assert_eq!(stored.created_at(), stored.updated_at());
    assert_eq!(
        snapshot.entities::<Job>().unwrap()[0].value(),
        &job("analysis")
    );
    assert!(snapshot.get::<Task>("t2").unwrap().is_none());
}

#[tokio::test]
async fn an_update_keeps_the_time_of_insertion() {
    let store = Lab::new().store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "first")]).await;
    let first = partition.load().await.unwrap().unwrap();
    put(&partition, &[("t1", "second")]).await;
    let second = partition.load().await.unwrap().unwrap();
    let (first, second) = (first.get::<Task>("t1"), second.get::<Task>("t1"));
    let (first, second) = (first.unwrap().unwrap(), second.unwrap().unwrap());
    assert_eq!(second.created_at(), first.created_at());
    assert!(second.updated_at() > first.updated_at());
}

#[tokio::test]
async fn entities_come_oldest_first() {
    let store = Lab::new().store().await;
    let partition = partition(&store, "j1");
    for id in ["c", "a", "b"] {
        put(&partition, &[(id, "x")]).await;
    }
    put(&partition, &[("c", "newer")]).await;
    let snapshot = partition.load().await.unwrap().unwrap();
    let tasks = snapshot.entities::<Task>().unwrap();
    let ids: Vec<_> = tasks.iter().map(|task| task.id()).collect();
    assert_eq!(ids, ["c", "a", "b"]);
}

#[tokio::test]
async fn a_changed_status_does_not_encrypt_the_payload_anew() {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "x")]).await;
    let sk = lab.keys(PK, "task").remove(0);
    let before = lab.rows(PK).remove(&sk).unwrap();
    let snapshot = partition.load().await.unwrap().unwrap();
    let stored = snapshot.get::<Task>("t1").unwrap().unwrap();
    let mut clear = stored.value().clear.clone();
    clear.status = "done".to_owned();
    clear.reason = Some("finished".to_owned());
    let mut batch = Batch::new();
    batch.update_clear(&stored, clear.clone()).unwrap();
    partition.commit(batch, snapshot.version()).await.unwrap();
    let after = lab.rows(PK).remove(&sk).unwrap();
    for same in [
        "content_encrypted",
        "content_nonce",
        "commit",
        "ver",
        "created_at",
    ] {
        assert_eq!(before[same], after[same], "{same}");
    }
    for other in ["seal", "updated_at", "gsi1pk", "status"] {
        assert_ne!(before[other], after[other], "{other}");
    }
    let snapshot = partition.load().await.unwrap().unwrap();
    let stored = snapshot.get::<Task>("t1").unwrap().unwrap();
    assert_eq!(
        (&stored.value().clear, &*stored.value().secret),
        (&clear, "x")
    );
}

#[tokio::test]
async fn a_commit_needs_the_version_that_the_partition_is_at() {
    let store = Lab::new().store().await;
    let partition = partition(&store, "j1");
    let first = put(&partition, &[("t1", "x")]).await;
    let second = put(&partition, &[("t1", "y")]).await;
    for wrong in [PartitionVersion::NONE, first, PartitionVersion::new(99)] {
        let batch = puts(0..1, "z");
        let fault = partition.commit(batch, wrong).await.unwrap_err();
        assert_eq!(fault.code(), "state_contention");
    }
    partition.commit(puts(0..1, "z"), second).await.unwrap();
}

#[tokio::test]
async fn refused_changes_leave_the_partition_as_it_was() {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    let at = put(&partition, &[("t1", "x")]).await;
    let before = lab.dump().len();
    let mut twice = Batch::new();
    twice
        .insert(task("t2", "new"))
        .unwrap()
        .insert(task("t1", "there already"))
        .unwrap();
    let fault = partition.commit(twice, at).await.unwrap_err();
    assert_eq!(fault.code(), "already_exists");
    let mut none = Batch::new();
    none.insert(task("t3", "new"))
        .unwrap()
        .remove::<Task>("t9")
        .unwrap();
    let fault = partition.commit(none, at).await.unwrap_err();
    assert_eq!(fault.code(), "record_not_found");
    assert_eq!(lab.dump().len(), before);
    assert_eq!(partition.commit(Batch::new(), at).await.unwrap(), at);
    assert_eq!(version(&partition).await, at);
}

#[tokio::test]
async fn a_change_of_a_record_that_has_changed_since_it_was_read_is_refused() {
    let store = Lab::new().store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "x")]).await;
    let old = partition.load().await.unwrap().unwrap();
    let stored = old.get::<Task>("t1").unwrap().unwrap();
    let at = put(&partition, &[("t1", "y")]).await;
    let mut batches = [Batch::new(), Batch::new(), Batch::new()];
    batches[0].update(&stored, task("t1", "z")).unwrap();
    batches[1]
        .update_clear(&stored, stored.value().clear.clone())
        .unwrap();
    batches[2].delete(&stored).unwrap();
    for batch in batches {
        let fault = partition.commit(batch, at).await.unwrap_err();
        assert_eq!(fault.code(), "state_contention");
    }
    assert_eq!(
        secrets(&partition).await,
        [("t1".to_owned(), "y".to_owned())]
    );
}

#[tokio::test]
async fn a_record_is_changed_once_per_batch() {
    let mut batch = Batch::new();
    batch.insert(task("t1", "x")).unwrap();
    let fault = batch.put(task("t1", "y")).err().unwrap();
    assert_eq!(fault.code(), "duplicate_change");
}

#[tokio::test]
async fn a_partition_outlives_its_last_record() {
    let store = Lab::new().store().await;
    let partition = partition(&store, "j1");
    let at = put(&partition, &[("t1", "x")]).await;
    let mut batch = Batch::new();
    batch.remove::<Task>("t1").unwrap();
    let at = partition.commit(batch, at).await.unwrap();
    let snapshot = partition.load().await.unwrap().unwrap();
    assert!(snapshot.is_empty() && snapshot.version() == at);
    partition.commit(inserts(0..1, "again"), at).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_every_size_are_one_version_and_leave_nothing_behind() {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    let mut at = PartitionVersion::NONE;
    let sizes = [
        CHUNK_ENTRIES,
        CHUNK_ENTRIES + 1,
        MAX_FLIP_ACTIONS - 2,
        MAX_FLIP_ACTIONS - 1,
        MAX_ACTIONS,
        450,
    ];
    for (step, size) in (1..).zip(sizes) {
        // Insertions, replacements and deletions, more than one transaction holds.
        let mut batch = puts(0..size, &format!("round {step}"));
        batch.put(job(&format!("round {step}"))).unwrap();
        at = partition.commit(batch, at).await.unwrap();
        assert_eq!(at.get(), step);
        let found = secrets(&self::partition(&lab.stranger().await, "j1")).await;
        assert_eq!(found.len(), size);
        assert!(
            found
                .iter()
                .all(|(_, secret)| *secret == format!("round {step}"))
        );
        assert_eq!(lab.keys(PK, "task").len(), size);
    }
    let mut batch = Batch::new();
    for id in 10..450 {
        batch.remove::<Task>(&format!("t{id:04}")).unwrap();
    }
    at = partition.commit(batch, at).await.unwrap();
    let snapshot = partition.load().await.unwrap().unwrap();
    assert_eq!((snapshot.version(), snapshot.len()), (at, 11));
    assert_eq!(snapshot.uncommitted(), [""; 0]);
    assert!(lab.keys(PK, "manifest#").len() <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_commit_to_a_large_partition_that_was_read_back_is_done() {
    let lab = Lab::new();
    // More chunks than a flip holds, so that they are staged under numbers of their own.
    let records = (MAX_ACTIONS / 2 + 5) * CHUNK_ENTRIES;
    let first = partition(&lab.store().await, "j1");
    let none = PartitionVersion::NONE;
    first
        .commit(inserts(0..records, "first"), none)
        .await
        .unwrap();
    let later = partition(&lab.store().await, "j1");
    let at = version(&later).await;
    later.commit(puts(0..records, "second"), at).await.unwrap();
    let found = secrets(&partition(&lab.stranger().await, "j1")).await;
    assert_eq!(found.len(), records);
    assert!(found.iter().all(|(_, secret)| secret == "second"));
    let snapshot = later.load().await.unwrap().unwrap();
    assert_eq!(snapshot.uncommitted(), [""; 0]);
}

#[tokio::test]
async fn a_small_commit_to_a_large_partition_writes_little() {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    let at = partition
        .commit(inserts(0..300, "x"), PartitionVersion::NONE)
        .await
        .unwrap();
    let before = lab.rows(PK);
    let batch = puts(100..101, "y");
    let at = partition.commit(batch, at).await.unwrap();
    let changed = |before: &std::collections::HashMap<String, crate::lab::Item>| {
        let after = lab.rows(PK);
        after
            .iter()
            .filter(|(sk, row)| before.get(*sk) != Some(row))
            .count()
    };
    assert_eq!(changed(&before), 3, "the record, its chunk, the root");
    let before = lab.rows(PK);
    let mut batch = Batch::new();
    batch.insert(task("new", "z")).unwrap();
    partition.commit(batch, at).await.unwrap();
    assert_eq!(changed(&before), 2, "the record, the root");
}

/// Prepares a commit and does only its first `steps` transactions, as a process that dies then.
pub(crate) async fn interrupted(store: &Store, batch: Batch, steps: usize) {
    let shared = partition(store, "j1").0;
    let mut open = shared.read().await.unwrap().open;
    let changes = plan::resolve(&shared.scope, &open.manifest, batch.changes).unwrap();
    let Prepared { transactions, .. } =
        plan::prepare(&shared.scope, &shared.store.sources, &mut open, changes).unwrap();
    assert!(steps < transactions.len(), "the flip is not interrupted");
    for actions in transactions.into_iter().take(steps) {
        let outcome = shared.store.table.transact(PK, actions).await.unwrap();
        assert_eq!(outcome, Outcome::Done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_commit_changes_nothing_and_is_swept_by_the_next() {
    let lab = Lab::new();
    let store = lab.store().await;
    let first = partition(&store, "j1");
    first
        .commit(inserts(0..250, "old"), PartitionVersion::NONE)
        .await
        .unwrap();
    for steps in 1..=2 {
        interrupted(&store, puts(0..400, "never"), steps).await;
        let after = lab.store().await;
        let partition = partition(&after, "j1");
        let snapshot = partition.load().await.unwrap().unwrap();
        assert!(!snapshot.uncommitted().is_empty());
        assert_eq!(snapshot.len(), 250);
        assert!(
            secrets(&partition)
                .await
                .iter()
                .all(|(_, secret)| secret == "old")
        );
        let batch = puts(0..1, "old");
        partition.commit(batch, snapshot.version()).await.unwrap();
        let snapshot = partition.load().await.unwrap().unwrap();
        assert_eq!(snapshot.uncommitted(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_overtaken_while_it_is_staged_changes_nothing() {
    let lab = Lab::new();
    let (slow, quick) = (lab.store().await, lab.store().await);
    let at = put(&partition(&slow, "j1"), &[("t0000", "old")]).await;
    let shared = partition(&slow, "j1").0;
    let mut open = shared.read().await.unwrap().open;
    let batch = puts(0..300, "slow");
    let changes = plan::resolve(&shared.scope, &open.manifest, batch.changes).unwrap();
    let prepared = plan::prepare(&shared.scope, &shared.store.sources, &mut open, changes).unwrap();
    let mut staged = prepared.transactions;
    let flip = staged.pop().unwrap();
    let mut outcomes = Vec::new();
    for actions in staged {
        outcomes.push(shared.store.table.transact(PK, actions).await.unwrap());
    }
    // This commit finds the staged rows, and sweeps what it takes for leftovers.
    partition(&quick, "j1")
        .commit(puts(0..1, "quick"), at)
        .await
        .unwrap();
    outcomes.push(shared.store.table.transact(PK, flip).await.unwrap());
    assert!(matches!(outcomes.pop(), Some(Outcome::Refused(_))));
    let found = secrets(&partition(&lab.store().await, "j1")).await;
    assert_eq!(found, [("t0000".to_owned(), "quick".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_commit_that_is_swept_while_it_is_staged_changes_nothing() {
    for is_fresh in [true, false] {
        let lab = Lab::new();
        let (slow, quick) = (lab.store().await, lab.store().await);
        let shared = partition(&slow, "j1").0;
        let (mut open, first) = match is_fresh {
            true => shared
                .with_key(plan::Open::new(&shared.scope))
                .await
                .unwrap(),
            false => {
                let (wrapping, now) = (shared.store.wrapping(), shared.store.sources.tick());
                let row = wrapping.fresh(&shared.scope, 1, now).await.unwrap();
                assert!(shared.store.table.put_new(row).await.unwrap());
                (shared.read().await.unwrap().open, None)
            }
        };
        let held = open.keyring.held(&shared.scope).unwrap();
        let batch = puts(0..300, "slow");
        let changes = plan::resolve(&shared.scope, &open.manifest, batch.changes).unwrap();
        let prepared = plan::prepare(&shared.scope, &shared.store.sources, &mut open, changes);
        let prepared = prepared.unwrap();
        let prepared = match first {
            Some(first) => prepared.with_key(first, shared.no_root(), held),
            None => prepared.holding(held),
        };
        let mut staged = prepared.transactions;
        let flip = staged.pop().unwrap();
        for actions in staged {
            let outcome = shared.store.table.transact(PK, actions).await.unwrap();
            assert_eq!(outcome, Outcome::Done);
        }
        assert!(lab.keys(PK, "task").len() > 100);
        let sweeping = partition(&quick, "j1");
        assert_eq!(sweeping.rotate().await.unwrap(), PartitionVersion::NONE);
        assert_eq!(lab.keys(PK, ""), ["dek#0001"]);
        let outcome = shared.store.table.transact(PK, flip).await.unwrap();
        assert!(matches!(outcome, Outcome::Refused(_)), "{is_fresh}");
        put(&sweeping, &[("t1", "quick")]).await;
        assert_eq!(secrets(&sweeping).await.len(), 1);
    }
}

#[tokio::test]
async fn a_first_commit_that_reads_nothing_does_not_write_over_what_is_there() {
    let lab = Lab::new();
    let at = put(&partition(&lab.store().await, "j1"), &[("t1", "x")]).await;
    let unaware = partition(&lab.store().await, "j1");
    for _ in 0..2 {
        let first = unaware.commit(puts(0..2, "y"), PartitionVersion::NONE);
        assert_eq!(first.await.unwrap_err().code(), "state_contention");
    }
    assert_eq!(version(&unaware).await, at);
    assert_eq!(secrets(&unaware).await, [("t1".to_owned(), "x".to_owned())]);
}

#[tokio::test]
async fn a_first_commit_is_one_transaction_if_it_fits_into_one() {
    for (records, actions) in [(1, 4), (MAX_ACTIONS, 0)] {
        let lab = Lab::new();
        let store = lab.store().await;
        let shared = partition(&store, "j1").0;
        let wrapping = shared.store.wrapping();
        let row = wrapping
            .fresh(&shared.scope, 1, shared.store.sources.tick())
            .await
            .unwrap();
        let mut open = plan::Open::new(&shared.scope);
        open.keyring = Arc::new(
            wrapping
                .open(&shared.scope, vec![row.clone()])
                .await
                .unwrap(),
        );
        let changes =
            plan::resolve(&shared.scope, &open.manifest, puts(0..records, "x").changes).unwrap();
        let prepared =
            plan::prepare(&shared.scope, &shared.store.sources, &mut open, changes).unwrap();
        let same_epoch = wrapping.same_epoch();
        let first = FirstKey { row, same_epoch };
        let held = open.keyring.held(&shared.scope).unwrap();
        let transactions = prepared
            .with_key(first, shared.no_root(), held)
            .transactions;
        let sizes: Vec<usize> = transactions.iter().map(Vec::len).collect();
        match actions {
            0 => assert_eq!(sizes[0], 3, "the key and two checks come first: {sizes:?}"),
            actions => assert_eq!(sizes, [actions]),
        }
    }
}

#[tokio::test]
async fn of_two_first_commits_at_once_one_is_refused_and_nothing_is_left_of_it() {
    let lab = Lab::new();
    let (one, two) = (lab.store().await, lab.store().await);
    let (one, two) = (partition(&one, "j1"), partition(&two, "j1"));
    let (first, second) = tokio::join!(
        one.commit(puts(0..1, "one"), PartitionVersion::NONE),
        two.commit(puts(1..2, "two"), PartitionVersion::NONE),
    );
    assert_eq!(usize::from(first.is_ok()) + usize::from(second.is_ok()), 1);
    let fault = first.err().or(second.err()).unwrap();
    assert_eq!(fault.code(), "state_contention");
    assert_eq!(secrets(&partition(&lab.store().await, "j1")).await.len(), 1);
    assert_eq!(lab.keys(PK, "dek"), ["dek#0001"]);
}

#[tokio::test]
async fn of_two_first_commits_to_a_partition_that_has_a_data_key_one_is_refused() {
    let lab = Lab::new();
    let shared = partition(&lab.store().await, "j1").0;
    let (wrapping, now) = (shared.store.wrapping(), shared.store.sources.tick());
    let row = wrapping.fresh(&shared.scope, 1, now).await.unwrap();
    assert!(shared.store.table.put_new(row).await.unwrap());
    let (one, two) = (lab.store().await, lab.store().await);
    let (one, two) = (partition(&one, "j1"), partition(&two, "j1"));
    assert!(one.load().await.unwrap().is_none() && two.load().await.unwrap().is_none());
    let none = PartitionVersion::NONE;
    one.commit(puts(0..1, "one"), none).await.unwrap();
    let fault = two.commit(puts(1..2, "two"), none).await.unwrap_err();
    assert_eq!(fault.code(), "state_contention");
    let found = secrets(&partition(&lab.store().await, "j1")).await;
    assert_eq!(found, [("t0000".to_owned(), "one".to_owned())]);
}

#[tokio::test]
async fn a_crash_after_the_data_key_was_made_does_no_harm() {
    let lab = Lab::new();
    let store = lab.store().await;
    let shared = partition(&store, "j1").0;
    let (wrapping, now) = (shared.store.wrapping(), shared.store.sources.tick());
    let row = wrapping.fresh(&shared.scope, 1, now).await.unwrap();
    assert!(shared.store.table.put_new(row).await.unwrap());
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    let unread = partition.commit(puts(0..1, "x"), PartitionVersion::NONE);
    assert_eq!(unread.await.unwrap_err().code(), "state_contention");
    assert!(partition.load().await.unwrap().is_none());
    put(&partition, &[("t1", "x")]).await;
    assert_eq!(lab.keys(PK, "dek"), ["dek#0001"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_between_two_pages_is_no_tampering() {
    let lab = Lab::new();
    let (writer, reader) = (lab.store().await, lab.store().await);
    // More than the 1 MB of a page.
    let large = |round: u64| puts(0..30, &"x".repeat(40_000 + usize::try_from(round).unwrap()));
    let first = partition(&writer, "j1");
    first
        .commit(large(0), PartitionVersion::NONE)
        .await
        .unwrap();
    let writing = tokio::spawn(async move {
        let mut at = PartitionVersion::new(1);
        for round in 1..7 {
            at = first.commit(large(round), at).await.unwrap();
        }
    });
    let mut loads = 0;
    while !writing.is_finished() {
        let lengths: HashSet<_> = secrets(&partition(&reader, "j1"))
            .await
            .into_iter()
            .map(|(_, secret)| secret.len())
            .collect();
        assert_eq!(lengths.len(), 1, "one version, whole");
        loads += 1;
    }
    writing.await.unwrap();
    assert!(loads > 0);
}

#[tokio::test]
async fn more_rows_than_a_partition_or_status_can_have_are_not_read() {
    let store = Lab::new().store().await;
    let shared = partition(&store, "j1").0;
    put(&Partition(shared.clone()), &[("t1", "x"), ("t2", "x")]).await;
    let table = &shared.store.table;
    let room = |rows| Room {
        rows,
        bytes: usize::MAX,
    };
    // Data key, root, two records.
    assert_eq!(table.partition(PK, room(4)).await.unwrap().len(), 4);
    let fault = table.partition(PK, room(3)).await.unwrap_err();
    assert_eq!(fault.code(), "too_many_rows");
    assert_eq!(table.by_status("open", 2).await.unwrap().len(), 2);
    let fault = table.by_status("open", 1).await.unwrap_err();
    assert_eq!(fault.code(), "too_many_rows");
}

#[tokio::test]
async fn a_partition_grows_to_its_limit_of_bytes_and_shrinks_past_it() {
    let lab = Lab::new();
    let said = "x".repeat(1000);
    let of_limit = async |bytes| {
        let config = StoreConfig::new(StorePath::Memory).max_partition_bytes(bytes);
        let keys = Arc::new(MemoryKey([1; 32]));
        let store = lab.try_store_with(config, keys).await.unwrap();
        partition(&store, "j1")
    };
    let handle = of_limit(20_000).await;
    let mut at = PartitionVersion::NONE;
    let full = loop {
        assert!(at.get() < 20, "no limit was met");
        let id = format!("t{at}");
        let mut batch = Batch::new();
        batch.insert(task(id, &said)).unwrap();
        match handle.commit(batch, at).await {
            Ok(version) => at = version,
            Err(fault) => break fault,
        }
    };
    assert_eq!(full.code(), "partition_full", "{full}");
    let counted = async || {
        let open = handle.0.open.lock().await;
        open.as_ref().unwrap().manifest.bytes()
    };
    let live = counted().await;
    assert!((16_000..=20_000).contains(&live), "{live}");
    handle.load().await.unwrap().unwrap();
    assert_eq!(counted().await, live, "what was counted is what is there");
    // What is replaced makes room for what replaces it, also for who has read nothing since.
    let mut batch = Batch::new();
    batch.put(task("t0", &said)).unwrap();
    at = handle.commit(batch, at).await.unwrap();
    let larger = |id: &str| {
        let mut batch = Batch::new();
        batch.put(task(id, said.repeat(4))).unwrap();
        batch
    };
    let fault = handle.commit(larger("t0"), at).await.unwrap_err();
    assert_eq!(fault.code(), "partition_full");
    // With a lower limit it is read still, and gets smaller, and no larger.
    let lower = of_limit(10_000).await;
    let at = lower.load().await.unwrap().unwrap().version();
    let fault = lower.commit(larger("t1"), at).await.unwrap_err();
    assert_eq!(fault.code(), "partition_full");
    let mut batch = Batch::new();
    batch.remove::<Task>("t1").unwrap();
    lower.commit(batch, at).await.unwrap();
}

#[tokio::test]
async fn a_full_partition_takes_whatever_does_not_make_it_larger() {
    let lab = Lab::new();
    let first = partition(&lab.store().await, "j1");
    put(&first, &[("t1", "x"), ("t2", "x")]).await;
    let full = first.0.open.lock().await.as_ref().unwrap().manifest.bytes();
    let config = StoreConfig::new(StorePath::Memory).max_partition_bytes(full);
    let keys = Arc::new(MemoryKey([1; 32]));
    let store = lab.try_store_with(config, keys).await.unwrap();
    let handle = partition(&store, "j1");
    let with_status = async |status: &str| {
        let snapshot = handle.load().await.unwrap().unwrap();
        let stored = snapshot.get::<Task>("t1").unwrap().unwrap();
        let mut clear = stored.value().clear.clone();
        clear.status = status.to_owned();
        let mut batch = Batch::new();
        batch.update_clear(&stored, clear).unwrap();
        handle.commit(batch, snapshot.version()).await
    };
    let with_secret = async |secret: &str| {
        let mut batch = Batch::new();
        batch.put(task("t2", secret)).unwrap();
        let at = version(&handle).await;
        handle.commit(batch, at).await
    };
    for _ in 0..12 {
        with_status("done").await.unwrap();
        with_secret("y").await.unwrap();
    }
    for larger in [with_status("ended").await, with_secret("yy").await] {
        assert_eq!(larger.unwrap_err().code(), "partition_full");
    }
}

#[tokio::test]
async fn more_bytes_than_a_partition_can_have_are_not_read() {
    let lab = Lab::new();
    let config = StoreConfig::new(StorePath::Memory).max_partition_bytes(1 << 20);
    let store = lab
        .try_store_with(config, Arc::new(MemoryKey([1; 32])))
        .await
        .unwrap();
    let handle = partition(&store, "j1");
    put(&handle, &[("t1", "x")]).await;
    let mut junk = lab.rows(PK).remove(&lab.keys(PK, "task")[0]).unwrap();
    let blob = AttributeValue::B(vec![0; 390_000]);
    junk.insert("content_encrypted".to_owned(), blob);
    let junk = |number: usize| {
        let sk = format!("task#2026-01-02T03:04:05.{number:09}Z#t1");
        let mut row = junk.clone();
        row.insert("sk".to_owned(), AttributeValue::S(sk));
        row
    };
    // What counts is read whatever a stranger puts beside it.
    (0..12).for_each(|number| lab.put(&junk(number)));
    let snapshot = handle.load().await.unwrap().unwrap();
    assert_eq!((snapshot.len(), snapshot.uncommitted().len()), (1, 12));
    let report = store.verify(&[], &mut |_| {}).await.unwrap();
    assert_eq!((report.found, report.left, report.records), (12, 0, 1));
    let large = partition(&lab.store().await, "j2");
    let mut batch = Batch::new();
    for id in 0..12 {
        let mut large = task(format!("t{id}"), "x");
        large.secret = "x".repeat(380_000);
        batch.insert(large).unwrap();
    }
    large.commit(batch, PartitionVersion::NONE).await.unwrap();
    let handle = partition(&store, "j2");
    let fault = handle.load().await.unwrap_err();
    assert_eq!(fault.code(), "too_many_bytes");
    let report = store.verify(&[], &mut |_| {}).await.unwrap();
    let codes = report.findings.iter().map(|finding| &*finding.code);
    assert_eq!(codes.filter(|code| *code == "too_many_bytes").count(), 1);
    handle.erase().await.unwrap();
}

/// Adds one to a counter until it has done so `wins` times; says which versions it made.
async fn count(partition: Partition, wins: usize) -> Vec<u64> {
    let mut won = Vec::new();
    while won.len() < wins {
        let snapshot = partition.load().await.unwrap();
        let at = snapshot
            .as_ref()
            .map_or(PartitionVersion::NONE, |snapshot| snapshot.version());
        let stored = snapshot.and_then(|snapshot| snapshot.get::<Task>("t1").unwrap());
        let value = stored.map_or(0, |stored| stored.into_value().secret.parse().unwrap());
        let mut batch = Batch::new();
        batch.put(task("t1", (value + 1).to_string())).unwrap();
        match partition.commit(batch, at).await {
            Ok(version) => won.push(version.get()),
            Err(fault) => assert_eq!(fault.code(), "state_contention"),
        }
    }
    won
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_concurrent_commits_exactly_one_wins_each_version() {
    let lab = Lab::new();
    // Two processes with two handles each.
    let (one, two) = (lab.store().await, lab.store().await);
    let mut handles = Vec::new();
    for store in [&one, &one, &two, &two] {
        handles.push(tokio::spawn(count(partition(store, "j1"), 8)));
    }
    let mut versions = Vec::new();
    for handle in handles {
        versions.extend(handle.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=32).collect::<Vec<_>>());
    let found = secrets(&partition(&lab.store().await, "j1")).await;
    assert_eq!(found[0].1, "32");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_dropped_half_way_leaves_a_usable_handle() {
    let store = Lab::new().store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t0000", "x")]).await;
    for polls in 0..12 {
        let at = version(&partition).await;
        let mut commit = Box::pin(partition.commit(puts(0..150, "y"), at));
        for _ in 0..polls {
            let poll = std::future::poll_fn(|context| {
                std::task::Poll::Ready(commit.as_mut().poll(context).is_ready())
            });
            if poll.await {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(commit);
        let found = secrets(&partition).await;
        assert!(found.len() == 1 || found.len() == 150, "{}", found.len());
    }
}

#[tokio::test]
async fn a_stuck_random_number_generator_and_clock_repeat_no_nonce() {
    let lab = Lab::new();
    let stopped = Sources::new(
        || Timestamp::UNIX_EPOCH,
        |out| {
            out.fill(0);
            Ok(())
        },
    );
    let store = lab.open_with(lab.anchor.clone(), 1, stopped).await.unwrap();
    let partition = partition(&store, "j1");
    let mut nonces = HashSet::new();
    for round in 0..10 {
        put(
            &partition,
            &[("t1", &format!("round {round}")), ("t2", "the same again")],
        )
        .await;
        for sk in lab.keys(PK, "task") {
            let nonce = format!("{:?}", lab.rows(PK)[&sk]["content_nonce"]);
            assert!(nonces.insert(nonce));
        }
    }
}

#[tokio::test]
async fn a_broken_random_number_generator_encrypts_nothing() {
    static WORKS: AtomicBool = AtomicBool::new(true);
    let lab = Lab::new();
    let broken = Sources::new(Timestamp::now, |out| match WORKS.load(Ordering::SeqCst) {
        false => Err(worldcompute_fault::Fault::new(
            worldcompute_fault::Category::InternalFailure,
            "crypto_failed",
            "no entropy",
        )),
        true => random(out),
    });
    let store = lab.open_with(lab.anchor.clone(), 1, broken).await.unwrap();
    WORKS.store(false, Ordering::SeqCst);
    let partition = partition(&store, "j1");
    let fault = partition
        .commit(puts(0..1, "x"), PartitionVersion::NONE)
        .await
        .unwrap_err();
    assert_eq!(fault.code(), "crypto_failed");
    assert!(partition.load().await.unwrap().is_none());
}

#[tokio::test]
async fn lists_are_by_kind_and_status_and_follow_changes() {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x"), ("t2", "x")]).await;
    let peer = store.partition(Kind::PEER, "p1").unwrap();
    put(&peer, &[("t1", "x")]).await;
    let ids = |hints: Vec<Hint>| hints.into_iter().map(|hint| hint.id).collect::<Vec<_>>();
    assert_eq!(
        ids(store.list(Kind::JOB, "open").await.unwrap()),
        ["t1", "t2"]
    );
    let hints = store.list(Kind::PEER, "open").await.unwrap();
    assert_eq!(
        (hints[0].partition.to_string(), &*hints[0].entity_type),
        ("peer#p1".to_owned(), "task")
    );
    let mut batch = Batch::new();
    let mut hidden = task("t1", "x");
    hidden.clear.status = "hidden".to_owned();
    batch.put(hidden).unwrap().remove::<Task>("t2").unwrap();
    let at = version(&partition(&store, "j1")).await;
    partition(&store, "j1").commit(batch, at).await.unwrap();
    assert_eq!(ids(store.list(Kind::JOB, "open").await.unwrap()), [""; 0]);
}

#[tokio::test]
async fn a_partition_takes_so_many_records_and_no_more() {
    let scope = Scope {
        store: "s1".to_owned(),
        key: partition(&Lab::new().store().await, "j1").key().clone(),
    };
    let mut manifest = Manifest::empty(BTreeSet::new());
    let fits = |manifest: &Manifest, batch: Batch| {
        plan::resolve(&scope, manifest, batch.changes).map(|steps| steps.len())
    };
    for id in 0..MAX_PARTITION_RECORDS - 1 {
        let record = RecordId::new("other", &format!("o{id}")).unwrap();
        let listed = Listed {
            version: 1,
            seal: [0; 16],
        };
        manifest.insert(
            record,
            format!("{id}").into(),
            listed,
            Timestamp::UNIX_EPOCH,
            1,
        );
    }
    assert_eq!(fits(&manifest, inserts(0..1, "x")).unwrap(), 1);
    let fault = fits(&manifest, inserts(0..2, "x")).unwrap_err();
    assert_eq!(fault.code(), "partition_full");
}

#[tokio::test]
async fn handles_of_one_partition_share_what_they_know() {
    let lab = Lab::new();
    let store = lab.store().await;
    let (one, two) = (partition(&store, "j1"), partition(&store, "j1"));
    let at = one
        .commit(puts(0..1, "x"), PartitionVersion::NONE)
        .await
        .unwrap();
    two.commit(puts(0..1, "y"), at).await.unwrap();
    let fault = one.commit(puts(0..1, "z"), at).await.unwrap_err();
    assert_eq!(fault.code(), "state_contention");
}

#[tokio::test]
async fn sort_keys_do_not_collide_when_the_clock_stands_still_or_goes_back() {
    let lab = Lab::new();
    let stopped = || Sources::new(|| Timestamp::UNIX_EPOCH, random);
    let store = lab
        .open_with(lab.anchor.clone(), 1, stopped())
        .await
        .unwrap();
    partition(&store, "j1")
        .commit(inserts(0..50, "x"), PartitionVersion::NONE)
        .await
        .unwrap();
    assert_eq!(lab.keys(PK, "task").len(), 50);
    // A process whose clock starts over meets its own names, and gives way.
    let again = lab
        .open_with(lab.anchor.clone(), 1, stopped())
        .await
        .unwrap();
    let partition = partition(&again, "j1");
    let at = version(&partition).await;
    partition.commit(inserts(50..60, "y"), at).await.unwrap();
    assert_eq!(secrets(&partition).await.len(), 60);
    for row in lab
        .rows(PK)
        .values()
        .filter(|row| text(row, "entity_type") == "task")
    {
        assert!(text(row, "sk").starts_with("task#1970-01-01T00:00:00.0000"));
    }
}

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u16>, u8),
    Remove(Vec<u16>),
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let ids = || {
        prop_oneof![
            3 => prop::collection::vec(0_u16..200, 1..20),
            1 => (0_u16..100, 1_u16..160).prop_map(|(from, count)| (from..from + count).collect()),
        ]
    };
    let op = prop_oneof![
        5 => (ids(), any::<u8>()).prop_map(|(ids, secret)| Op::Put(ids, secret)),
        2 => ids().prop_map(Op::Remove),
        1 => Just(Op::Reopen),
    ];
    prop::collection::vec(op, 1..8)
}

async fn behaves_like_a_map(ops: Vec<Op>) {
    let lab = Lab::new();
    let mut store = lab.store().await;
    let mut handle = partition(&store, "j1");
    let mut model = BTreeMap::new();
    let mut at = PartitionVersion::NONE;
    for op in ops {
        let mut batch = Batch::new();
        match op {
            Op::Put(ids, secret) => {
                for id in ids.into_iter().collect::<HashSet<_>>() {
                    let (id, secret) = (format!("t{id}"), secret.to_string());
                    batch.put(task(id.clone(), secret.clone())).unwrap();
                    model.insert(id, secret);
                }
            }
            Op::Remove(ids) => {
                for id in ids.into_iter().collect::<HashSet<_>>() {
                    if model.remove(&format!("t{id}")).is_some() {
                        batch.remove::<Task>(&format!("t{id}")).unwrap();
                    }
                }
            }
            Op::Reopen => {
                store = lab.store().await;
                handle = partition(&store, "j1");
            }
        }
        at = handle.commit(batch, at).await.unwrap();
        let stranger = lab.open(Arc::new(Anchor::memory()), 1).await.unwrap();
        if at != PartitionVersion::NONE {
            let found = secrets(&partition(&stranger, "j1")).await;
            assert_eq!(found, model.clone().into_iter().collect::<Vec<_>>());
            assert_eq!(
                lab.keys(PK, "task").len(),
                model.len(),
                "nothing is left behind"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_partition_behaves_like_a_map(ops in ops()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(behaves_like_a_map(ops));
    }
}
