//! One suite for every engine: each case runs on the embedded engine in memory and in a file, and on the DynamoDB Local
//! that `DYNAMODB_ENDPOINT` names. A case asserts what must hold, and what it returns must be the same everywhere.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem};
use jiff::{SignedDuration, Timestamp};
use worldcompute_fault::Result;

use crate::anchor::Anchor;
use crate::audit::Lane;
use crate::commits::{interrupted, puts};
use crate::crypto::random;
use crate::embedded::Engine;
use crate::lab::{MemoryKey, Task, partition, put, secrets, task, version};
use crate::sources::Sources;
use crate::store::Ground;
use crate::table::{MAX_ACTIONS, Table};
use crate::{
    AuditReads, Batch, ChainReport, CrossPartition, CryptoAuditEvent, Entity, Kind, MAX_ITEM_BYTES,
    Operation, Partition, PartitionVersion, Store, StoreConfig, StorePath, client,
};

type Item = HashMap<String, AttributeValue>;
type Case = fn(Bench) -> Pin<Box<dyn Future<Output = Vec<String>> + Send>>;

const PK: &str = "job#j1";

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        const CASES: &[(&str, Case)] = &[$((stringify!($name), |bench| Box::pin($name(bench)))),*];
    };
}

cases![
    records_come_back_as_they_were,
    changes_and_removals_are_seen_by_a_stranger,
    batches_around_the_size_of_a_transaction_are_one_version,
    a_partition_of_several_pages_is_read_whole,
    the_largest_record_fits_and_a_larger_one_is_refused_by_its_field,
    items_are_limited_to_400_kilobytes,
    keys_are_limited_to_2048_and_1024_bytes,
    transactions_are_limited_to_100_actions_and_4_megabytes,
    an_outdated_commit_is_refused,
    of_two_first_commits_one_is_done,
    each_version_is_made_by_one_of_32_writers,
    an_interrupted_commit_changes_nothing_and_is_swept,
    what_was_changed_swapped_deleted_or_put_back_is_refused,
    rows_of_others_are_ignored_and_named,
    hints_follow_changes,
    another_key_and_another_owner_are_told_apart_from_tampering,
    all_who_set_up_at_once_open_the_same_store,
    a_missing_table_and_a_missing_store_are_named,
    a_clock_that_jumps_back_loses_nothing,
    a_new_data_key_takes_over_and_the_old_one_is_destroyed_when_nothing_needs_it,
    rotations_that_race_with_commits_lose_nothing,
    an_epoch_begins_reaches_every_key_and_ends,
    who_has_missed_the_end_of_an_epoch_leaves_no_key_behind,
    an_erased_partition_takes_nothing_and_stays_erased,
    commits_that_race_with_an_erasure_leave_nothing,
    a_partition_goes_into_a_file_and_comes_back_also_into_another_store,
    the_audit_is_whole_until_its_end_is_cut_off,
    strict_reads_are_on_record_before_anything_is_handed_out,
    payloads_of_a_padded_type_are_of_one_length,
];

/// An engine, and a table of its own for one case.
#[derive(Clone)]
struct Bench {
    client: Client,
    table: String,
    anchor: Arc<Anchor>,
}

impl Bench {
    fn new(client: &Client, case: &str) -> Self {
        let mut unique = [0; 8];
        random(&mut unique).unwrap();
        Self {
            client: client.clone(),
            table: format!("{case}-{}", hex::encode(unique)),
            anchor: Arc::new(Anchor::memory()),
        }
    }

    async fn open(&self, anchor: Arc<Anchor>, config: StoreConfig, key: u8) -> Result<Store> {
        self.open_with(anchor, config, key, Sources::system(), true)
            .await
    }

    async fn open_with(
        &self,
        anchor: Arc<Anchor>,
        config: StoreConfig,
        key: u8,
        sources: Sources,
        set_up: bool,
    ) -> Result<Store> {
        let ground = Ground {
            table: Table::new(self.client.clone(), &self.table),
            anchor,
            set_up,
        };
        Store::open_on(ground, config, Arc::new(MemoryKey([key; 32])), sources).await
    }

    /// On the machine that has always had it.
    async fn store(&self) -> Store {
        self.open(self.anchor.clone(), config(), 1).await.unwrap()
    }

    /// On a machine that has never seen it.
    async fn stranger(&self) -> Store {
        let anchor = Arc::new(Anchor::memory());
        self.open(anchor, config(), 1).await.unwrap()
    }

    async fn raw_put(&self, item: Item) -> String {
        let request = self.client.put_item().table_name(&self.table);
        answer(&request.set_item(Some(item)).send().await)
    }

