//! Keys that are replaced, retired and destroyed, and somebody who has kept copies of everything and can write the table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use dynoxide::AttributeValue;
use worldcompute_fault::{Category, Fault};

use crate::anchor::Anchor;
use crate::attacks::changed;
use crate::identity::MAX_EPOCHS;
use crate::keyring::MAX_DATA_KEYS;
use crate::keys::{KekContext, KeyError};
use crate::lab::{
    Item, Lab, Meddling, MemoryKey, Task, partition, put, secrets, task, text, version,
};
use crate::{Batch, Partition, PartitionVersion, Store, StoreConfig, StorePath};

const PK: &str = "job#j1";

async fn load_fails(store: &Store, id: &str) -> Fault {
    let Err(fault) = partition(store, id).load().await else {
        panic!("{id} was believed");
    };
    fault
}

fn number(row: &Item, name: &str) -> u64 {
    match &row[name] {
        AttributeValue::N(text) => text.parse().unwrap(),
        other => panic!("{name} is {other:?}"),
    }
}

/// A partition with two records, the first of them under its first data key, the second under its second.
async fn rotated() -> (Lab, Store) {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "first")]).await;
    partition.rotate().await.unwrap();
    put(&partition, &[("t2", "second")]).await;
    (lab, store)
}

fn record(lab: &Lab, id: &str) -> Item {
    let keys = lab.keys(PK, "task");
    let sk = keys.iter().find(|sk| sk.ends_with(id)).unwrap();
    lab.rows(PK)[sk].clone()
}

#[tokio::test]
async fn after_a_rotation_old_records_are_read_and_new_ones_are_under_the_new_key() {
    let (lab, store) = rotated().await;
    assert_eq!(text(&record(&lab, "t1"), "key_id"), "dek#j1#1");
    assert_eq!(text(&record(&lab, "t2"), "key_id"), "dek#j1#2");
    let rows = lab.rows(PK);
    assert_eq!(text(&rows["dek#0001"], "status"), "decrypt-only");
    assert_eq!(text(&rows["dek#0002"], "status"), "active");
    assert_eq!(text(&rows["manifest"], "key_id"), "dek#j1#2");
    assert_eq!(number(&rows["manifest"], "min_dek"), 1);
    for store in [store, lab.stranger().await] {
        assert_eq!(secrets(&partition(&store, "j1")).await.len(), 2);
    }
}

#[tokio::test]
async fn a_record_whose_status_changes_leaves_its_old_key_which_is_then_destroyed() {
    let (lab, store) = rotated().await;
    let partition = partition(&store, "j1");
    let snapshot = partition.load().await.unwrap().unwrap();
    let stored = snapshot.get::<Task>("t1").unwrap().unwrap();
    let mut batch = Batch::new();
    let clear = stored.value().clear.clone();
    batch.update_clear(&stored, clear).unwrap();
    partition.commit(batch, snapshot.version()).await.unwrap();
    assert_eq!(text(&record(&lab, "t1"), "key_id"), "dek#j1#2");
    assert_eq!(lab.keys(PK, "dek"), ["dek#0002"]);
    assert_eq!(number(&lab.rows(PK)["manifest"], "min_dek"), 2);
    let found = secrets(&crate::lab::partition(&lab.stranger().await, "j1")).await;
    assert_eq!(found[0], ("t1".to_owned(), "first".to_owned()));
    // Who still has a snapshot still has the key.
    let stored = snapshot.get::<Task>("t1").unwrap().unwrap();
    assert_eq!(stored.value().secret, "first");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_the_manifest_keep_their_key_alive_until_they_are_written_again() {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    let all = |secret: &str| {
        let mut batch = Batch::new();
        for id in 0..200 {
            batch.put(task(format!("t{id:03}"), secret)).unwrap();
        }
        batch
    };
    let at = partition.commit(all("old"), PartitionVersion::NONE).await;
    at.unwrap();
    let at = partition.rotate().await.unwrap();
    let at = partition.commit(all("new"), at).await.unwrap();
    assert_eq!(lab.keys(PK, "dek"), ["dek#0002"]);
    let mut batch = Batch::new();
    batch.remove::<Task>("t000").unwrap();
    partition.rotate().await.unwrap();
    partition
        .commit(batch, PartitionVersion::new(at.get() + 1))
        .await
        .unwrap();
    assert_eq!(lab.keys(PK, "dek"), ["dek#0002", "dek#0003"]);
    let found = secrets(&crate::lab::partition(&lab.stranger().await, "j1")).await;
    assert_eq!(found.len(), 199);
}

#[tokio::test]
async fn a_destroyed_key_that_is_put_back_opens_nothing_and_is_swept_again() {
    let (lab, store) = rotated().await;
    let (key, old) = (lab.rows(PK)["dek#0001"].clone(), record(&lab, "t1"));
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "newer")]).await;
    assert_eq!(lab.keys(PK, "dek"), ["dek#0002"]);
    lab.put(&key);
    let snapshot = partition.load().await.unwrap().unwrap();
    assert_eq!(snapshot.uncommitted(), ["dek#0001"]);
    put(&partition, &[("t2", "newer")]).await;
    assert_eq!(lab.keys(PK, "dek"), ["dek#0002"]);
    lab.put(&key);
    lab.put(&old);
    let fault = load_fails(&store, "j1").await;
    assert_eq!(fault.code(), "manifest_mismatch");
}

