//! A broker that is killed with SIGKILL, again and again, loses no acknowledged job and settles no task twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::support::{Desk, donor, file, job_id, manifest};
use worldcompute_ledger::receipt::Status;
use worldcompute_proof::PeerId;
use worldcompute_scheduler::records::Records;
use worldcompute_scheduler::{JobState, LeaseId, TaskState};

/// Set for the process that is going to be killed: where its store is.
const HOME: &str = "WORLDCOMPUTE_TEST_HOME";
const JOBS: u64 = 3;
const TASKS: u32 = 40;

/// The process that is killed: submits what is not there, runs what is, and says aloud what it acknowledged.
#[tokio::test]
#[ignore = "the other test starts this in a process of its own, and kills it"]
async fn child() {
    let home = std::env::var(HOME).unwrap();
    let records = Arc::new(Records::new(file(Path::new(&home)).await));
    let mut desk = Desk::resumed(records.clone()).await;
    let numbers: BTreeMap<PeerId, u8> = (0..3)
        .map(|number| (donor(number).peer_id(), number))
        .collect();
    numbers.values().for_each(|number| desk.donor(*number, 2));
    for number in 0..JOBS {
        if records.job(job_id(number)).await.unwrap().is_none() {
            desk.submit(manifest(number, TASKS)).await;
        }
    }
    let mut said = Said::default();
    desk.settle().await;
    while let Some((lease, peer)) = desk.dispatched.pop() {
        desk.tell_ran(lease, numbers[&peer], Status::Succeeded);
        said.report(&desk, lease);
        desk.settle().await;
    }
    said.report_all(&desk);
    say("done");
}

#[derive(Default)]
struct Said {
    submitted: usize,
}

impl Said {
    fn report(&mut self, desk: &Desk, lease: LeaseId) {
        self.report_all(desk);
        say(&format!("answered {lease}"));
    }

    fn report_all(&mut self, desk: &Desk) {
        for job in &desk.submitted[self.submitted..] {
            say(&format!("submitted {job}"));
        }
        self.submitted = desk.submitted.len();
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{line}").unwrap();
    out.flush().unwrap();
}

fn spawn(home: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "kill::child",
            "--ignored",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(HOME, home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a child until it has said `patience` lines, then kills it. True when it came to its end before.
fn run_and_kill(home: &Path, patience: usize, acknowledged: &mut BTreeSet<String>) -> bool {
    let mut child = spawn(home);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines
        .map_while(Result::ok)
        .filter_map(|line| line.split_once('@').map(|(_, said)| said.to_owned()));
    let mut done = false;
    for line in said.take(patience) {
        done |= line == "done";
        acknowledged.extend(line.strip_prefix("submitted ").map(str::to_owned));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    done
}

#[tokio::test]
async fn no_acknowledged_job_is_lost_and_no_task_settled_twice_however_often_the_broker_is_killed()
{
    let home = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    let mut accepted: BTreeMap<(u64, u32), LeaseId> = BTreeMap::new();
    let mut kills = 0;
    while !run_and_kill(home.path(), 2 + kills * 5 % 31, &mut acknowledged) {
        kills += 1;
        assert!(kills < 200, "it never ends");
        check(home.path(), &acknowledged, &mut accepted).await;
    }
    assert!(kills >= 5, "killed only {kills} times");
    check(home.path(), &acknowledged, &mut accepted).await;
    assert!(!acknowledged.is_empty());
    assert_eq!(accepted.len() as u64, JOBS * u64::from(TASKS));
    println!("killed {kills} times");
}

/// What was acknowledged is there, and what was accepted before is accepted still, by the same lease.
async fn check(
    home: &Path,
    acknowledged: &BTreeSet<String>,
    accepted: &mut BTreeMap<(u64, u32), LeaseId>,
) {
    let records = Records::new(file(home).await);
    for id in acknowledged {
        assert!(
            records.job(id.parse().unwrap()).await.unwrap().is_some(),
            "{id} was acknowledged and is lost"
        );
    }
    for number in 0..JOBS {
        let Some(stored) = records.job(job_id(number)).await.unwrap() else {
            continue;
        };
        let receipts = records.receipts(job_id(number)).await.unwrap();
        let settled = stored
            .tasks
            .iter()
            .filter(|task| task.state == TaskState::Accepted);
        assert_eq!(
            settled.clone().count(),
            receipts.len(),
            "an accepted task has no receipt"
        );
        assert_eq!(stored.job.tally.accepted as usize, receipts.len());
        assert_eq!(
            stored.job.state == JobState::Completed,
            receipts.len() as u32 == TASKS
        );
        for (task, receipt) in settled.zip(&receipts) {
            let lease = task.leases.last().unwrap().id;
            assert_eq!(receipt.receipt().lease_id, lease.to_string());
            let before = *accepted.entry((number, task.index)).or_insert(lease);
            assert_eq!(before, lease, "a task was accepted twice");
        }
    }
}
