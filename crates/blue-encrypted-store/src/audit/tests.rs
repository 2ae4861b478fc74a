//! What is on record, when, and what happens when it cannot be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use aws_smithy_runtime_api::client::http::HttpConnector;
use dynoxide::AttributeValue;
use proptest::prelude::*;
use worldcompute_fault::{Category, Fault};

use super::faulty::{Fate, Faulty};
use super::queue::{Draft, MAX_WAITING, Queue};
use super::*;
use crate::client;
use crate::config::DEFAULT_TABLE;
use crate::keys::{DekContext, KeyError};
use crate::lab::{Lab, Meddling, MemoryKey, Task, partition, put, secrets, task, text};
use crate::store::Ground;
use crate::{Batch, Kind, Partition, PartitionVersion, Store, StoreConfig, StorePath};

/// Operation, key, outcome, count.
type Line = (String, String, String, u64);

fn number(item: &crate::lab::Item, name: &str) -> u64 {
    match &item[name] {
        AttributeValue::N(text) => text.parse().unwrap(),
        other => panic!("{name} is {other:?}"),
    }
}

/// All events of the table that are about the key ids that start so, lane by lane.
fn lines(lab: &Lab, key_id: &str) -> Vec<Line> {
    let mut found = Vec::new();
    for lane in Lane::all() {
        let rows: BTreeMap<_, _> = lab.rows(&lane.pk()).into_iter().collect();
        let events = rows.values().filter(|row| row.contains_key("event_id"));
        found.extend(
            events
                .filter(|row| text(row, "key_id").starts_with(key_id))
                .map(|row| {
                    let word = |name| text(row, name).to_owned();
                    (
                        word("operation"),
                        word("key_id"),
                        word("outcome"),
                        number(row, "count"),
                    )
                }),
        );
    }
    found
}

fn line(operation: &str, key_id: &str, outcome: &str, count: u64) -> Line {
    (
        operation.to_owned(),
        key_id.to_owned(),
        outcome.to_owned(),
        count,
    )
}

async fn open(table: &Faulty, lab: &Lab, config: StoreConfig) -> worldcompute_fault::Result<Store> {
    let keys = Arc::new(MemoryKey([1; 32]));
    Store::open_on(ground(table, lab), config, keys, Sources::system()).await
}