#[tokio::test]
async fn a_record_that_is_redirected_to_another_data_key_is_refused() {
    for (id, key) in [("t1", "dek#j1#2"), ("t2", "dek#j1#1")] {
        let (lab, store) = rotated().await;
        let mut row = record(&lab, id);
        row.insert("key_id".to_owned(), AttributeValue::S(key.to_owned()));
        lab.put(&row);
        assert_eq!(load_fails(&store, "j1").await.code(), "seal_mismatch");
    }
}

#[tokio::test]
async fn the_manifest_and_not_a_rows_status_says_which_key_is_active() {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "x")]).await;
    let active = lab.rows(PK)["dek#0001"].clone();
    partition.rotate().await.unwrap();
    // The row from when the first key was the active one.
    lab.put(&active);
    put(&partition, &[("t2", "x")]).await;
    assert_eq!(text(&record(&lab, "t2"), "key_id"), "dek#j1#2");
}

#[tokio::test]
async fn a_data_key_that_the_manifest_does_not_name_encrypts_nothing() {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    let before = lab.rows(PK);
    partition(&store, "j1").rotate().await.unwrap();
    // The partition as it was, with a key from later.
    before.values().for_each(|row| lab.put(row));
    let partition = partition(&lab.stranger().await, "j1");
    put(&partition, &[("t2", "x")]).await;
    assert_eq!(text(&record(&lab, "t2"), "key_id"), "dek#j1#1");
    partition.rotate().await.unwrap();
    put(&partition, &[("t3", "x")]).await;
    assert_eq!(text(&record(&lab, "t3"), "key_id"), "dek#j1#3");
}

#[tokio::test]
async fn a_new_data_key_that_is_taken_away_or_swapped_for_the_old_one_is_missed() {
    let (lab, store) = rotated().await;
    let new = lab.rows(PK)["dek#0002"].clone();
    lab.delete(&new);
    assert_eq!(load_fails(&store, "j1").await.code(), "key_check_mismatch");
    let mut old = lab.rows(PK)["dek#0001"].clone();
    old.insert("sk".to_owned(), new["sk"].clone());
    lab.put(&old);
    assert_eq!(load_fails(&store, "j1").await.code(), "commitment_mismatch");
}

#[tokio::test]
async fn a_partition_from_before_its_rotation_is_refused_by_who_saw_it_later() {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "x")]).await;
    let before = lab.dump();
    partition.rotate().await.unwrap();
    lab.restore(&before);
    assert_eq!(load_fails(&store, "j1").await.code(), "version_rolled_back");
}

