//! What encryption costs: the store beside the plaintext SDK, on the same engine, in turns, so that a busy machine slows
//! all of them. Wall time and the CPU time of this process, medians and tenth percentiles.
//!
//! A put is compared with a plaintext `PutItem` of the record, and with a plaintext `TransactWriteItems` of as many rows
//! as the store writes (the record, the manifest, the event and the head of the audit); a get with `GetItem`, and with a
//! `Query` of the whole partition, which is what the store reads.
//!
//! DynamoDB Local takes part when `DYNAMODB_ENDPOINT` names one and the feature `aws` is built.

#![expect(
    clippy::expect_used,
    reason = "a benchmark that cannot run has nothing to say"
)]

// The store keeps its engine to itself; this is the same one, for the plaintext side.
#[expect(
    dead_code,
    unused_imports,
    reason = "the store uses more of it, and tests it"
)]
#[path = "../src/embedded.rs"]
mod embedded;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::builders::PutBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement,
    KeyType, Projection, ProjectionType, Put, ScalarAttributeType, TransactWriteItem,
};
use aws_smithy_runtime_api::client::http::{SharedHttpConnector, http_client_fn};
use blue_encrypted_store::{
    Backend, Batch, DekContext, DekHandle, EncryptedDek, Entity, KekContext, KekHandle, KeyError,
    KeyProvider, Kind, LocalEndpoint, LocalFileKeyProvider, Partition, PartitionVersion, Realm,
    Store, StoreConfig, StorePath, UmkHandle,
};
use criterion::{Criterion, criterion_group, criterion_main};
use embedded::Engine;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use worldcompute_fault::Result;

type Item = HashMap<String, AttributeValue>;

const PK: &str = "job#j1";

/// A record whose payload is all there is to it.
struct Record {
    id: String,
    payload: String,
}

impl Entity for Record {
    const TYPE: &'static str = "record";
    type Clear = ();
    type Sealed = String;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn split(self) -> ((), String) {
        ((), self.payload)
    }

    fn join(id: String, (): (), payload: String) -> Result<Self> {
        Ok(Self { id, payload })
    }
}

fn batch(records: usize, bytes: usize) -> Batch {
    let mut batch = Batch::new();
    for number in 0..records {
        let record = Record {
            id: format!("r{number:03}"),
            payload: "x".repeat(bytes),
        };
        batch.put(record).expect("is a record");
    }
    batch
}

/// How often a provider was asked, as a key service would be.
struct Counted {
    keys: LocalFileKeyProvider,
    asked: AtomicU64,
}

#[async_trait]
impl KeyProvider for Counted {
    fn realm(&self) -> Realm {
        self.keys.realm()
    }

    async fn get_umk(&self) -> Result<UmkHandle, KeyError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.keys.get_umk().await
    }

    async fn create_umk(&self) -> Result<UmkHandle, KeyError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.keys.create_umk().await
    }

    async fn derive_kek(
        &self,
        umk: &UmkHandle,
        context: &KekContext,
    ) -> Result<KekHandle, KeyError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.keys.derive_kek(umk, context).await
    }

    async fn encrypt_dek(
        &self,
        kek: &KekHandle,
        dek: &DekHandle,
        context: &DekContext,
    ) -> Result<EncryptedDek, KeyError> {
        EncryptedDek::wrap(kek, dek, context)
    }
}

/// Where a table is.
enum Place<'a> {
    Memory,
    File(&'a Path),
    Endpoint(&'a str),
}

impl Place<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File(_) => "file",
            Self::Endpoint(_) => "dynamodb_local",
        }
    }

    fn backend(&self, name: &str) -> Backend {
        match self {
            Self::Memory => Backend::Embedded(StorePath::Memory),
            Self::File(dir) => Backend::Embedded(StorePath::File(dir.join(name).join("sealed.db"))),
            Self::Endpoint(url) => {
                Backend::Endpoint(LocalEndpoint::parse(url).expect("is an endpoint"))
            }
        }
    }

    /// A client that knows nothing of the store.
    fn client(&self, name: &str) -> Client {
        match self {
            Self::Endpoint(url) => Client::from_conf(nobody().endpoint_url(*url).build()),
            Self::Memory => on_engine(Engine::memory().expect("opens")),
            Self::File(dir) => {
                on_engine(Engine::file(&dir.join(name).join("plain.db")).expect("opens"))
            }
        }
    }
}

fn nobody() -> Builder {
    Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("local", "local", None, None, "nobody"))
}