    async fn raw_delete(&self, item: &Item) {
        let key = ["pk", "sk"].map(|name| (name.to_owned(), item[name].clone()));
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(key.into()))
            .build();
        let action = TransactWriteItem::builder().delete(delete.unwrap()).build();
        let request = self.client.transact_write_items();
        request.transact_items(action).send().await.unwrap();
    }

    async fn raw_transact(&self, items: Vec<Item>) -> String {
        let mut request = self.client.transact_write_items();
        for item in items {
            let put = Put::builder()
                .table_name(&self.table)
                .set_item(Some(item))
                .build();
            let action = TransactWriteItem::builder().put(put.unwrap()).build();
            request = request.transact_items(action);
        }
        answer(&request.send().await)
    }

    /// The rows of a partition, by sort key.
    async fn rows(&self) -> Vec<Item> {
        let pages = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(PK))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        pages.collect::<Result<Vec<_>, _>>().await.unwrap()
    }

    async fn records(&self) -> Vec<Item> {
        let mut rows = self.rows().await;
        rows.retain(|row| row["entity_type"] == text("task"));
        rows
    }

    /// Puts the partition back as it was.
    async fn restore(&self, rows: &[Item]) {
        for row in self.rows().await {
            self.raw_delete(&row).await;
        }
        for row in rows {
            self.raw_put(row.clone()).await;
        }
    }
}

fn config() -> StoreConfig {
    StoreConfig::new(StorePath::Memory)
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn item(pk: &str, sk: &str, bytes: usize) -> Item {
    [
        ("pk".to_owned(), text(pk)),
        ("sk".to_owned(), text(sk)),
        ("b".to_owned(), AttributeValue::B(vec![7; bytes].into())),
    ]
    .into()
}

/// `done`, or the code of the service's error.
fn answer<T, E: ProvideErrorMetadata, R>(result: &Result<T, SdkError<E, R>>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(error) => error.code().unwrap_or("no code").to_owned(),
    }
}

fn code<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(fault) => fault.code().to_owned(),
    }
}

async fn load_code(store: &Store) -> String {
    code(partition(store, "j1").load().await)
}

async fn records_come_back_as_they_were(bench: Bench) -> Vec<String> {
    let store = bench.store().await;
    let partition = partition(&store, "j1");
    assert!(partition.load().await.unwrap().is_none());
    let mut strange = task("t1", "a \"secret\" \u{1F512}\0 with everything");
    strange.clear.attempts = (1 << 53) - 1;
    strange.clear.score = -1.5e-9;
    strange.clear.reason = Some(String::new());
    let mut batch = Batch::new();
    batch.insert(strange.clone()).unwrap();
    batch.insert(task("t2", "")).unwrap();
    let at = partition.commit(batch, PartitionVersion::NONE).await;
    let found = bench.stranger().await;
    let snapshot = crate::lab::partition(&found, "j1").load().await;
    let snapshot = snapshot.unwrap().unwrap();
    let stored = snapshot.get::<Task>("t1").unwrap().unwrap();
    assert_eq!(*stored.value(), strange);
    vec![at.unwrap().to_string(), snapshot.len().to_string()]
}

async fn changes_and_removals_are_seen_by_a_stranger(bench: Bench) -> Vec<String> {
    let store = bench.store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "one"), ("t2", "two"), ("t3", "three")]).await;
    let snapshot = partition.load().await.unwrap().unwrap();
    let stored = snapshot.get::<Task>("t1").unwrap().unwrap();
    let mut clear = stored.value().clear.clone();
    clear.status = "closed".to_owned();
    let mut batch = Batch::new();
    batch.update_clear(&stored, clear).unwrap();
    batch.put(task("t2", "changed")).unwrap();
    batch.remove::<Task>("t3").unwrap();
    partition.commit(batch, snapshot.version()).await.unwrap();
    let stranger = bench.stranger().await;
    let found = secrets(&crate::lab::partition(&stranger, "j1")).await;
    let expected = [("t1", "one"), ("t2", "changed")];
    assert_eq!(
        found,
        expected.map(|(id, secret)| (id.to_owned(), secret.to_owned()))
    );
    vec![bench.rows().await.len().to_string()]
}