fn ground(client: &(impl HttpConnector + Clone + 'static), lab: &Lab) -> Ground {
    Ground {
        table: Table::new(client::answered_by(client.clone()), DEFAULT_TABLE),
        anchor: lab.anchor.clone(),
        set_up: true,
    }
}

fn config() -> StoreConfig {
    StoreConfig::new(StorePath::Memory)
}

#[tokio::test]
async fn a_commit_leaves_its_record_in_its_own_transaction() {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    let mut batch = Batch::new();
    batch.insert(task("t1", "x")).unwrap();
    batch.insert(task("t2", "x")).unwrap();
    let at = partition
        .commit(batch, PartitionVersion::NONE)
        .await
        .unwrap();
    let key = "dek#job#j1#1";
    let first = [
        line("GenerateDek", key, "success", 1),
        line("WrapDek", key, "success", 1),
        line("UnwrapDek", key, "success", 1),
        line("Encrypt", key, "success", 2),
    ];
    assert_eq!(lines(&lab, "dek#"), first);
    let mut batch = Batch::new();
    batch.remove::<Task>("t1").unwrap();
    partition.commit(batch, at).await.unwrap();
    assert_eq!(
        lines(&lab, "dek#")[4..],
        [line("Encrypt", key, "success", 1)]
    );
}

#[tokio::test]
async fn what_is_read_is_counted_and_rides_in_the_next_commit() {
    let lab = Lab::new();
    put(
        &partition(&lab.store().await, "j1"),
        &[("t1", "x"), ("t2", "y"), ("t3", "z")],
    )
    .await;
    let before = lines(&lab, "dek#").len();
    let later = partition(&lab.store().await, "j1");
    let snapshot = later.load().await.unwrap().unwrap();
    assert_eq!(snapshot.entities::<Task>().unwrap().len(), 3);
    snapshot.get::<Task>("t2").unwrap().unwrap();
    assert!(snapshot.get::<Task>("t9").unwrap().is_none());
    assert_eq!(
        lines(&lab, "dek#").len(),
        before,
        "nothing is written for a read alone"
    );
    let mut batch = Batch::new();
    batch.put(task("t1", "new")).unwrap();
    later.commit(batch, snapshot.version()).await.unwrap();
    let key = "dek#job#j1#1";
    let read = [
        line("UnwrapDek", key, "success", 1),
        line("Decrypt", key, "success", 4),
        line("Encrypt", key, "success", 1),
    ];
    assert_eq!(lines(&lab, "dek#")[before..], read);
}

#[tokio::test]
async fn closing_the_store_writes_what_is_held_back() {
    let lab = Lab::new();
    let store = lab.store().await;
    assert_eq!(lines(&lab, "kek#"), []);
    store.close().await.unwrap();
    let opening = [
        line("DeriveKek", "kek#1", "success", 1),
        line("KcvCheck", "kek#1", "success", 1),
    ];
    assert_eq!(lines(&lab, "kek#"), opening);
}

#[tokio::test]
async fn what_waits_for_no_commit_is_written_after_a_pause() {
    let lab = Lab::new();
    let store = lab.store().await;
    let (wake, woken) = mpsc::channel(1);
    wake.try_send(()).unwrap();
    drop(wake);
    let audit = Arc::downgrade(&store.0.audit);
    flush_when_due(audit, woken, || std::future::ready(())).await;
    assert_eq!(lines(&lab, "kek#").len(), 2);
}

#[tokio::test]
async fn strict_reads_are_in_the_table_before_they_are_handed_out() {
    let lab = Lab::new();
    put(
        &partition(&lab.store().await, "j1"),
        &[("t1", "x"), ("t2", "y")],
    )
    .await;
    let table = Faulty::new(&lab.engine);
    let strict = config().audit_reads(AuditReads::Strict);
    let store = open(&table, &lab, strict).await.unwrap();
    let before = lines(&lab, "dek#").len();
    let snapshot = partition(&store, "j1").load().await.unwrap().unwrap();
    let key = "dek#job#j1#1";
    let read = [
        line("UnwrapDek", key, "success", 1),
        line("Decrypt", key, "success", 2),
    ];
    assert_eq!(lines(&lab, "dek#")[before..], read);
    assert_eq!(snapshot.entities::<Task>().unwrap().len(), 2);
    table.next([Fate::Lost]);
    let fault = partition(&store, "j1").load().await.unwrap_err();
    assert_eq!(fault.code(), "audit_unavailable");
}

#[tokio::test]
async fn a_read_that_fails_its_checks_is_on_record() {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    let sk = lab.keys("job#j1", "task").remove(0);
    let mut row = lab.rows("job#j1").remove(&sk).unwrap();
    row.insert("status".to_owned(), AttributeValue::S("forged".to_owned()));
    lab.put(&row);
    assert_eq!(
        partition(&store, "j1").load().await.unwrap_err().code(),
        "seal_mismatch"
    );
    store.close().await.unwrap();
    let failed = line("Decrypt", "dek#job#j1", "failure", 1);
    assert!(lines(&lab, "dek#").contains(&failed));
}

/// Gives out the master key, and no data key.
struct Forbidden;

#[async_trait]
impl Meddling for Forbidden {
    async fn wrapping(&self, _context: &DekContext) -> Result<(), KeyError> {
        Err(Fault::new(Category::PolicyBlocked, "key_release_denied", "no").into())
    }

    async fn unwrapping(&self, _context: &DekContext) -> Result<(), KeyError> {
        Err(KeyError::Tag)
    }
}

#[tokio::test]
async fn keys_that_are_not_given_out_are_on_record() {
    let lab = Lab::new();
    put(&partition(&lab.store().await, "j1"), &[("t1", "x")]).await;
    let keys = Arc::new(Forbidden);
    let ground = ground(&lab.engine, &lab);
    let store = Store::open_on(ground, config(), keys, Sources::system());
    let store = store.await.unwrap();
    let mut batch = Batch::new();
    batch.insert(task("t1", "x")).unwrap();
    let denied = partition(&store, "j2")
        .commit(batch, PartitionVersion::NONE)
        .await;
    assert_eq!(denied.unwrap_err().code(), "key_release_denied");
    assert_eq!(
        partition(&store, "j1").load().await.unwrap_err().code(),
        "tag_mismatch"
    );
    store.close().await.unwrap();
    assert_eq!(
        lines(&lab, "dek#job#j2"),
        [line("GenerateDek", "dek#job#j2#1", "denied", 1)]
    );
    // It was looked at twice.
    assert!(lines(&lab, "dek#job#j1").contains(&line("UnwrapDek", "dek#job#j1#1", "failure", 2)));
}

#[tokio::test]
async fn nothing_is_handed_out_while_the_record_cannot_be_written() {
    let lab = Lab::new();
    put(&partition(&lab.store().await, "j1"), &[("t1", "x")]).await;
    let table = Faulty::new(&lab.engine);
    let store = open(&table, &lab, config()).await.unwrap();
    let partition = partition(&store, "j1");
    let snapshot = partition.load().await.unwrap().unwrap();
    table.next([Fate::Lost; 3]);
    let lane = Lane::of(partition.key());
    let fault = store.0.audit.flush(lane).await.unwrap_err();
    assert_eq!(
        (fault.code(), fault.retryable()),
        ("audit_unavailable", true)
    );
    assert_eq!(
        snapshot.get::<Task>("t1").err().unwrap().code(),
        "audit_unavailable"
    );
    // Whatever can try again does, before it does anything.
    assert_eq!(
        partition.load().await.unwrap_err().code(),
        "audit_unavailable"
    );
    assert_eq!(
        partition.load().await.unwrap_err().code(),
        "audit_unavailable"
    );
    assert_eq!(secrets(&partition).await[0].1, "x");
    store.close().await.unwrap();
    let unwrapped = lines(&lab, "dek#")
        .into_iter()
        .filter(|line| line.0 == "UnwrapDek");
    assert_eq!(
        unwrapped.map(|line| line.3).sum::<u64>(),
        3,
        "one for each load, none twice"
    );
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_on_record_if_and_only_if_it_was_done() {
    for (fate, version) in [(Fate::Lost, 1), (Fate::Unanswered, 2)] {
        let lab = Lab::new();
        let table = Faulty::new(&lab.engine);
        let store = open(&table, &lab, config()).await.unwrap();
        let partition = partition(&store, "j1");
        let at = put(&partition, &[("t1", "x")]).await;
        partition
            .load()
            .await
            .unwrap()
            .unwrap()
            .get::<Task>("t1")
            .unwrap();
        table.next([fate]);
        let mut batch = Batch::new();
        batch.put(task("t1", "y")).unwrap();
        assert_eq!(
            partition.commit(batch, at).await.unwrap_err().code(),
            "store_unreachable"
        );
        store.close().await.unwrap();
        let lines = lines(&lab, "dek#");
        let count = |operation| lines.iter().filter(|line| line.0 == operation).count();
        assert_eq!(
            (count("Encrypt"), count("Decrypt")),
            (version, 1),
            "{fate:?}"
        );
        assert_eq!(
            usize::try_from(crate::lab::version(&partition).await.get()),
            Ok(version)
        );
    }
}

/// Partitions of one lane.
fn neighbours(count: usize) -> Vec<String> {
    let lane = |id: &str| {
        Lane::of(&PartitionKey {
            kind: Kind::JOB,
            id: crate::Id::parse(id).unwrap(),
        })
    };
    let ids = (0..).map(|number| format!("n{number}"));
    ids.filter(|id| lane(id) == lane("n0"))
        .take(count)
        .collect()
}

async fn commits(partition: Partition, count: u64) {
    let mut at = PartitionVersion::NONE;
    for round in 0..count {
        let mut batch = Batch::new();
        batch.put(task("t1", round.to_string())).unwrap();
        at = partition.commit(batch, at).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_write_to_one_lane_at_a_time_leave_one_chain() {
    const ROUNDS: u64 = 8;
    let lab = Lab::new();
    lab.store().await;
    let mut stores = Vec::new();
    let mut running = tokio::task::JoinSet::new();
    for id in neighbours(4) {
        let store = lab.store().await;
        running.spawn(commits(partition(&store, &id), ROUNDS));
        stores.push(store);
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    for store in stores {
        store.close().await.unwrap();
    }
    let lines = lines(&lab, "dek#job#n");
    for operation in ["GenerateDek", "WrapDek"] {
        assert_eq!(lines.iter().filter(|line| line.0 == operation).count(), 4);
    }
    let encrypted = lines.iter().filter(|line| line.0 == "Encrypt").count();
    assert_eq!(encrypted as u64, 4 * ROUNDS);
    // Opening verifies the end of every lane.
    lab.store().await;
}

#[tokio::test]
async fn events_name_the_trace_they_belong_to() {
    use opentelemetry::trace::{
        SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState,
    };
    let lab = Lab::new();
    let table = Faulty::new(&lab.engine);
    let traced = config().trace_source(TraceSource::new(|| Some([7; 16])));
    let store = open(&table, &lab, traced).await.unwrap();
    let trace = TraceId::from_bytes([9; 16]);
    let span = SpanContext::new(
        trace,
        SpanId::from_bytes([8; 8]),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    );
    {
        let _entered = opentelemetry::Context::new()
            .with_remote_span_context(span)
            .attach();
        let draft = Draft::kek(Operation::Rotate, 2);
        store.0.audit.record(Lane::STORE, draft).unwrap();
    }
    store.close().await.unwrap();
    let rows = lab.rows("audit#00");
    let ids = |operation: &str| {
        let mut events = rows.values().filter(|row| row.contains_key("operation"));
        let event = events
            .find(|row| text(row, "operation") == operation)
            .unwrap();
        (
            text(event, "trace_id").to_owned(),
            text(event, "span_id").to_owned(),
        )
    };
    assert_eq!(ids("Rotate"), ("09".repeat(16), "08".repeat(8)));
    assert_eq!(ids("KcvCheck"), ("07".repeat(16), "00".repeat(8)));
}

#[test]
fn a_full_queue_takes_no_more_and_counts_what_is_repeated() {
    let sources = Sources::system();
    let event = |number: usize| {
        let draft = Draft::kek(Operation::DeriveKek, number as u64);
        draft.stamp(&sources, TraceSource::default()).unwrap()
    };
    let mut queue = Queue::default();
    for number in 0..MAX_WAITING {
        queue.push(event(number)).unwrap();
    }
    assert!(!queue.is_calm());
    queue.push(event(MAX_WAITING - 1)).unwrap();
    assert_eq!(
        queue.push(event(MAX_WAITING)).unwrap_err().code(),
        "audit_unavailable"
    );
    assert_eq!(queue.take(usize::MAX).len(), MAX_WAITING);
    queue.push(event(MAX_WAITING)).unwrap();
}

#[test]
fn nobody_has_a_partition_of_the_audits_kind() {
    assert_eq!(Kind::custom("audit").unwrap_err().code(), "invalid_id");
    assert!(Kind::custom("audits").is_ok());
}

/// One step of a process's life.
#[derive(Clone, Copy, Debug)]
enum Event {
    Commit(u8, Fate),
    Read(u8),
    Flush(Fate),
    /// The process is killed.
    Crash,
    Close,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![3 => Just(Fate::Answered), 1 => Just(Fate::Lost), 1 => Just(Fate::Unanswered)]
}

fn life() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        5 => (0..4_u8, fate()).prop_map(|(partition, fate)| Event::Commit(partition, fate)),
        3 => (0..4_u8).prop_map(Event::Read),
        1 => fate().prop_map(Event::Flush),
        1 => Just(Event::Crash),
        1 => Just(Event::Close),
    ];
    proptest::collection::vec(event, 1..24)
}

/// Lives through `events`; faults of the line are what they are.
async fn live(lab: &Lab, table: &Faulty, events: &[Event]) {
    let ids = [neighbours(2), vec!["a1".to_owned(), "a2".to_owned()]].concat();
    let mut store = open(table, lab, config()).await.unwrap();
    for event in events {
        match *event {
            Event::Commit(number, fate) => {
                let partition = partition(&store, &ids[usize::from(number)]);
                let Ok(snapshot) = partition.load().await else {
                    continue;
                };
                let at = snapshot.map_or(PartitionVersion::NONE, |snapshot| snapshot.version());
                table.next([fate]);
                let mut batch = Batch::new();
                batch.put(task("t1", "x")).unwrap();
                partition.commit(batch, at).await.ok();
            }
            Event::Read(number) => {
                let partition = partition(&store, &ids[usize::from(number)]);
                if let Ok(Some(snapshot)) = partition.load().await {
                    snapshot.get::<Task>("t1").ok();
                }
            }
            Event::Flush(fate) => {
                table.next([fate]);
                store.0.audit.flush_all().await.ok();
            }
            Event::Crash => store = open(table, lab, config()).await.unwrap(),
            Event::Close => {
                store.close().await.ok();
                store = open(table, lab, config()).await.unwrap();
            }
        }
    }
    table.fates.lock().unwrap().clear();
    store.close().await.unwrap();
}

async fn check_history(lab: &Lab) {
    // Opening verifies the end of every lane, against the anchor too.
    let store = lab.store().await;
    let mut names = BTreeSet::new();
    for row in lab.dump() {
        if row.contains_key("event_id") {
            assert!(
                names.insert(text(&row, "event_id").to_owned()),
                "an event is there twice"
            );
        }
    }
    for id in [neighbours(2), vec!["a1".to_owned(), "a2".to_owned()]].concat() {
        let version = crate::lab::version(&partition(&store, &id)).await;
        let key = format!("dek#job#{id}#1");
        let lines = lines(lab, &key);
        let commits = lines
            .iter()
            .filter(|line| line.0 == "Encrypt" && line.1 == key);
        assert_eq!(commits.count() as u64, version.get(), "commits of {id}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_gets_lost_the_chains_hold_and_count_exactly_the_commits(events in life()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let lab = Lab::new();
            let table = Faulty::new(&lab.engine);
            live(&lab, &table, &events).await;
            check_history(&lab).await;
        });
    }
}

// Changes of keys.

#[derive(Clone, Copy, Debug)]
enum KeyChange {
    Rotate,
    Begin,
    End,
    Erase,
}

impl KeyChange {
    async fn make(self, store: &Store) -> worldcompute_fault::Result<()> {
        let partition = partition(store, "j1");
        match self {
            Self::Rotate => partition.rotate().await.map(drop),
            Self::Begin => store.rotate_kek().await.map(drop),
            Self::End => store.retire_keks().await.map(drop),
            Self::Erase => partition.erase().await.map(drop),
        }
    }

    /// Whether it can be seen in the table.
    fn is_made(self, lab: &Lab) -> bool {
        let (rows, own) = (
            lab.rows("job#j1"),
            lab.rows("store").remove("meta").unwrap(),
        );
        match self {
            Self::Rotate => rows.contains_key("dek#0002"),
            Self::Begin => number(&own, "kek_epoch") == 3,
            Self::End => own.contains_key("min_kek_epoch"),
            Self::Erase => !rows.contains_key("dek#0001"),
        }
    }

    fn line(self) -> Line {
        match self {
            Self::Rotate => line("Rotate", "dek#job#j1#2", "success", 1),
            Self::Begin => line("Rotate", "kek#3", "success", 1),
            Self::End => line("Erase", "kek#1", "success", 1),
            Self::Erase => line("Erase", "dek#job#j1", "success", 1),
        }
    }

    /// The transactions that come before its own.
    const fn before(self) -> usize {
        match self {
            // The data key is wrapped anew.
            Self::End => 1,
            _ => 0,
        }
    }
}

#[tokio::test]
async fn a_change_of_keys_is_on_record_if_and_only_if_it_was_made() {
    let changes = [
        KeyChange::Rotate,
        KeyChange::Begin,
        KeyChange::End,
        KeyChange::Erase,
    ];
    for change in changes {
        for (fate, made) in [
            (Fate::Answered, true),
            (Fate::Lost, false),
            (Fate::Unanswered, true),
        ] {
            let lab = Lab::new();
            let table = Faulty::new(&lab.engine);
            let store = open(&table, &lab, config()).await.unwrap();
            put(&partition(&store, "j1"), &[("t1", "x")]).await;
            store.rotate_kek().await.unwrap();
            store.0.audit.flush_all().await.unwrap();
            table.next(vec![Fate::Answered; change.before()]);
            table.next([fate]);
            let answered = change.make(&store).await.is_ok();
            assert_eq!(answered, fate == Fate::Answered, "{change:?} {fate:?}");
            assert_eq!(change.is_made(&lab), made, "{change:?} {fate:?}");
            let told = lines(&lab, "").contains(&change.line());
            assert_eq!(told, made, "{change:?} {fate:?}: {:?}", lines(&lab, ""));
            assert!(store.verify_chain().await.unwrap().is_whole());
        }
    }
}

#[tokio::test]
async fn a_data_key_that_is_destroyed_because_nothing_needs_it_is_on_record() {
    let lab = Lab::new();
    let store = lab.store().await;
    let partition = partition(&store, "j1");
    put(&partition, &[("t1", "x")]).await;
    partition.rotate().await.unwrap();
    let destroyed = line("Erase", "dek#job#j1#1", "success", 1);
    assert!(!lines(&lab, "dek#").contains(&destroyed));
    put(&partition, &[("t1", "y")]).await;
    assert_eq!(lab.keys("job#j1", "dek"), ["dek#0002"]);
    assert!(lines(&lab, "dek#").contains(&destroyed));
}

#[tokio::test]
async fn a_data_key_that_is_wrapped_anew_is_on_record_as_soon_as_it_is_there() {
    let lab = Lab::new();
    let store = lab.store().await;
    put(&partition(&store, "j1"), &[("t1", "x")]).await;
    store.rotate_kek().await.unwrap();
    let wrapped = |lab: &Lab| {
        let lines = lines(lab, "dek#").into_iter();
        lines
            .filter(|line| line.0 == "WrapDek")
            .map(|line| line.3)
            .sum::<u64>()
    };
    assert_eq!(wrapped(&lab), 1);
    store.retire_keks().await.unwrap();
    assert_eq!(wrapped(&lab), 2);
}