fn on_engine(engine: Engine) -> Client {
    let connector = SharedHttpConnector::new(engine);
    let client = http_client_fn(move |_, _| connector.clone());
    let builder = nobody().endpoint_url("http://embedded.invalid");
    Client::from_conf(builder.http_client(client).build())
}

/// Who does an operation.
#[derive(Clone, Copy)]
enum Side {
    /// One plaintext item.
    Item,
    /// As many plaintext rows as the store's.
    Rows,
    Sealed,
}

const SIDES: [Side; 3] = [Side::Item, Side::Rows, Side::Sealed];

/// What is done.
struct Shape {
    name: &'static str,
    records: usize,
    bytes: usize,
    write: bool,
}

const SHAPES: [Shape; 5] = [
    Shape::of("put_1KiB", 1, 1 << 10, true),
    Shape::of("get_1KiB", 1, 1 << 10, false),
    Shape::of("put_100KiB", 1, 100 << 10, true),
    Shape::of("get_100KiB", 1, 100 << 10, false),
    Shape::of("load_100_items", 100, 1 << 10, false),
];

impl Shape {
    const fn of(name: &'static str, records: usize, bytes: usize, write: bool) -> Self {
        Self {
            name,
            records,
            bytes,
            write,
        }
    }
}

/// One partition, twice on the same kind of engine: in a store, and as rows that mean nothing.
struct Bench<'a> {
    shape: &'a Shape,
    keys: Arc<Counted>,
    sealed: Partition,
    version: PartitionVersion,
    plain: Plain,
    rounds: usize,
}

impl<'a> Bench<'a> {
    async fn new(place: &Place<'_>, key: &Path, shape: &'a Shape) -> Self {
        let name = format!("{}-{}-{}", place.name(), shape.name, std::process::id());
        let (sealed, version, keys) = fill(place.backend(&name), &name, key, shape).await;
        let rows = rows_like(key, shape).await;
        Self {
            shape,
            keys,
            sealed,
            version,
            plain: Plain::new(place.client(&name), format!("{name}-plain"), rows).await,
            rounds: 0,
        }
    }

    /// The sides with their numbers, in each of the six orders in turn: how slow a server is depends on what it did just
    /// before.
    fn next_order(&mut self) -> Vec<(usize, Side)> {
        self.rounds = self.rounds.wrapping_add(1);
        let mut order: Vec<(usize, Side)> = SIDES.into_iter().enumerate().collect();
        order.rotate_left(self.rounds % SIDES.len());
        if self.rounds % (2 * SIDES.len()) < SIDES.len() {
            order.reverse();
        }
        order
    }

    async fn run(&mut self, side: Side) {
        match (side, self.shape.write) {
            (Side::Item, true) => self.plain.put_item().await,
            (Side::Rows, true) => self.plain.put_rows().await,
            (Side::Sealed, true) => self.put_sealed().await,
            (Side::Item, false) => self.plain.get_item().await,
            (Side::Rows, false) => self.plain.get_rows().await,
            (Side::Sealed, false) => self.get_sealed().await,
        }
    }

    async fn put_sealed(&mut self) {
        let batch = batch(1, self.shape.bytes);
        let committed = self.sealed.commit(batch, self.version).await;
        self.version = committed.expect("commits");
    }

    async fn get_sealed(&self) {
        let loaded = self.sealed.load().await.expect("loads");
        let records = loaded.expect("is there").entities::<Record>();
        assert_eq!(records.expect("decrypts").len(), self.shape.records);
    }
}

/// The rows of a store, in a table that knows nothing of it.
struct Plain {
    client: Client,
    table: String,
    /// How many rows the partition has.
    rows: usize,
    written: [Written; 2],
    events: u64,
}

/// What one put writes. The next writes the other of two: an engine may save itself the work where nothing changes.
#[derive(Clone)]
struct Written {
    record: Item,
    root: Item,
    head: Item,
    event: Item,
}

impl Written {
    fn of(rows: &[Item]) -> Self {
        let of_type = |name: &str| {
            let found = rows
                .iter()
                .find(|row| row.get("entity_type") == Some(&text(name)));
            found.expect("is there").clone()
        };
        Self {
            record: of_type("record"),
            root: of_type("manifest"),
            head: of_type("audit_head"),
            event: of_type("audit_event"),
        }
    }

    /// The same with other ciphertexts and seals.
    fn other(&self) -> Self {
        let mut other = self.clone();
        for row in [&mut other.record, &mut other.root, &mut other.head] {
            for value in row.values_mut() {
                if let AttributeValue::B(bytes) = value {
                    let changed = bytes.as_ref().iter().map(|byte| byte ^ 0x5a);
                    *value = AttributeValue::B(Blob::new(changed.collect::<Vec<_>>()));
                }
            }
        }
        other
    }
}

