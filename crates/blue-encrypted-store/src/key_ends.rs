//! What was destroyed, or belongs to an epoch that ends, is put back: before the epoch ends, meanwhile, and afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use dynoxide::AttributeValue;
use worldcompute_fault::{Category, Result};

use crate::anchor::Anchor;
use crate::kek::KeyLifetime;
use crate::keyring::MAX_DATA_KEYS;
use crate::keys::{DekContext, KekContext, KeyError};
use crate::lab::{Item, Lab, Meddling, MemoryKey, Task, partition, put, secrets, text};
use crate::verify::Problem;
use crate::{Batch, PartitionVersion, Store, StoreConfig, StorePath};

const PK: &str = "job#j1";

fn config() -> StoreConfig {
    StoreConfig::new(StorePath::Memory)
}

/// The same table on a machine without its anchor.
fn elsewhere(lab: &Lab) -> Lab {
    Lab {
        engine: lab.engine.clone(),
        anchor: Arc::new(Anchor::memory()),
    }
}

fn number(row: &Item, name: &str) -> u64 {
    match &row[name] {
        AttributeValue::N(text) => text.parse().unwrap(),
        other => panic!("{name} is {other:?}"),
    }
}

fn epochs(lab: &Lab) -> (u64, bool) {
    let own = lab.rows("store").remove("meta").unwrap();
    (number(&own, "kek_epoch"), own.contains_key("min_kek_epoch"))
}

async fn load_code(store: &Store) -> String {
    let loaded = partition(store, "j1").load().await;
    loaded
        .err()
        .map_or("done".to_owned(), |fault| fault.code().to_owned())
}

/// A partition that was erased, and its rows from before.
async fn erased() -> (Lab, Vec<Item>) {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    let before = lab.rows(PK).into_values().collect();
    partition(&store, "j1").erase().await.unwrap();
    (lab, before)
}

#[tokio::test]
async fn keys_that_lie_around_a_tombstone_when_an_epoch_ends_are_deleted_and_not_wrapped_anew() {
    let (lab, before) = erased().await;
    for row in before.iter().filter(|row| text(row, "sk") != "manifest") {
        lab.put(row);
    }
    let store = lab.stranger().await;
    store.rotate_kek().await.unwrap();
    assert_eq!(store.retire_keks().await.unwrap(), 0);
    assert_eq!(lab.keys(PK, ""), ["manifest"]);
}

#[tokio::test]
async fn an_epoch_does_not_end_while_an_erased_partition_is_there_again() {
    let (lab, before) = erased().await;
    before.iter().for_each(|row| lab.put(row));
    lab.store().await.rotate_kek().await.unwrap();
    // The audit knows where the anchor does not.
    for store in [lab.store().await, lab.stranger().await] {
        let fault = store.retire_keks().await.unwrap_err();
        assert_eq!(fault.code(), "version_rolled_back");
        assert_eq!(number(&lab.rows(PK)["dek#0001"], "kek_epoch"), 1);
        assert_eq!(epochs(&lab), (2, false));
    }
    let store = lab.store().await;
    partition(&store, "j1").erase().await.unwrap();
    store.retire_keks().await.unwrap();
    before.iter().for_each(|row| lab.put(row));
    assert_eq!(load_code(&lab.stranger().await).await, "key_epoch_retired");
}

#[tokio::test]
async fn a_destroyed_key_that_is_put_back_before_an_epoch_ends_is_destroyed_again() {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "x")]).await;
    let key = lab.rows(PK)["dek#0001"].clone();
    partition.rotate().await.unwrap();
    put(&partition, &[("t1", "y")]).await;
    lab.put(&key);
    store.rotate_kek().await.unwrap();
    assert_eq!(store.retire_keks().await.unwrap(), 1);
    assert_eq!(lab.keys(PK, "dek"), ["dek#0002"]);
    let found = secrets(&crate::lab::partition(&lab.stranger().await, "j1")).await;
    assert_eq!(found[0].1, "y");
}