#[tokio::test]
async fn who_has_missed_a_rotation_writes_nothing_under_the_old_key() {
    let lab = Lab::new();
    let (ours, theirs) = (lab.store().await, lab.store().await);
    let (ours, theirs) = (partition(&ours, "j1"), partition(&theirs, "j1"));
    let at = put(&ours, &[("t1", "x")]).await;
    theirs.load().await.unwrap();
    ours.rotate().await.unwrap();
    let mut batch = Batch::new();
    batch.insert(task("t2", "x")).unwrap();
    let fault = theirs.commit(batch, at).await.unwrap_err();
    assert_eq!(fault.code(), "state_contention");
    put(&theirs, &[("t2", "x")]).await;
    assert_eq!(text(&record(&lab, "t2"), "key_id"), "dek#j1#2");
}

#[tokio::test]
async fn a_partition_without_any_commit_has_no_key_to_rotate() {
    let lab = Lab::new();
    let partition = partition(&lab.store().await, "j1");
    assert_eq!(partition.rotate().await.unwrap(), PartitionVersion::NONE);
    assert!(lab.rows(PK).is_empty());
}

#[tokio::test]
async fn no_data_key_encrypts_more_than_the_cap() {
    let lab = Lab::new();
    let cap = 5;
    let config = StoreConfig::new(StorePath::Memory).max_encryptions_per_key(cap);
    let keys = Arc::new(MemoryKey([1; 32]));
    let store = lab.try_store_with(config, keys).await.unwrap();
    let partition = partition(&store, "j1");
    for round in 0..10 {
        put(&partition, &[("t1", "x"), ("t2", "x")]).await;
        let root = lab.rows(PK)["manifest"].clone();
        assert!(number(&root, "encryptions") <= cap);
        let key = format!("dek#j1#{}", 1 + round / 2);
        assert_eq!(text(&root, "key_id"), key);
        assert_eq!(text(&record(&lab, "t1"), "key_id"), key);
    }
    // It is never split, so it has a key of its own.
    let mut batch = Batch::new();
    for id in 0..7 {
        batch.put(task(format!("t{id}"), "x")).unwrap();
    }
    let at = version(&partition).await;
    partition.commit(batch, at).await.unwrap();
    let root = lab.rows(PK)["manifest"].clone();
    assert_eq!(number(&root, "encryptions"), 7);
    assert_eq!(
        lab.keys(PK, "dek"),
        [text(&root, "key_id").replace("j1#", "000")]
    );
}

#[tokio::test]
async fn a_commit_whose_rotation_was_not_remembered_does_not_say_that_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("anchor");
    let lab = Lab {
        anchor: Arc::new(Anchor::file_with(&path, 0).unwrap()),
        ..Lab::new()
    };
    let config = StoreConfig::new(StorePath::Memory).max_encryptions_per_key(2);
    let keys = Arc::new(MemoryKey([1; 32]));
    let store = lab.try_store_with(config, keys).await.unwrap();
    let partition = partition(&store, "j1");
    let commit = async |id: &str, at: u64| {
        let mut batch = Batch::new();
        batch.put(task(id, "x")).unwrap();
        let done = partition.commit(batch, PartitionVersion::new(at)).await;
        done.map_err(|fault| fault.code().to_owned())
    };
    commit("t1", 0).await.unwrap();
    // The anchor cannot be written anew where a folder is in its way.
    let obstacle = dir.path().join("anchor.new");
    std::fs::create_dir(&obstacle).unwrap();
    assert_eq!(commit("t2", 1).await.unwrap_err(), "commit_not_anchored");
    assert_eq!(version(&partition).await.get(), 2);
    assert_eq!(commit("t3", 2).await.unwrap_err(), "rotation_not_anchored");
    let fault = partition.rotate().await.unwrap_err();
    assert_eq!(fault.code(), "rotation_not_anchored");
    assert_eq!(lab.keys(PK, "dek").len(), 3);
    std::fs::remove_dir(&obstacle).unwrap();
    assert_eq!(secrets(&partition).await.len(), 2);
    commit("t3", 4).await.unwrap();
    assert_eq!(secrets(&partition).await.len(), 3);
}