impl Plain {
    async fn new(client: Client, table: String, rows: Vec<Item>) -> Self {
        create(&client, &table).await;
        for row in &rows {
            let put = client.put_item().table_name(&table);
            let put = put.set_item(Some(row.clone()));
            put.send().await.expect("puts");
        }
        let written = Written::of(&rows);
        Self {
            client,
            table,
            rows: rows
                .iter()
                .filter(|row| row.get("pk") == Some(&text(PK)))
                .count(),
            written: [written.clone(), written.other()],
            events: 1_000_000,
        }
    }

    async fn put_item(&mut self) {
        let put = self.client.put_item().table_name(&self.table);
        let put = put.set_item(Some(self.written[1].record.clone()));
        put.send().await.expect("puts");
    }

    /// Under the conditions that the store has, so that the engine has the same to do.
    async fn put_rows(&mut self) {
        self.events += 1;
        let [before, now] = &self.written;
        let mut event = now.event.clone();
        event.insert("sk".to_owned(), text(&format!("event#{:020}", self.events)));
        let rows = [
            self.exchange(&before.root, &now.root),
            self.exchange(&before.head, &now.head),
            self.put(&now.record).build(),
            self.put(&event)
                .condition_expression("attribute_not_exists(pk)")
                .build(),
        ];
        let rows = rows.map(|put| {
            let put = put.expect("is complete");
            TransactWriteItem::builder().put(put).build()
        });
        let request = self.client.transact_write_items();
        let written = request.set_transact_items(Some(rows.into())).send();
        written.await.expect("writes");
        self.written.swap(0, 1);
    }

    fn put(&self, row: &Item) -> PutBuilder {
        let put = Put::builder().table_name(&self.table);
        put.set_item(Some(row.clone()))
    }

    /// Puts `now` where `before` is.
    fn exchange(&self, before: &Item, now: &Item) -> Result<Put, BuildError> {
        let seal = before.get("seal").expect("is there").clone();
        let put = self.put(now).condition_expression("seal = :s");
        put.expression_attribute_values(":s", seal).build()
    }

    async fn get_item(&self) {
        let record = &self.written[0].record;
        let key = |name: &str| record.get(name).expect("is there").clone();
        let get = self.client.get_item().table_name(&self.table);
        let get = get.key("pk", key("pk")).key("sk", key("sk"));
        let got = get.consistent_read(true).send().await;
        assert!(got.expect("reads").item.is_some());
    }

    async fn get_rows(&self) {
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
        let items: Result<Vec<_>, _> = pages.collect().await;
        assert_eq!(items.expect("reads").len(), self.rows);
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

async fn fill(
    backend: Backend,
    table: &str,
    key: &Path,
    shape: &Shape,
) -> (Partition, PartitionVersion, Arc<Counted>) {
    let config = StoreConfig::on(backend).table(table).without_anchor();
    let keys = Arc::new(Counted {
        keys: LocalFileKeyProvider::new(key),
        asked: AtomicU64::new(0),
    });
    let store = Store::set_up(config, keys.clone()).await.expect("sets up");
    let partition = store.partition(Kind::JOB, "j1").expect("is an id");
    let first = batch(shape.records, shape.bytes);
    let version = partition.commit(first, PartitionVersion::NONE).await;
    (partition, version.expect("commits"), keys)
}

/// The rows that such a table has, from a store of their own.
async fn rows_like(key: &Path, shape: &Shape) -> Vec<Item> {
    let dir = tempfile::tempdir().expect("makes a directory");
    let place = Place::File(dir.path());
    let filled = fill(place.backend("like"), "like", key, shape).await;
    drop(filled);
    let path = dir.path().join("like").join("sealed.db");
    let client = on_engine(Engine::file(&path).expect("opens"));
    let scan = client.scan().table_name("like").into_paginator();
    let items: Result<Vec<_>, _> = scan.items().send().collect().await;
    items.expect("reads")
}

/// The keys and the index of a store's table.
async fn create(client: &Client, table: &str) {
    let key = |name: &str, key_type| {
        let key = KeySchemaElement::builder().attribute_name(name);
        key.key_type(key_type).build().expect("is complete")
    };
    let keys_only = Projection::builder().projection_type(ProjectionType::KeysOnly);
    let index = GlobalSecondaryIndex::builder()
        .index_name("ByStatus")
        .key_schema(key("gsi1pk", KeyType::Hash))
        .key_schema(key("gsi1sk", KeyType::Range))
        .projection(keys_only.build());
    let mut request = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .global_secondary_indexes(index.build().expect("is complete"));
    for name in ["pk", "sk", "gsi1pk", "gsi1sk"] {
        let attribute = AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::S);
        request = request.attribute_definitions(attribute.build().expect("is complete"));
    }
    request.send().await.expect("creates the table");
}

/// What one side of an operation took, call by call, in microseconds.
#[derive(Default)]
struct Tally {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Tally {
    async fn time(&mut self, operation: impl Future<Output = ()>) -> Duration {
        let (start, cpu) = (Instant::now(), cpu_time());
        operation.await;
        let wall = start.elapsed();
        self.wall.push(micros(wall));
        self.cpu.push(micros(cpu_time().saturating_sub(cpu)));
        wall
    }
}

/// Of all threads of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("is not negative");
    let nanoseconds = u32::try_from(time.tv_nsec).expect("is not negative");
    Duration::new(seconds, nanoseconds)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The value that one in `parts` are below.
fn quantile(values: &[f64], parts: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = sorted.len().checked_div(parts).unwrap_or_default();
    sorted.get(at).copied().unwrap_or_default()
}

/// All sides in turns; what `measured` took together.
async fn turns(
    bench: &mut Bench<'_>,
    rounds: u64,
    tallies: &mut [Tally; 3],
    measured: usize,
) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        for (number, side) in bench.next_order() {
            let Some(tally) = tallies.get_mut(number) else {
                continue;
            };
            let took = tally.time(bench.run(side)).await;
            if number == measured {
                spent += took;
            }
        }
    }
    spent
}