async fn batches_around_the_size_of_a_transaction_are_one_version(bench: Bench) -> Vec<String> {
    let store = bench.store().await;
    let partition = partition(&store, "j1");
    let mut at = PartitionVersion::NONE;
    let mut seen = Vec::new();
    for size in [1, MAX_ACTIONS - 1, MAX_ACTIONS, 230] {
        at = partition
            .commit(puts(0..size, &format!("size {size}")), at)
            .await
            .unwrap();
        let stranger = bench.stranger().await;
        let found = secrets(&crate::lab::partition(&stranger, "j1")).await;
        assert!(
            found
                .iter()
                .all(|(_, secret)| *secret == format!("size {size}"))
        );
        let rows = bench.records().await.len();
        seen.push(format!("{at}: {} records, {rows} rows", found.len()));
    }
    seen
}

async fn a_partition_of_several_pages_is_read_whole(bench: Bench) -> Vec<String> {
    let store = bench.store().await;
    let large = puts(0..30, &"x".repeat(40_000));
    partition(&store, "j1")
        .commit(large, PartitionVersion::NONE)
        .await
        .unwrap();
    let found = secrets(&partition(&bench.stranger().await, "j1")).await;
    assert!(found.iter().all(|(_, secret)| secret.len() == 40_000));
    vec![found.len().to_string()]
}

async fn the_largest_record_fits_and_a_larger_one_is_refused_by_its_field(
    bench: Bench,
) -> Vec<String> {
    let store = bench.store().await;
    let partition = partition(&store, "j1");
    let fits = |bytes: usize| {
        Batch::new()
            .insert(task("t1", "x".repeat(bytes)))
            .map(drop)
            .is_ok()
    };
    let (mut largest, mut too_large) = (0, MAX_ITEM_BYTES);
    while largest + 1 < too_large {
        let middle = usize::midpoint(largest, too_large);
        let bound = if fits(middle) {
            &mut largest
        } else {
            &mut too_large
        };
        *bound = middle;
    }
    put(&partition, &[("t1", &"x".repeat(largest))]).await;
    assert_eq!(secrets(&partition).await[0].1.len(), largest);
    let refused = Batch::new()
        .insert(task("t2", "x".repeat(largest + 1)))
        .err()
        .unwrap();
    assert!(refused.message().contains("the whole sealed half"));
    vec![largest.to_string(), refused.code().to_owned()]
}

async fn items_are_limited_to_400_kilobytes(bench: Bench) -> Vec<String> {
    bench.store().await;
    let mut seen = Vec::new();
    // Names and values count: `pk`, `P`, `sk`, `S`, `b`.
    for bytes in [MAX_ITEM_BYTES - 7, MAX_ITEM_BYTES - 6] {
        seen.push(bench.raw_put(item("P", "S", bytes)).await);
    }
    assert_eq!(seen, ["done", "ValidationException"]);
    seen
}

async fn keys_are_limited_to_2048_and_1024_bytes(bench: Bench) -> Vec<String> {
    bench.store().await;
    let mut seen = Vec::new();
    for (pk, sk) in [(2048, 1), (2049, 1), (1, 1024), (1, 1025)] {
        let item = item(&"p".repeat(pk), &"s".repeat(sk), 1);
        seen.push(bench.raw_put(item).await);
    }
    let refused = "ValidationException";
    assert_eq!(seen, ["done", refused, "done", refused]);
    seen
}

async fn transactions_are_limited_to_100_actions_and_4_megabytes(bench: Bench) -> Vec<String> {
    bench.store().await;
    let items = |count: usize, bytes: usize| {
        let items = (0..count).map(|number| item("job#j2", &format!("{number:04}"), bytes));
        items.collect::<Vec<_>>()
    };
    let mut seen = Vec::new();
    for (count, bytes) in [(MAX_ACTIONS, 100), (MAX_ACTIONS + 1, 100), (11, 400_000)] {
        seen.push(bench.raw_transact(items(count, bytes)).await);
    }
    assert_eq!(seen[0], "done");
    assert!(seen[1..].iter().all(|seen| seen == "ValidationException"));
    seen
}

async fn an_outdated_commit_is_refused(bench: Bench) -> Vec<String> {
    let (one, two) = (bench.store().await, bench.store().await);
    let (one, two) = (partition(&one, "j1"), partition(&two, "j1"));
    let first = put(&one, &[("t1", "x")]).await;
    put(&two, &[("t1", "y")]).await;
    let refused = code(one.commit(puts(0..1, "z"), first).await);
    assert_eq!(refused, "state_contention");
    assert_eq!(secrets(&one).await, [("t1".to_owned(), "y".to_owned())]);
    vec![refused]
}