#[tokio::test]
async fn a_partition_has_so_many_data_keys_and_no_more() {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    for id in 1..=MAX_DATA_KEYS {
        put(&partition, &[(&format!("t{id}"), "x")]).await;
        if id < MAX_DATA_KEYS {
            partition.rotate().await.unwrap();
        }
    }
    let fault = partition.rotate().await.unwrap_err();
    assert_eq!(fault.code(), "too_many_data_keys");
    assert_eq!(secrets(&partition).await.len(), MAX_DATA_KEYS);
    let spare = lab.rows(PK)["dek#0001"].clone();
    put(&partition, &[("t1", "again")]).await;
    partition.rotate().await.unwrap();
    lab.put(&spare);
    let fault = load_fails(&store, "j1").await;
    assert_eq!(fault.code(), "attributes_malformed");
    lab.delete(&spare);
    assert_eq!(secrets(&partition).await.len(), MAX_DATA_KEYS);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_that_race_with_commits_and_each_other_lose_nothing() {
    let lab = Lab::new();
    put(&partition(&lab.store().await, "j1"), &[("t0", "x")]).await;
    let mut tasks = Vec::new();
    for number in 1..=6 {
        let partition = partition(&lab.store().await, "j1");
        tasks.push(tokio::spawn(async move {
            let id = format!("t{number}");
            while let Err(fault) = partition.rotate().await {
                assert_eq!(fault.code(), "state_contention");
            }
            while committed(&partition, &id).await.is_none() {}
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let found = secrets(&partition(&lab.stranger().await, "j1")).await;
    assert_eq!(found.len(), 7);
    assert_eq!(number(&lab.rows(PK)["manifest"], "partition_version"), 13);
}

/// `None` when somebody else was quicker.
async fn committed(partition: &Partition, id: &str) -> Option<PartitionVersion> {
    let at = match partition.load().await {
        Ok(snapshot) => snapshot?.version(),
        Err(fault) => {
            assert_eq!(fault.code(), "partition_erased");
            return None;
        }
    };
    let mut batch = Batch::new();
    batch.insert(task(id, "x")).unwrap();
    match partition.commit(batch, at).await {
        Ok(at) => Some(at),
        Err(fault) => {
            assert_eq!(fault.code(), "state_contention");
            None
        }
    }
}

// Epochs.

#[tokio::test]
async fn a_new_epoch_reaches_a_partition_when_it_is_next_written_and_all_when_the_old_one_is_retired()
 {
    let lab = Lab::new();
    let store = lab.store().await;
    for id in ["j1", "j2"] {
        put(&partition(&store, id), &[("t1", "x")]).await;
    }
    let epoch = |pk: &str| number(&lab.rows(pk)["dek#0001"], "kek_epoch");
    assert_eq!(store.rotate_kek().await.unwrap(), 2);
    assert_eq!((epoch(PK), epoch("job#j2")), (1, 1));
    put(&partition(&store, "j1"), &[("t2", "x")]).await;
    assert_eq!((epoch(PK), epoch("job#j2")), (2, 1));
    for store in [&store, &lab.store().await, &lab.stranger().await] {
        assert_eq!(secrets(&partition(store, "j2")).await.len(), 1);
    }
    assert_eq!(store.retire_keks().await.unwrap(), 1);
    assert_eq!((epoch(PK), epoch("job#j2")), (2, 2));
    assert_eq!(store.retire_keks().await.unwrap(), 0);
    for store in [&store, &lab.store().await, &lab.stranger().await] {
        assert_eq!(secrets(&partition(store, "j1")).await.len(), 2);
        assert_eq!(secrets(&partition(store, "j2")).await.len(), 1);
    }
}

#[tokio::test]
async fn a_data_key_under_a_retired_epoch_is_refused_by_everybody() {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    let old = lab.rows(PK)["dek#0001"].clone();
    store.rotate_kek().await.unwrap();
    lab.put(&old);
    assert_eq!(secrets(&partition(&store, "j1")).await.len(), 1);
    store.retire_keks().await.unwrap();
    lab.put(&old);
    for store in [&store, &lab.store().await, &lab.stranger().await] {
        let fault = load_fails(store, "j1").await;
        assert_eq!(fault.code(), "key_epoch_retired");
    }
}

#[tokio::test]
async fn an_old_row_of_the_store_that_is_put_back_is_refused() {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    let first = lab.rows("store")["meta"].clone();
    store.rotate_kek().await.unwrap();
    let second = lab.rows("store")["meta"].clone();
    store.retire_keks().await.unwrap();
    for row in [&first, &second] {
        lab.put(row);
        let fault = lab.open(lab.anchor.clone(), 1).await.unwrap_err();
        assert_eq!(fault.code(), "version_rolled_back");
        let fault = store.rotate_kek().await.unwrap_err();
        assert_eq!(fault.code(), "version_rolled_back");
    }
    // Who has never seen the store cannot know, but cannot use what has moved on either.
    lab.put(&first);
    let fault = load_fails(&lab.stranger().await, "j1").await;
    assert_eq!(fault.code(), "attributes_malformed");
}

#[tokio::test]
async fn a_process_that_has_missed_the_end_of_an_epoch_leaves_no_key_under_it() {
    let lab = Lab::new();
    let (ours, stale) = (lab.store().await, lab.store().await);
    put(&partition(&ours, "j1"), &[("t1", "x")]).await;
    partition(&stale, "j1").load().await.unwrap();
    ours.rotate_kek().await.unwrap();
    ours.retire_keks().await.unwrap();
    let insert = || {
        let mut batch = Batch::new();
        batch.insert(task("t2", "x")).unwrap();
        batch
    };
    let new = partition(&stale, "j2");
    let fault = new
        .commit(insert(), PartitionVersion::NONE)
        .await
        .unwrap_err();
    assert_eq!(fault.code(), "state_contention");
    assert!(lab.rows("job#j2").is_empty());
    new.commit(insert(), PartitionVersion::NONE).await.unwrap();
    let epoch = number(&lab.rows("job#j2")["dek#0001"], "kek_epoch");
    assert_eq!(epoch, 2);
    for store in [&ours, &lab.stranger().await] {
        assert_eq!(secrets(&partition(store, "j2")).await.len(), 1);
    }
}

#[tokio::test]
async fn a_stale_process_learns_of_a_new_epoch_from_what_it_reads_and_from_what_it_rotates() {
    let lab = Lab::new();
    let (ours, reader, rotator) = (lab.store().await, lab.store().await, lab.store().await);
    put(&partition(&ours, "j1"), &[("t1", "x")]).await;
    ours.rotate_kek().await.unwrap();
    let fault = partition(&rotator, "j1").rotate().await.unwrap_err();
    assert_eq!(fault.code(), "state_contention");
    partition(&rotator, "j1").rotate().await.unwrap();
    assert_eq!(number(&lab.rows(PK)["dek#0002"], "kek_epoch"), 2);
    assert_eq!(secrets(&partition(&reader, "j1")).await.len(), 1);
}

#[tokio::test]
async fn an_epoch_is_not_retired_while_a_data_key_is_not_to_be_had() {
    let lab = Lab::new();
    let store = lab.store().await;
    for id in ["j1", "j2"] {
        put(&partition(&store, id), &[("t1", "x")]).await;
    }
    store.rotate_kek().await.unwrap();
    let good = lab.rows("job#j2")["dek#0001"].clone();
    let mut bad = good.clone();
    bad.insert("wrapped".to_owned(), AttributeValue::B(vec![0; 48]));
    lab.put(&bad);
    let fault = store.retire_keks().await.unwrap_err();
    assert_eq!(fault.code(), "tag_mismatch");
    assert!(!lab.rows("store")["meta"].contains_key("min_kek_epoch"));
    lab.put(&good);
    store.retire_keks().await.unwrap();
    assert_eq!(secrets(&partition(&store, "j2")).await.len(), 1);
}

#[tokio::test]
async fn so_many_epochs_are_in_use_and_no_more() {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    for epoch in 2..=MAX_EPOCHS {
        assert_eq!(store.rotate_kek().await.unwrap(), epoch);
    }
    let fault = store.rotate_kek().await.unwrap_err();
    assert_eq!(fault.code(), "too_many_key_epochs");
    store.retire_keks().await.unwrap();
    assert_eq!(store.rotate_kek().await.unwrap(), MAX_EPOCHS + 1);
    assert_eq!(
        secrets(&partition(&lab.stranger().await, "j1")).await.len(),
        1
    );
}

#[tokio::test]
async fn of_two_that_begin_an_epoch_at_a_time_one_does() {
    let lab = Lab::new();
    let (one, two) = (lab.store().await, lab.store().await);
    let (one, two) = tokio::join!(one.rotate_kek(), two.rotate_kek());
    let mut outcomes = [one, two].map(|done| done.map_err(|fault| fault.code().to_owned()));
    outcomes.sort();
    let contention = Err("state_contention".to_owned());
    assert!(
        outcomes == [Ok(2), contention] || outcomes == [Ok(2), Ok(3)],
        "{outcomes:?}"
    );
}

/// Counts what it is asked for.
#[derive(Default)]
struct Counting(AtomicUsize);

#[async_trait]
impl Meddling for Counting {
    async fn deriving(&self, context: &KekContext) -> Result<KekContext, KeyError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(context.clone())
    }
}

#[tokio::test]
async fn whoever_names_epochs_that_never_were_has_the_provider_asked_for_none_of_them() {
    let (lab, keys) = (Lab::new(), Arc::new(Counting::default()));
    let config = StoreConfig::new(StorePath::Memory);
    let store = lab.try_store_with(config, keys.clone()).await.unwrap();
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    let row = lab.rows(PK)["dek#0001"].clone();
    let asked = keys.0.load(Ordering::SeqCst);
    for epoch in ["0", "2", "999", "18446744073709551615"] {
        let mut other = row.clone();
        other.insert("kek_epoch".to_owned(), AttributeValue::N(epoch.to_owned()));
        lab.put(&other);
        let code = load_fails(&store, "j1").await.code().to_owned();
        assert!(
            ["attributes_malformed", "key_epoch_retired"].contains(&&*code),
            "{code}"
        );
    }
    assert_eq!(keys.0.load(Ordering::SeqCst), asked);
}

// Erasure.

/// The partition's rows among all.
fn ours(rows: &[Item]) -> impl Iterator<Item = &Item> {
    rows.iter().filter(|row| text(row, "pk") == PK)
}

/// An erased partition, and all that the table had before.
async fn erased() -> (Lab, Store, Vec<Item>) {
    let (lab, store) = rotated().await;
    let before = lab.dump();
    partition(&store, "j1").erase().await.unwrap();
    (lab, store, before)
}

#[tokio::test]
async fn an_erased_partition_is_a_tombstone_and_takes_nothing() {
    let (lab, store, _) = erased().await;
    assert_eq!(lab.keys(PK, ""), ["manifest"]);
    for store in [&store, &lab.store().await, &lab.stranger().await] {
        let partition = partition(store, "j1");
        let none = PartitionVersion::NONE;
        assert_eq!(load_fails(store, "j1").await.code(), "partition_erased");
        assert_eq!(
            partition.rotate().await.unwrap_err().code(),
            "partition_erased"
        );
        for size in [1, 300] {
            let mut batch = Batch::new();
            for id in 0..size {
                batch.insert(task(format!("t{id}"), "x")).unwrap();
            }
            let fault = partition.commit(batch, none).await.unwrap_err();
            assert_eq!(fault.code(), "partition_erased");
        }
    }
    assert_eq!(lab.keys(PK, ""), ["manifest"]);
}

#[tokio::test]
async fn an_erased_partition_that_is_put_back_around_its_tombstone_stays_erased() {
    let (lab, store, before) = erased().await;
    for row in ours(&before).filter(|row| text(row, "sk") != "manifest") {
        lab.put(row);
    }
    for store in [&store, &lab.stranger().await] {
        assert_eq!(load_fails(store, "j1").await.code(), "partition_erased");
    }
    let again = partition(&store, "j1").erase().await.unwrap();
    assert_eq!(again.erasure.data_keys_destroyed, 2);
    assert_eq!(lab.keys(PK, ""), ["manifest"]);
}

#[tokio::test]
async fn an_erased_partition_that_is_put_back_whole_is_refused_where_it_was_seen_erased() {
    let (lab, store, before) = erased().await;
    let tombstone = lab.rows(PK)["manifest"].clone();
    ours(&before).for_each(|row| lab.put(row));
    for store in [&store, &lab.store().await] {
        assert_eq!(load_fails(store, "j1").await.code(), "version_rolled_back");
    }
    // Who has never seen it cannot know, until the epoch of its keys is retired.
    let stranger = lab.stranger().await;
    assert_eq!(secrets(&partition(&stranger, "j1")).await.len(), 2);
    ours(&before).for_each(|row| lab.delete(row));
    lab.put(&tombstone);
    store.rotate_kek().await.unwrap();
    store.retire_keks().await.unwrap();
    ours(&before).for_each(|row| lab.put(row));
    let fault = load_fails(&lab.stranger().await, "j1").await;
    assert_eq!(fault.code(), "key_epoch_retired");
}

#[tokio::test]
async fn who_reads_a_tombstone_once_does_not_believe_what_is_put_back_later() {
    let (lab, _, before) = erased().await;
    let anchor = Arc::new(Anchor::memory());
    let witness = lab.open(anchor, 1).await.unwrap();
    assert_eq!(load_fails(&witness, "j1").await.code(), "partition_erased");
    ours(&before).for_each(|row| lab.put(row));
    assert_eq!(
        load_fails(&witness, "j1").await.code(),
        "version_rolled_back"
    );
}

#[tokio::test]
async fn a_tombstone_that_is_taken_away_is_missed() {
    let (lab, store, _) = erased().await;
    lab.delete(&lab.rows(PK)["manifest"]);
    assert_eq!(load_fails(&store, "j1").await.code(), "version_rolled_back");
}

#[tokio::test]
async fn every_changed_byte_of_a_tombstone_is_refused() {
    let (lab, store, _) = erased().await;
    let row = lab.rows(PK)["manifest"].clone();
    let mut changes = 0;
    for (attribute, value) in &row {
        for value in changed(value) {
            let mut other = row.clone();
            other.insert(attribute.clone(), value);
            lab.delete(&row);
            lab.put(&other);
            let fault = load_fails(&store, "j1").await;
            assert_eq!(
                fault.category(),
                Category::VerificationFailed,
                "{attribute}: {fault}"
            );
            lab.delete(&other);
            lab.put(&row);
            changes += 1;
        }
    }
    assert_eq!(changes, 86);
    let mut other = row.clone();
    other.insert("note".to_owned(), AttributeValue::BOOL(true));
    lab.put(&other);
    assert_eq!(
        load_fails(&store, "j1").await.code(),
        "attributes_malformed"
    );
}

#[tokio::test]
async fn a_tombstone_buries_no_other_partition_and_none_of_another_store() {
    let (lab, store, _) = erased().await;
    put(&partition(&store, "j2"), &[("t1", "x")]).await;
    let mut moved = lab.rows(PK)["manifest"].clone();
    moved.insert("pk".to_owned(), AttributeValue::S("job#j2".to_owned()));
    lab.put(&moved);
    assert_eq!(load_fails(&store, "j2").await.code(), "seal_mismatch");
    let (other, store) = rotated().await;
    other.put(&lab.rows(PK)["manifest"]);
    assert_eq!(load_fails(&store, "j1").await.code(), "seal_mismatch");
}

#[tokio::test]
async fn who_has_the_partition_open_while_it_is_erased_leaves_nothing_behind() {
    for size in [1, 300] {
        let (lab, store) = rotated().await;
        let late = partition(&lab.store().await, "j1");
        let at = version(&late).await;
        partition(&store, "j1").erase().await.unwrap();
        let mut batch = Batch::new();
        for id in 0..size {
            batch.put(task(format!("t{id}"), "too late")).unwrap();
        }
        let fault = late.commit(batch, at).await.unwrap_err();
        assert_eq!(fault.code(), "state_contention");
        assert_eq!(lab.keys(PK, ""), ["manifest"]);
        assert_eq!(late.load().await.unwrap_err().code(), "partition_erased");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_race_with_an_erasure_lose() {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t0", "x")]).await;
    let mut tasks = Vec::new();
    for number in 0..4 {
        let late = partition(&lab.store().await, "j1");
        tasks.push(tokio::spawn(async move {
            for round in 0.. {
                match late.load().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("nothing, not even a tombstone"),
                    Err(fault) => return fault,
                }
                committed(&late, &format!("t{number}-{round}")).await;
            }
            unreachable!()
        }));
    }
    partition(&store, "j1").erase().await.unwrap();
    for task in tasks {
        assert_eq!(task.await.unwrap().code(), "partition_erased");
    }
    assert_eq!(lab.keys(PK, ""), ["manifest"]);
}

#[tokio::test]
async fn a_partition_that_does_not_verify_is_erased_all_the_same() {
    let (lab, store) = rotated().await;
    for row in lab.rows(PK).values() {
        let mut other = row.clone();
        other.insert("seal".to_owned(), AttributeValue::L(Vec::new()));
        lab.put(&other);
    }
    assert!(partition(&store, "j1").load().await.is_err());
    let certificate = partition(&store, "j1").erase().await.unwrap();
    assert_eq!(certificate.erasure.data_keys_destroyed, 2);
    assert_eq!(lab.keys(PK, ""), ["manifest"]);
    assert_eq!(load_fails(&store, "j1").await.code(), "partition_erased");
}

#[tokio::test]
async fn a_large_partition_and_one_that_never_was_are_erased_and_once_is_enough() {
    let lab = Lab::new();
    let store = lab.store().await;
    let large = partition(&store, "j1");
    let mut batch = Batch::new();
    for id in 0..250 {
        batch.insert(task(format!("t{id}"), "x")).unwrap();
    }
    large.commit(batch, PartitionVersion::NONE).await.unwrap();
    let rows = lab.rows(PK).len() as u64;
    let first = large.erase().await.unwrap().erasure;
    assert_eq!(first.data_keys_destroyed + first.rows_deleted, rows - 1);
    let tombstone = lab.rows(PK)["manifest"].clone();
    let second = large.erase().await.unwrap().erasure;
    assert_eq!((second.data_keys_destroyed, second.rows_deleted), (0, 0));
    assert_eq!(second.erased_at, first.erased_at);
    assert_eq!(lab.rows(PK)["manifest"], tombstone);
    partition(&store, "never").erase().await.unwrap();
    assert_eq!(load_fails(&store, "never").await.code(), "partition_erased");
}