/// Benches one operation; a line for the table, unless it was filtered out.
fn compare(
    criterion: &mut Criterion,
    runtime: &Runtime,
    bench: &mut Bench<'_>,
    name: &str,
) -> Option<String> {
    let mut tallies = <[Tally; 3]>::default();
    let asked = bench.keys.asked.load(Ordering::Relaxed);
    let mut group = criterion.benchmark_group(name);
    for (number, side) in ["plaintext_item", "plaintext_rows", "sealed"]
        .into_iter()
        .enumerate()
    {
        group.bench_function(side, |bencher| {
            bencher
                .iter_custom(|rounds| runtime.block_on(turns(bench, rounds, &mut tallies, number)));
        });
    }
    group.finish();
    let asked = bench.keys.asked.load(Ordering::Relaxed) - asked;
    (!tallies.iter().any(|tally| tally.wall.is_empty())).then(|| line(name, &tallies, asked))
}

fn line(name: &str, [item, rows, sealed]: &[Tally; 3], asked: u64) -> String {
    let wall = |tally: &Tally| (quantile(&tally.wall, 2), quantile(&tally.wall, 10));
    let cpu = |tally: &Tally| quantile(&tally.cpu, 2);
    let [
        (item_50, item_10),
        (rows_50, rows_10),
        (sealed_50, sealed_10),
    ] = [wall(item), wall(rows), wall(sealed)];
    format!(
        "| {name} | {item_50:.0} / {item_10:.0} | {rows_50:.0} / {rows_10:.0} | {sealed_50:.0} / {sealed_10:.0} \
         | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:+.0} | {asked} | {} |",
        sealed_50 / item_50,
        sealed_50 / rows_50,
        cpu(item),
        cpu(rows),
        cpu(sealed),
        cpu(sealed) - cpu(rows),
        sealed.wall.len(),
    )
}

fn overhead(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("starts");
    let dir = tempfile::tempdir().expect("makes a directory");
    let key = dir.path().join("keys/umk.key");
    let endpoint = std::env::var("DYNAMODB_ENDPOINT").ok();
    let mut places = vec![Place::Memory, Place::File(dir.path())];
    places.extend(endpoint.as_deref().map(Place::Endpoint));
    let mut lines = Vec::new();
    for place in &places {
        for shape in &SHAPES {
            let mut bench = runtime.block_on(Bench::new(place, &key, shape));
            let name = format!("{}_{}", shape.name, place.name());
            lines.extend(compare(criterion, &runtime, &mut bench, &name));
        }
    }
    println!("\nMicroseconds, medians (of wall time also the tenth percentile):\n");
    println!(
        "| operation | one plaintext item | as many plaintext rows | sealed | ratio to the item | ratio to the rows \
         | CPU of the item | CPU of the rows | CPU sealed | CPU beyond the rows | keys asked for | rounds |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    println!("{}", lines.join("\n"));
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = overhead
}
criterion_main!(benches);