async fn of_two_first_commits_one_is_done(bench: Bench) -> Vec<String> {
    let (one, two) = (bench.store().await, bench.store().await);
    let (one, two) = (partition(&one, "j1"), partition(&two, "j1"));
    let none = PartitionVersion::NONE;
    let (first, second) = tokio::join!(
        one.commit(puts(0..1, "one"), none),
        two.commit(puts(1..2, "two"), none)
    );
    let mut seen = vec![code(first), code(second)];
    seen.sort();
    assert_eq!(seen, ["done", "state_contention"]);
    seen.push(bench.rows().await.len().to_string());
    seen
}

async fn each_version_is_made_by_one_of_32_writers(bench: Bench) -> Vec<String> {
    let mut writers = Vec::new();
    for _ in 0..32 {
        let store = bench.store().await;
        writers.push(tokio::spawn(add_one(partition(&store, "j1"))));
    }
    let mut versions = HashSet::new();
    for writer in writers {
        assert!(versions.insert(writer.await.unwrap()));
    }
    let found = secrets(&partition(&bench.stranger().await, "j1")).await;
    assert_eq!(found[0].1, "32");
    vec![
        versions.len().to_string(),
        versions.into_iter().max().unwrap().to_string(),
    ]
}

/// Adds one to a counter, whoever else does so; says which version that made.
async fn add_one(partition: Partition) -> u64 {
    loop {
        let snapshot = partition.load().await.unwrap();
        let at = snapshot
            .as_ref()
            .map_or(PartitionVersion::NONE, |snapshot| snapshot.version());
        let stored = snapshot.and_then(|snapshot| snapshot.get::<Task>("t1").unwrap());
        let value: u64 = stored.map_or(0, |stored| stored.into_value().secret.parse().unwrap());
        let mut batch = Batch::new();
        batch.put(task("t1", (value + 1).to_string())).unwrap();
        match partition.commit(batch, at).await {
            Ok(version) => return version.get(),
            Err(fault) => assert_eq!(fault.code(), "state_contention"),
        }
    }
}

async fn an_interrupted_commit_changes_nothing_and_is_swept(bench: Bench) -> Vec<String> {
    let store = bench.store().await;
    let first = puts(0..120, "old");
    partition(&store, "j1")
        .commit(first, PartitionVersion::NONE)
        .await
        .unwrap();
    interrupted(&store, puts(0..250, "never"), 1).await;
    let after = bench.store().await;
    let partition = partition(&after, "j1");
    let snapshot = partition.load().await.unwrap().unwrap();
    let left = snapshot.uncommitted().len();
    assert!(left > 0 && snapshot.len() == 120);
    partition
        .commit(puts(0..1, "old"), snapshot.version())
        .await
        .unwrap();
    let snapshot = partition.load().await.unwrap().unwrap();
    assert_eq!(snapshot.uncommitted(), [""; 0]);
    vec![left.to_string(), bench.records().await.len().to_string()]
}

async fn what_was_changed_swapped_deleted_or_put_back_is_refused(bench: Bench) -> Vec<String> {
    let store = bench.store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "one"), ("t2", "two")]).await;
    let older = bench.rows().await;
    put(&partition, &[("t1", "newer"), ("t2", "newer")]).await;
    let current = bench.rows().await;
    let records = bench.records().await;
    let mut seen = Vec::new();

    let mut changed = records[0].clone();
    changed.insert("status".to_owned(), text("done"));
    bench.raw_put(changed).await;
    seen.push(load_code(&store).await);

    let mut swapped = records[0].clone();
    swapped.insert("sk".to_owned(), records[1]["sk"].clone());
    bench.restore(&current).await;
    bench.raw_put(swapped).await;
    seen.push(load_code(&store).await);

    bench.restore(&current).await;
    bench.raw_delete(&records[0]).await;
    seen.push(load_code(&store).await);

    bench.restore(&current).await;
    let replayed = older.iter().find(|row| row["sk"] == records[0]["sk"]);
    bench.raw_put(replayed.unwrap().clone()).await;
    seen.push(load_code(&store).await);

    bench.restore(&older).await;
    seen.push(load_code(&store).await);
    seen.push(load_code(&bench.stranger().await).await);

    bench.restore(&current).await;
    seen.push(load_code(&store).await);
    let refusals = [
        "seal_mismatch",
        "seal_mismatch",
        "manifest_mismatch",
        "manifest_mismatch",
        "version_rolled_back",
        "done",
        "done",
    ];
    assert_eq!(seen, refusals);
    seen
}