#[tokio::test]
async fn no_row_is_left_under_a_data_key_that_is_destroyed_when_an_epoch_ends() {
    let lab = Lab::new();
    let store = lab.store().await;
    let handle = partition(&store, "j1");
    put(&handle, &[("t1", "x"), ("t2", "x")]).await;
    let before = lab.rows(PK);
    handle.rotate().await.unwrap();
    let mut batch = Batch::new();
    batch.remove::<Task>("t1").unwrap();
    let at = crate::lab::version(&handle).await;
    handle.commit(batch, at).await.unwrap();
    put(&handle, &[("t2", "y")]).await;
    assert_eq!(lab.keys(PK, "dek"), ["dek#0002"]);
    let rows = lab.keys(PK, "");
    let removed = before.keys().find(|sk| sk.ends_with("t1")).unwrap();
    lab.put(&before["dek#0001"]);
    lab.put(&before[removed]);
    store.rotate_kek().await.unwrap();
    store.retire_keks().await.unwrap();
    assert_eq!(lab.keys(PK, ""), rows);
}

#[tokio::test]
async fn an_epoch_does_not_end_while_a_partition_is_hidden() {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    store.rotate_kek().await.unwrap();
    let hidden = lab.rows(PK);
    hidden.values().for_each(|row| lab.delete(row));
    for store in [lab.store().await, lab.stranger().await] {
        let fault = store.retire_keks().await.unwrap_err();
        assert_eq!(fault.code(), "version_rolled_back");
    }
    hidden.values().for_each(|row| lab.put(row));
    assert_eq!(store.retire_keks().await.unwrap(), 1);
    assert_eq!(secrets(&partition(&store, "j1")).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_nothing_else_learns_in_time_that_an_epoch_was_retired() {
    let lab = Lab::new();
    let idle = lab.stranger().await;
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    let key = lab.rows(PK)["dek#0001"].clone();
    store.rotate_kek().await.unwrap();
    store.retire_keks().await.unwrap();
    lab.put(&key);
    tokio::time::advance(KeyLifetime::default().max_age).await;
    assert_eq!(load_code(&idle).await, "key_epoch_retired");
}

#[tokio::test]
async fn a_machine_that_is_told_the_least_epoch_needs_no_memory_of_its_own() {
    let lab = Lab::new();
    let store = lab.store().await;
    let first = lab.rows("store").remove("meta").unwrap();
    store.rotate_kek().await.unwrap();
    let second = lab.rows("store").remove("meta").unwrap();
    store.retire_keks().await.unwrap();
    let told = async || {
        let keys = Arc::new(MemoryKey([1; 32]));
        let machine = elsewhere(&lab);
        let opened = machine.try_store_with(config().min_key_epoch(2), keys);
        opened
            .await
            .map(drop)
            .map_err(|fault| fault.code().to_owned())
    };
    assert_eq!(told().await, Ok(()));
    for row in [first, second] {
        lab.put(&row);
        assert_eq!(told().await, Err("version_rolled_back".to_owned()));
    }
}

/// A master key that changes, a provider that gives one key for all epochs, and one that cannot open what it has wrapped.
#[derive(Default)]
struct Odd {
    changed: AtomicU8,
    same_for_all: AtomicU8,
    opens_nothing_after: AtomicU8,
}

#[async_trait]
impl Meddling for Odd {
    fn master_key(&self) -> u8 {
        1 + self.changed.load(Ordering::SeqCst)
    }

    async fn deriving(&self, context: &KekContext) -> Result<KekContext, KeyError> {
        let mut context = context.clone();
        match self.same_for_all.load(Ordering::SeqCst) {
            0 => {}
            // The key of epoch 0, or that of another one.
            epoch => context.epoch = context.epoch.min(u64::from(epoch) - 1),
        }
        Ok(context)
    }

    async fn unwrapping(&self, context: &DekContext) -> Result<(), KeyError> {
        let last = u64::from(self.opens_nothing_after.load(Ordering::SeqCst));
        match last > 0 && context.epoch > last {
            true => Err(KeyError::Tag),
            false => Ok(()),
        }
    }
}

async fn odd() -> (Lab, Arc<Odd>, Store) {
    let (lab, keys) = (Lab::new(), Arc::new(Odd::default()));
    let store = lab.try_store_with(config(), keys.clone()).await.unwrap();
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    (lab, keys, store)
}

#[tokio::test]
async fn no_epoch_begins_under_another_master_key_than_the_stores() {
    let (lab, keys, store) = odd().await;
    keys.changed.store(1, Ordering::SeqCst);
    let fault = store.rotate_kek().await.unwrap_err();
    assert_eq!(fault.code(), "encryption_key_changed");
    assert_eq!(epochs(&lab), (1, false));
    keys.changed.store(0, Ordering::SeqCst);
    assert_eq!(store.rotate_kek().await.unwrap(), 2);
}

#[tokio::test]
async fn no_epoch_begins_with_a_provider_that_gives_one_key_for_several() {
    // That of epoch 0 for all, and that of epoch 1 for all from then on.
    for deaf_from in [1, 2] {
        let (lab, keys, store) = odd().await;
        keys.same_for_all.store(deaf_from, Ordering::SeqCst);
        let fault = store.rotate_kek().await.unwrap_err();
        assert_eq!(fault.code(), "key_provider_unsound");
        assert_eq!(epochs(&lab), (1, false));
    }
}

#[tokio::test]
async fn a_provider_that_is_deaf_to_epochs_sets_nothing_up() {
    let (lab, keys) = (Lab::new(), Arc::new(Odd::default()));
    keys.same_for_all.store(1, Ordering::SeqCst);
    let fault = lab.try_store_with(config(), keys).await.unwrap_err();
    assert_eq!(fault.code(), "key_provider_unsound");
    assert!(lab.dump().is_empty());
}

#[tokio::test]
async fn a_wrapping_that_its_provider_cannot_open_replaces_none_that_it_can() {
    let (lab, keys, store) = odd().await;
    store.rotate_kek().await.unwrap();
    keys.opens_nothing_after.store(1, Ordering::SeqCst);
    let fault = store.retire_keks().await.unwrap_err();
    assert_eq!(fault.code(), "tag_mismatch");
    assert_eq!(number(&lab.rows(PK)["dek#0001"], "kek_epoch"), 1);
    assert_eq!(epochs(&lab), (2, false));
}

#[tokio::test]
async fn rows_around_a_tombstone_are_named() {
    let (lab, before) = erased().await;
    let around = before.iter().filter(|row| text(row, "sk") != "manifest");
    around.clone().for_each(|row| lab.put(row));
    let report = lab.stranger().await.verify(&[], &mut |_| {}).await.unwrap();
    let named: Vec<_> = report
        .findings
        .iter()
        .filter_map(|found| found.item.clone())
        .collect();
    let mut names: Vec<_> = around.map(|row| text(row, "sk").to_owned()).collect();
    names.sort_unstable();
    assert_eq!(named, names);
    assert!(
        report
            .findings
            .iter()
            .all(|found| found.problem == Problem::Extra)
    );
}

#[tokio::test]
async fn a_forged_epoch_is_a_finding_and_does_not_end_the_walk() {
    let lab = Lab::new();
    let store = lab.store().await;
    for id in ["j1", "j2"] {
        put(&partition(&store, id), &[("t1", "x")]).await;
    }
    let later = |mut row: Item| {
        row.insert("kek_epoch".to_owned(), AttributeValue::N("9".to_owned()));
        lab.put(&row);
    };
    later(lab.rows("store").remove("meta").unwrap());
    later(lab.rows(PK).remove("dek#0001").unwrap());
    let report = store.verify(&[], &mut |_| {}).await.unwrap();
    assert!(!report.is_sound());
    assert_eq!((report.partitions, report.records), (2, 1));
}

#[tokio::test]
async fn a_snapshot_gives_out_nothing_once_its_partition_is_erased() {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    let snapshot = partition(&store, "j1").load().await.unwrap().unwrap();
    assert_eq!(snapshot.entities::<Task>().unwrap().len(), 1);
    partition(&store, "j1").erase().await.unwrap();
    assert_eq!(
        snapshot.entities::<Task>().err().unwrap().code(),
        "partition_erased"
    );
    assert_eq!(
        snapshot.get::<Task>("t1").err().unwrap().code(),
        "partition_erased"
    );
}

#[tokio::test]
async fn who_has_never_heard_of_an_erased_partition_is_told_so_by_its_first_commit() {
    let (lab, _) = erased().await;
    for size in [1, 300] {
        let late = partition(&lab.stranger().await, "j1");
        let batch = crate::commits::puts(0..size, "x");
        let fault = late
            .commit(batch, PartitionVersion::NONE)
            .await
            .unwrap_err();
        assert_eq!(fault.code(), "partition_erased");
        assert_eq!(lab.keys(PK, ""), ["manifest"]);
    }
}

#[tokio::test]
async fn a_partition_with_as_many_keys_as_there_can_be_still_takes_records() {
    let lab = Lab::new();
    let keys = Arc::new(MemoryKey([1; 32]));
    let store = lab.try_store_with(config().max_encryptions_per_key(1), keys);
    let partition = partition(&store.await.unwrap(), "j1");
    for id in 0..MAX_DATA_KEYS + 3 {
        put(&partition, &[(&format!("t{id}"), "x")]).await;
    }
    assert_eq!(lab.keys(PK, "dek").len(), MAX_DATA_KEYS);
    assert_eq!(secrets(&partition).await.len(), MAX_DATA_KEYS + 3);
    let batch: Batch = crate::commits::puts(0..1, "x");
    let at = crate::lab::version(&partition).await;
    partition.commit(batch, at).await.unwrap();
}

fn with_number(row: &Item, name: &str, number: u64) -> Item {
    let number = AttributeValue::N(number.to_string());
    let mut row = row.clone();
    row.insert(name.to_owned(), number);
    row
}

#[tokio::test]
async fn a_row_of_the_store_that_was_changed_under_its_seal_is_signed_by_no_running_store() {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    store.rotate_kek().await.unwrap();
    store.retire_keks().await.unwrap();
    let sound = lab.rows("store").remove("meta").unwrap();
    let mut without_floor = sound.clone();
    without_floor.remove("min_kek_epoch");
    let mut of_another = sound.clone();
    let id = AttributeValue::S("00112233445566778899aabbccddeeff".to_owned());
    of_another.insert("store_id".to_owned(), id);
    let far_ahead = with_number(&sound, "kek_epoch", 1 << 60);
    for forged in [
        without_floor,
        of_another,
        with_number(&sound, "kek_epoch", 3),
        with_number(&far_ahead, "min_kek_epoch", 1 << 60),
    ] {
        lab.put(&forged);
        let faults = [
            store.rotate_kek().await.map(drop).unwrap_err(),
            store.retire_keks().await.map(drop).unwrap_err(),
        ];
        for fault in faults {
            assert_eq!(fault.category(), Category::VerificationFailed, "{fault}");
        }
        assert_eq!(lab.rows("store")["meta"], forged);
        lab.put(&sound);
        put(&partition(&store, "j1"), &[("t1", "y")]).await;
    }
    assert_eq!(load_code(&lab.stranger().await).await, "done");
}

#[tokio::test]
async fn an_epoch_does_not_end_on_the_word_of_a_row_that_claims_to_be_wrapped_anew() {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    store.rotate_kek().await.unwrap();
    let key = lab.rows(PK)["dek#0001"].clone();
    lab.put(&with_number(&key, "kek_epoch", 2));
    let fault = store.retire_keks().await.unwrap_err();
    assert_eq!(fault.category(), Category::VerificationFailed, "{fault}");
    assert_eq!(epochs(&lab), (2, false));
    lab.put(&key);
    assert_eq!(store.retire_keks().await.unwrap(), 1);
    assert_eq!(load_code(&lab.stranger().await).await, "done");
}

#[tokio::test]
async fn rows_that_were_never_committed_keep_no_epoch_alive() {
    let lab = Lab::new();
    let store = lab.store().await;
    let before = Lab::new().store().await;
    store.continue_audit_of(&before).await.unwrap();
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    store.rotate_kek().await.unwrap();
    for pk in ["aaa#x", "job#j0"] {
        let mut planted = lab.rows(PK)["dek#0001"].clone();
        planted.insert("pk".to_owned(), AttributeValue::S(pk.to_owned()));
        lab.put(&planted);
    }
    assert_eq!(store.retire_keks().await.unwrap(), 1);
    assert_eq!(epochs(&lab), (2, true));
}
