//! Prints how long commits and loads take; asserts only what they did.

use std::sync::Arc;
use std::time::{Duration, Instant};

use blue_encrypted_store::{
    Batch, Entity, Kind, LocalFileKeyProvider, Partition, PartitionVersion, Store, StoreConfig,
    StorePath,
};
use serde::{Deserialize, Serialize};

struct Task {
    id: String,
    status: String,
    detail: String,
}

#[derive(Serialize, Deserialize)]
struct Clear {
    status: String,
}

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

    fn join(id: String, Clear { status }: Clear, detail: String) -> Self {
        Self { id, status, detail }
    }
}

fn task(number: usize, status: &str) -> Task {
    Task {
        id: format!("t{number:05}"),
        status: status.to_owned(),
        detail: "x".repeat(900),
    }
}

async fn timed_commits(
    partition: &Partition,
    version: &mut PartitionVersion,
    size: usize,
    rounds: usize,
) -> Vec<Duration> {
    let mut times = Vec::new();
    for round in 0..rounds {
        let mut batch = Batch::new();
        for offset in 0..size {
            batch
                .put(task((round * size + offset) % 1000, "done"))
                .unwrap();
        }
        let start = Instant::now();
        *version = partition.commit(batch, *version).await.unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_and_loads_take_this_long() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Arc::new(LocalFileKeyProvider::new(dir.path().join("keys/umk.key")));
    let config = StoreConfig::new(StorePath::File(dir.path().join("store.db")));
    let store = Store::open(config, keys).await.unwrap();
    let partition = store.partition(Kind::JOB, "j1").unwrap();
    let mut batch = Batch::new();
    for number in 0..1000 {
        batch.insert(task(number, "pending")).unwrap();
    }
    let start = Instant::now();
    let mut version = partition
        .commit(batch, PartitionVersion::NONE)
        .await
        .unwrap();
    println!("first commit of 1,000 records: {:?}", start.elapsed());
    for (size, rounds) in [(1, 200), (10, 100), (90, 20), (200, 20)] {
        let times = timed_commits(&partition, &mut version, size, rounds).await;
        println!(
            "commit of {size} of 1,000 records: p50 {:?}, p99 {:?}",
            times[rounds / 2],
            times[rounds * 99 / 100]
        );
    }
    let start = Instant::now();
    let snapshot = partition.load().await.unwrap().unwrap();
    println!("load of 1,000 records: {:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(snapshot.entities::<Task>().unwrap().len(), 1000);
    println!("decryption of 1,000 records: {:?}", start.elapsed());
}