async fn rows_of_others_are_ignored_and_named(bench: Bench) -> Vec<String> {
    let store = bench.store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "x")]).await;
    bench.raw_put(item(PK, "somebody-else", 10)).await;
    let snapshot = partition.load().await.unwrap().unwrap();
    assert_eq!(snapshot.len(), 1);
    snapshot.uncommitted().to_vec()
}

async fn hints_follow_changes(bench: Bench) -> Vec<String> {
    let store = bench.store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "x"), ("t2", "x")]).await;
    let count = async || store.list(Kind::JOB, "open").await.unwrap().len();
    let before = count().await;
    let mut batch = Batch::new();
    batch.remove::<Task>("t1").unwrap();
    let at = version(&partition).await;
    partition.commit(batch, at).await.unwrap();
    let seen = [
        before,
        count().await,
        store.list(Kind::PEER, "open").await.unwrap().len(),
    ];
    assert_eq!(seen, [2, 1, 0]);
    seen.iter().map(ToString::to_string).collect()
}

async fn another_key_and_another_owner_are_told_apart_from_tampering(bench: Bench) -> Vec<String> {
    bench.store().await;
    let nobody = || Arc::new(Anchor::memory());
    let seen = vec![
        code(bench.open(nobody(), config(), 2).await),
        code(bench.open(nobody(), config().user("else"), 1).await),
        code(bench.open(nobody(), config(), 1).await),
    ];
    assert_eq!(
        seen,
        [
            "encryption_key_unconfirmed",
            "store_of_another_owner",
            "done"
        ]
    );
    seen
}

async fn all_who_set_up_at_once_open_the_same_store(bench: Bench) -> Vec<String> {
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let bench = bench.clone();
        tasks.push(tokio::spawn(async move {
            bench.stranger().await.id().to_owned()
        }));
    }
    let mut ids = HashSet::new();
    for task in tasks {
        ids.insert(task.await.unwrap());
    }
    vec![ids.len().to_string()]
}

async fn a_missing_table_and_a_missing_store_are_named(bench: Bench) -> Vec<String> {
    let open = || {
        let anchor = Arc::new(Anchor::memory());
        bench.open_with(anchor, config(), 1, Sources::system(), false)
    };
    let mut seen = vec![code(open().await)];
    let table = Table::new(bench.client.clone(), &bench.table);
    table.ensure().await.unwrap();
    seen.push(code(open().await));
    bench.store().await;
    seen.push(code(open().await));
    assert_eq!(seen, ["table_not_found", "store_not_set_up", "done"]);
    seen
}

/// Goes back by a minute at every look.
fn backwards() -> Timestamp {
    static MINUTES: AtomicI64 = AtomicI64::new(0);
    let back = SignedDuration::from_mins(MINUTES.fetch_add(1, Ordering::Relaxed));
    Timestamp::now() - back
}

async fn a_clock_that_jumps_back_loses_nothing(bench: Bench) -> Vec<String> {
    let mut at = PartitionVersion::NONE;
    for round in 0..4_usize {
        let sources = Sources::new(backwards, random);
        let anchor = bench.anchor.clone();
        let store = bench.open_with(anchor, config(), 1, sources, true).await;
        let partition = partition(&store.unwrap(), "j1");
        let ids = round * 5..round * 5 + 10;
        at = partition.commit(puts(ids, "x"), at).await.unwrap();
    }
    let found = secrets(&partition(&bench.stranger().await, "j1")).await;
    vec![at.to_string(), found.len().to_string()]
}

/// The sort keys of the partition that start so.
async fn sort_keys(bench: &Bench, prefix: &str) -> Vec<String> {
    let rows = bench.rows().await.into_iter();
    let mut keys: Vec<_> = rows.map(|row| row["sk"].as_s().unwrap().clone()).collect();
    keys.retain(|sk| sk.starts_with(prefix));
    keys
}

async fn a_new_data_key_takes_over_and_the_old_one_is_destroyed_when_nothing_needs_it(
    bench: Bench,
) -> Vec<String> {
    let store = bench.store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "first"), ("t2", "first")]).await;
    let older = bench.rows().await;
    let mut seen = vec![partition.rotate().await.unwrap().to_string()];
    put(&partition, &[("t1", "second")]).await;
    seen.extend(sort_keys(&bench, "dek").await);
    put(&partition, &[("t2", "second")]).await;
    seen.extend(sort_keys(&bench, "dek").await);
    assert_eq!(seen, ["2", "dek#0001", "dek#0002", "dek#0002"]);
    let found = secrets(&crate::lab::partition(&bench.stranger().await, "j1")).await;
    assert!(found.iter().all(|(_, secret)| secret == "second"));
    bench.restore(&older).await;
    seen.push(load_code(&store).await);
    seen.push(verified(&bench.stranger().await).await);
    assert_eq!(seen[4..], ["version_rolled_back", "RolledBack"]);
    seen
}

