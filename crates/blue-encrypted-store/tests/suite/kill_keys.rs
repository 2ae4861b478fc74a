//! A process is killed at random moments while it rotates, retires and destroys keys. What is there afterwards is exactly what
//! is on record.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use blue_encrypted_store::{
    Batch, Kind, Partition, PartitionVersion, Problem, Store, VerifyReport,
};

use crate::common::note;
use crate::kill::{CHILD, ENDPOINT, Seeded, Victim, reopen, run_and_kill};

const ROUNDS: u64 = 10;
/// Each commit sweeps some of what was left over.
const SWEEPS: usize = 4;

/// Makes partitions, changes their keys and erases them, and says so after each step. Runs until it is killed.
#[tokio::test]
#[ignore = "the process that what_is_left_of_changes_of_keys_is_what_is_on_record starts and kills"]
async fn child() {
    let dir = std::env::var(CHILD).unwrap();
    let endpoint = std::env::var(ENDPOINT).ok();
    let store = reopen(Path::new(&dir), endpoint.as_deref()).await;
    let (mut out, mut steps) = (std::io::stdout(), 0);
    let mut acknowledge = || {
        steps += 1;
        writeln!(out, "ack {steps}").unwrap();
    };
    // What broke off before is taken up again.
    store.retire_keks().await.unwrap();
    for number in first_unused(&store).await.. {
        let partition = numbered(&store, number);
        let at = partition.commit(notes(3), PartitionVersion::NONE).await;
        at.unwrap();
        acknowledge();
        let at = partition.rotate().await.unwrap();
        acknowledge();
        partition.commit(notes(130), at).await.unwrap();
        acknowledge();
        store.rotate_kek().await.unwrap();
        acknowledge();
        store.retire_keks().await.unwrap();
        acknowledge();
        if number > 1 {
            numbered(&store, number - 2).erase().await.unwrap();
        }
        acknowledge();
    }
}

fn notes(count: usize) -> Batch {
    let mut batch = Batch::new();
    for id in 0..count {
        batch.put(note(format!("n{id:03}"), "x")).unwrap();
    }
    batch
}

fn numbered(store: &Store, number: u64) -> Partition {
    store.partition(Kind::JOB, &format!("j{number}")).unwrap()
}

async fn first_unused(store: &Store) -> u64 {
    for number in 0.. {
        if matches!(numbered(store, number).load().await, Ok(None)) {
            return number;
        }
    }
    unreachable!()
}

/// What is wrong once everything that was left over had the chance to be swept: a commit that was interrupted leaves rows that
/// nobody reads, and the next one there deletes them. What it cannot delete stays, and is told.
async fn swept(store: &Store) -> VerifyReport {
    let mut report = store.verify(&[], &mut |_| {}).await.unwrap();
    for _ in 0..SWEEPS {
        let extra = report
            .findings
            .iter()
            .filter(|it| it.problem == Problem::Extra);
        let left: BTreeSet<_> = extra.map(|it| it.partition.clone()).collect();
        if left.is_empty() {
            break;
        }
        for name in left {
            let partition = store.partition_named(&name).unwrap();
            match partition.load().await {
                Ok(found) => {
                    let at = found.map_or(PartitionVersion::NONE, |found| found.version());
                    partition.commit(notes(1), at).await.unwrap();
                }
                Err(fault) => {
                    assert_eq!(fault.code(), "partition_erased", "{name}");
                    partition.erase().await.unwrap();
                }
            }
        }
        report = store.verify(&[], &mut |_| {}).await.unwrap();
    }
    report
}

async fn kill_those_who_change_keys(endpoint: Option<&str>) {
    let (mut seeded, dir) = (Seeded::new(), tempfile::tempdir().unwrap());
    let (mut partitions, mut events) = (0, 0);
    for round in 0..ROUNDS {
        let victim = Victim {
            test: "kill_keys::child",
            dir: dir.path(),
            endpoint,
        };
        let moment = seeded.moment();
        // What the store of the last round still does in the background goes on meanwhile, and ends.
        tokio::task::block_in_place(|| run_and_kill(victim, moment));
        let store = reopen(dir.path(), endpoint).await;
        let report = swept(&store).await;
        assert!(report.is_sound(), "round {round}: {report:?}");
        (partitions, events) = (report.partitions, report.audit.events());
        store.close().await.unwrap();
    }
    println!("{partitions} partitions, {events} events, {ROUNDS} kills");
    assert!(partitions > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_changes_of_keys_is_what_is_on_record() {
    kill_those_who_change_keys(None).await;
}

#[cfg(feature = "aws")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_changes_of_keys_on_a_server_is_what_is_on_record() {
    let Ok(endpoint) = std::env::var("DYNAMODB_ENDPOINT") else {
        println!("skipped: DYNAMODB_ENDPOINT is not set");
        return;
    };
    kill_those_who_change_keys(Some(&endpoint)).await;
}
