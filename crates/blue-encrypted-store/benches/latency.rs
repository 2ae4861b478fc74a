//! How long commits and loads take, with the table in memory and in a file.

#![expect(
    clippy::expect_used,
    reason = "a benchmark that cannot run has nothing to say"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use blue_encrypted_store::{
    Batch, ClearHalf, Entity, Kind, LocalFileKeyProvider, Partition, Store, StoreConfig, StorePath,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use worldcompute_fault::Result;

/// Live records of the partition that is committed to.
const RECORDS: usize = 1_000;

struct Task {
    id: String,
    status: String,
    detail: String,
}

#[derive(Serialize, Deserialize)]
struct Clear {
    status: String,
}

impl ClearHalf for Clear {}

impl Entity for Task {
    const TYPE: &'static str = "task";
    type Clear = Clear;
    type Sealed = String;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn split(self) -> (Clear, String) {
        let Self { status, detail, .. } = self;
        (Clear { status }, detail)
    }

    fn join(id: String, Clear { status }: Clear, detail: String) -> Result<Self> {
        Ok(Self { id, status, detail })
    }
}

/// About 1 KiB as stored.
fn task(number: usize, status: &str) -> Task {
    Task {
        id: format!("t{number:05}"),
        status: status.to_owned(),
        detail: "x".repeat(700),
    }
}

/// Replaces `size` of the records, again and again, in the order of their ids.
async fn commits(partition: &Partition, size: usize, rounds: u64) -> Duration {
    let loaded = partition.load().await.expect("loads");
    let mut version = loaded.expect("was committed").version();
    let mut next = 0;
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        let mut batch = Batch::new();
        for _ in 0..size {
            batch
                .put(task(next % RECORDS, "done"))
                .expect("is a record");
            next += 1;
        }
        let start = Instant::now();
        version = partition.commit(batch, version).await.expect("commits");
        spent += start.elapsed();
    }
    spent
}

async fn filled(path: StorePath, keys: Arc<LocalFileKeyProvider>) -> Partition {
    let store = Store::open(StoreConfig::new(path), keys)
        .await
        .expect("opens");
    let partition = store.partition(Kind::JOB, "j1").expect("is an id");
    let mut batch = Batch::new();
    for number in 0..RECORDS {
        batch.insert(task(number, "pending")).expect("is a record");
    }
    let none = blue_encrypted_store::PartitionVersion::NONE;
    partition.commit(batch, none).await.expect("commits");
    partition
}

fn latency(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("starts");
    let dir = tempfile::tempdir().expect("makes a directory");
    let keys = Arc::new(LocalFileKeyProvider::new(dir.path().join("keys/umk.key")));
    let file = StorePath::File(dir.path().join("store.db"));
    for (place, path) in [("memory", StorePath::Memory), ("file", file)] {
        let partition = runtime.block_on(filled(path, keys.clone()));
        let mut group = criterion.benchmark_group(format!("commit/{place}"));
        for size in [1, 10, 200] {
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher
                    .to_async(&runtime)
                    .iter_custom(|rounds| commits(&partition, size, rounds));
            });
        }
        group.finish();
        criterion.bench_function(&format!("load/{place}/{RECORDS}"), |bencher| {
            bencher.to_async(&runtime).iter(|| partition.load());
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = latency
}
criterion_main!(benches);