/// What is wrong with the table, if anything is.
async fn verified(store: &Store) -> String {
    let report = store.verify(&[], &mut |_| {}).await.unwrap();
    let problems = report.findings.iter();
    let problems: Vec<_> = problems
        .map(|found| format!("{:?}", found.problem))
        .collect();
    problems.join(" ")
}

async fn rotations_that_race_with_commits_lose_nothing(bench: Bench) -> Vec<String> {
    let mut writers = Vec::new();
    for _ in 0..4 {
        let store = bench.store().await;
        writers.push(tokio::spawn(async move {
            let partition = partition(&store, "j1");
            add_one(partition.clone()).await;
            while let Err(fault) = partition.rotate().await {
                assert_eq!(fault.code(), "state_contention");
            }
            add_one(partition).await
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let stranger = bench.stranger().await;
    let partition = partition(&stranger, "j1");
    let seen = vec![
        secrets(&partition).await[0].1.clone(),
        version(&partition).await.to_string(),
        verified(&stranger).await,
    ];
    assert_eq!(seen, ["8", "12", ""]);
    seen
}

async fn an_epoch_begins_reaches_every_key_and_ends(bench: Bench) -> Vec<String> {
    let (store, other) = (bench.store().await, bench.store().await);
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    put(&partition(&store, "j2"), &[("t1", "x")]).await;
    let older = bench.rows().await;
    let mut seen = vec![store.rotate_kek().await.unwrap().to_string()];
    put(&partition(&other, "j1"), &[("t2", "y")]).await;
    seen.push(other.retire_keks().await.unwrap().to_string());
    seen.push(code(store.retire_keks().await));
    seen.push(load_code(&bench.stranger().await).await);
    seen.push(verified(&bench.stranger().await).await);
    bench.restore(&older).await;
    seen.push(load_code(&bench.stranger().await).await);
    assert_eq!(seen, ["2", "2", "done", "done", "", "key_epoch_retired"]);
    seen
}

async fn who_has_missed_the_end_of_an_epoch_leaves_no_key_behind(bench: Bench) -> Vec<String> {
    let (store, stale) = (bench.store().await, bench.store().await);
    store.rotate_kek().await.unwrap();
    store.retire_keks().await.unwrap();
    let mut seen = Vec::new();
    for (size, tries) in [(1, 2), (230, 1)] {
        let late = stale.partition(Kind::JOB, &format!("late-{size}")).unwrap();
        for _ in 0..tries {
            let commit = late.commit(puts(0..size, "x"), PartitionVersion::NONE);
            seen.push(code(commit.await));
        }
    }
    seen.push(verified(&bench.stranger().await).await);
    assert_eq!(seen, ["state_contention", "done", "done", ""]);
    seen
}

async fn an_erased_partition_takes_nothing_and_stays_erased(bench: Bench) -> Vec<String> {
    let store = bench.store().await;
    let erased = partition(&store, "j1");
    erased
        .commit(puts(0..250, "x"), PartitionVersion::NONE)
        .await
        .unwrap();
    erased.rotate().await.unwrap();
    let older = bench.rows().await;
    let late = partition(&bench.store().await, "j1");
    let at = version(&late).await;
    let certificate = erased.erase().await.unwrap();
    let counts = (
        certificate.erasure.data_keys_destroyed,
        certificate.erasure.rows_deleted,
    );
    let stranger = bench.stranger().await;
    stranger.check_certificate(&certificate).await.unwrap();
    let mut seen = vec![
        format!("{counts:?}"),
        bench.rows().await.len().to_string(),
        code(late.commit(puts(0..1, "too late"), at).await),
        code(
            partition(&stranger, "j1")
                .commit(puts(0..1, "x"), PartitionVersion::NONE)
                .await,
        ),
        load_code(&store).await,
        verified(&stranger).await,
    ];
    bench.restore(&older).await;
    seen.push(load_code(&store).await);
    seen.push(verified(&bench.stranger().await).await);
    let gone = "partition_erased";
    let expected = [
        "1",
        "state_contention",
        gone,
        gone,
        "",
        "version_rolled_back",
        "RolledBack",
    ];
    assert_eq!(seen[1..], expected);
    seen
}

async fn commits_that_race_with_an_erasure_leave_nothing(bench: Bench) -> Vec<String> {
    let store = bench.store().await;
    put(&partition(&store, "j1"), &[("t1", "0")]).await;
    let mut writers = Vec::new();
    for _ in 0..3 {
        let late = partition(&bench.store().await, "j1");
        writers.push(tokio::spawn(async move {
            loop {
                let at = match late.load().await {
                    Ok(snapshot) => snapshot.unwrap().version(),
                    Err(fault) => return fault.code().to_owned(),
                };
                late.commit(puts(0..120, "x"), at).await.ok();
            }
        }));
    }
    partition(&store, "j1").erase().await.unwrap();
    let mut seen = Vec::new();
    for writer in writers {
        seen.push(writer.await.unwrap());
    }
    seen.extend(sort_keys(&bench, "").await);
    let gone = "partition_erased";
    assert_eq!(seen, [gone, gone, gone, "manifest"]);
    seen
}

async fn a_partition_goes_into_a_file_and_comes_back_also_into_another_store(
    bench: Bench,
) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("j1.bundle");
    let store = bench.store().await;
    let handle = partition(&store, "j1");
    let first = handle.commit(puts(0..150, "x"), PartitionVersion::NONE);
    first.await.unwrap();
    let mut seen = vec![handle.export(&bundle).await.unwrap().version.to_string()];
    bench.restore(&[]).await;
    seen.push(load_code(&store).await);
    let imported = store.import(&bundle, None).await.unwrap();
    seen.push(format!("{} {}", imported.records, imported.written));
    let stranger = bench.stranger().await;
    seen.push(secrets(&partition(&stranger, "j1")).await.len().to_string());
    seen.push(verified(&stranger).await);
    let elsewhere = Bench {
        table: format!("{}-2", bench.table),
        anchor: Arc::new(Anchor::memory()),
        ..bench
    };
    let anchor = elsewhere.anchor.clone();
    let other = elsewhere.open(anchor, config(), 2).await.unwrap();
    seen.push(code(other.import(&bundle, None).await));
    let keys = Arc::new(MemoryKey([1; 32]));
    let imported = other.import(&bundle, Some(keys)).await.unwrap();
    seen.push(format!("{} {}", imported.records, imported.written));
    seen.push(verified(&other).await);
    let expected = [
        "1",
        "version_rolled_back",
        "150 true",
        "150",
        "",
        "bundle_of_another_store",
        "150 true",
        "",
    ];
    assert_eq!(seen, expected);
    seen
}

async fn the_audit_is_whole_until_its_end_is_cut_off(bench: Bench) -> Vec<String> {
    let store = bench.store().await;
    let handle = partition(&store, "j1");
    put(&handle, &[("t1", "x")]).await;
    let checkpoint = store.audit_checkpoint().await.unwrap();
    put(&handle, &[("t1", "y")]).await;
    let lane = Lane::of(handle.key());
    let broken = |report: &ChainReport| report.first_break().map(|(_, broken)| broken.kind);
    let mut seen = Vec::new();
    let report = store.verify_chain().await.unwrap();
    seen.push(format!("{:?}", broken(&report)));
    let report = store.verify_checkpoint(&checkpoint).await.unwrap();
    seen.push(format!("{:?}", broken(&report)));
    let head = [("pk", &*lane.pk()), ("sk", "head")];
    let head = head.map(|(name, value)| (name.to_owned(), text(value)));
    bench.raw_delete(&head.into()).await;
    let report = store.verify_chain().await.unwrap();
    seen.push(format!("{:?}", broken(&report)));
    assert!(
        seen[..2] == ["None", "None"] && seen[2] != "None",
        "{seen:?}"
    );
    seen
}

async fn strict_reads_are_on_record_before_anything_is_handed_out(bench: Bench) -> Vec<String> {
    put(
        &partition(&bench.store().await, "j1"),
        &[("t1", "x"), ("t2", "y")],
    )
    .await;
    let strict = config().audit_reads(AuditReads::Strict);
    let reader = bench.open(bench.anchor.clone(), strict, 1).await.unwrap();
    let handle = partition(&reader, "j1");
    handle.load().await.unwrap().unwrap();
    let lane = Lane::of(handle.key()).number();
    let events = bench.stranger().await.audit_events(lane, 0).await.unwrap();
    let read = |event: &&CryptoAuditEvent| event.operation == Operation::Decrypt;
    let counts = events
        .iter()
        .filter(read)
        .map(|event| event.count.to_string());
    let seen: Vec<_> = counts.collect();
    assert_eq!(seen, ["2"]);
    seen
}

/// What somebody said, and how much it was is not to be seen.
struct Said(String);

impl Entity for Said {
    const TYPE: &'static str = "said";
    const PADDED_TO: usize = 256;
    type Clear = ();
    type Sealed = String;

    fn id(&self) -> String {
        format!("s{}", self.0.len())
    }

    fn split(self) -> ((), String) {
        ((), self.0)
    }

    fn join(_id: String, _clear: (), sealed: String) -> Result<Self> {
        Ok(Self(sealed))
    }
}

async fn payloads_of_a_padded_type_are_of_one_length(bench: Bench) -> Vec<String> {
    let said = ["no", "yes, of course"];
    let mut batch = Batch::new();
    for said in said {
        batch.insert(Said(said.to_owned())).unwrap();
    }
    let handle = partition(&bench.store().await, "j1");
    handle.commit(batch, PartitionVersion::NONE).await.unwrap();
    let stranger = bench.stranger().await;
    let snapshot = partition(&stranger, "j1").load().await.unwrap().unwrap();
    for said in said {
        let found = snapshot.get::<Said>(&format!("s{}", said.len())).unwrap();
        assert_eq!(found.unwrap().value().0, said);
    }
    let mut rows = bench.rows().await;
    rows.retain(|row| row["entity_type"] == text("said"));
    let length = |row: &Item| row["content_encrypted"].as_b().unwrap().as_ref().len();
    let seen: Vec<_> = rows.iter().map(|row| length(row).to_string()).collect();
    assert_eq!(seen, ["272", "272"], "256 bytes and the tag");
    seen
}

/// What a case came to on one engine.
struct Run {
    outcome: Result<Vec<String>, String>,
    milliseconds: u128,
}

async fn run(case: Case, bench: Bench) -> Run {
    let start = Instant::now();
    let outcome = tokio::spawn(case(bench)).await.map_err(|error| {
        let panic = error.into_panic();
        let said = panic.downcast_ref::<String>().cloned();
        said.unwrap_or_else(|| {
            panic
                .downcast_ref::<&str>()
                .unwrap_or(&"panicked")
                .to_string()
        })
    });
    Run {
        outcome,
        milliseconds: start.elapsed().as_millis(),
    }
}

fn engines(file: &std::path::Path) -> Vec<(&'static str, Client)> {
    let memory = client::answered_by(Engine::memory().unwrap());
    let file = client::answered_by(Engine::file(file).unwrap());
    let embedded = [("embedded, memory", memory), ("embedded, file", file)];
    match dynamodb_local() {
        Ok(client) => embedded
            .into_iter()
            .chain([("DynamoDB Local", client)])
            .collect(),
        Err(why) => {
            println!("skipped: DynamoDB Local: {why}");
            embedded.into()
        }
    }
}

#[cfg(feature = "aws")]
fn dynamodb_local() -> Result<Client, &'static str> {
    let url = std::env::var("DYNAMODB_ENDPOINT")
        .map_err(|_| "DYNAMODB_ENDPOINT is not set; tests/system/dynamodb_local.sh sets it")?;
    let endpoint = crate::LocalEndpoint::parse(&url).unwrap();
    Ok(client::at_endpoint(&endpoint))
}

#[cfg(not(feature = "aws"))]
fn dynamodb_local() -> Result<Client, &'static str> {
    Err("this was built without the feature aws; tests/system/dynamodb_local.sh builds it")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_engine_gives_the_same_answers() {
    let dir = tempfile::tempdir().unwrap();
    let engines = engines(&dir.path().join("store/table.db"));
    let names: String = engines.iter().fold(String::new(), |mut names, (name, _)| {
        write!(names, "{name:>20}").unwrap();
        names
    });
    println!("{:<72}{names}", "parity");
    let mut failures = Vec::new();
    for (name, case) in CASES {
        let mut line = format!("{name:<72}");
        let mut first = None;
        for (engine, client) in &engines {
            let run = run(*case, Bench::new(client, name)).await;
            let said = match &run.outcome {
                Err(panic) => Err(panic.clone()),
                Ok(seen) if first.get_or_insert_with(|| seen.clone()) == seen => Ok(()),
                Ok(seen) => Err(format!("{seen:?}, elsewhere {first:?}")),
            };
            let verdict = if said.is_ok() { "ok" } else { "FAILED" };
            let cell = format!("{verdict} {} ms", run.milliseconds);
            write!(line, "{cell:>20}").unwrap();
            failures.extend(said.err().map(|said| format!("{name} on {engine}: {said}")));
        }
        println!("{line}");
    }
    println!("{} cases on {} engines", CASES.len(), engines.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
