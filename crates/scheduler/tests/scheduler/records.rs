//! Jobs in the encrypted store survive restarts at any point, and commits that fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{
    Desk, countersigned, donor, file, job_id, manifest, memory, plant, rows, submitter, text,
};
use blue_encrypted_store::{Batch, ClearHalf, Entity, Kind};
use dynoxide::AttributeValue;
use worldcompute_fault::{Category, Result, WcCode};
use worldcompute_ledger::receipt::{SignedReceipt, Status};
use worldcompute_scheduler::broker::{COMMIT_TASKS, Event, Options};
use worldcompute_scheduler::records::Records;
use worldcompute_scheduler::{JobState, LeaseState, TaskState};

#[tokio::test]
async fn a_job_reads_back_as_it_was_committed() {
    let (store, _home) = memory().await;
    let records = Arc::new(Records::new(store));
    let mut desk = Desk::new(records.clone());
    desk.donor(0, 2);
    let id = desk.submit(manifest(1, 3)).await;
    desk.ran(desk.dispatched[0].0, 0, Status::Succeeded).await;

    let stored = records.job(id).await.unwrap().unwrap();
    assert!(*stored.manifest == *desk.manifests[&id]);
    assert_eq!(stored.options, Options::default());
    assert_eq!(stored.job, desk.broker.job(id).unwrap());
    assert_eq!(stored.tasks, desk.broker.tasks(id).unwrap());
    assert_eq!(stored.tasks[0].state, TaskState::Accepted);
    assert_eq!(stored.tasks[0].leases[0].donor, donor(0).peer_id());
    let receipts = records.receipts(id).await.unwrap();
    assert_eq!(receipts.len(), 1);
    assert!(records.receipt(id, 0).await.unwrap() == Some(receipts[0].clone()));
    assert!(records.receipt(id, 1).await.unwrap().is_none());
    assert!(records.job(job_id(9)).await.unwrap().is_none());
}

#[tokio::test]
async fn rows_of_a_job_that_never_was_keep_no_other_from_being_found() {
    let home = tempfile::tempdir().unwrap();
    let id = {
        let mut desk = Desk::new(Arc::new(Records::new(file(home.path()).await)));
        desk.submit(manifest(1, 3)).await
    };
    let mut rows = rows(home.path(), &format!("job#{id}"));
    rows.retain(|row| ["meta", "dek#0001"].contains(&text(row, "sk")));
    assert_eq!(rows.len(), 2);
    for row in &mut rows {
        let stranger = AttributeValue::S(format!("job#{}", job_id(9)));
        row.insert("pk".to_owned(), stranger);
    }
    plant(home.path(), rows.clone());
    let found = Records::new(file(home.path()).await).load_open().await;
    let found: Vec<_> = found.unwrap().iter().map(|stored| stored.job.id).collect();
    assert_eq!(found, [id]);
    // A job that was is not passed over when it is damaged.
    rows.retain(|row| text(row, "sk") == "meta");
    rows[0].insert("pk".to_owned(), AttributeValue::S(format!("job#{id}")));
    rows[0].insert("updated_at".to_owned(), AttributeValue::S("now".to_owned()));
    plant(home.path(), rows);
    let fault = Records::new(file(home.path()).await).load_open().await;
    assert_eq!(fault.unwrap_err().category(), Category::VerificationFailed);
}

#[tokio::test]
async fn options_of_a_job_are_kept() {
    let (store, _home) = memory().await;
    let records = Arc::new(Records::new(store));
    let mut desk = Desk::new(records.clone());
    let options = Options {
        patience: Some(Duration::from_millis(1_500)),
        donor: Some(donor(3).peer_id()),
    };
    desk.manifests.insert(job_id(1), manifest(1, 1));
    desk.broker
        .submit(desk.now, manifest(1, 1), options)
        .unwrap();
    desk.settle().await;
    assert_eq!(
        records.job(job_id(1)).await.unwrap().unwrap().options,
        options
    );
    let longest = Options {
        patience: Some(Duration::MAX),
        donor: None,
    };
    desk.manifests.insert(job_id(2), manifest(2, 1));
    desk.broker
        .submit(desk.now, manifest(2, 1), longest)
        .unwrap();
    desk.settle().await;
    assert!(
        records
            .job(job_id(2))
            .await
            .unwrap()
            .unwrap()
            .options
            .patience
            > options.patience
    );
}

#[tokio::test]
async fn a_restart_in_the_middle_keeps_accepted_tasks_and_adopts_live_leases() {
    let home = tempfile::tempdir().unwrap();
    let (id, live) = {
        let mut desk = Desk::new(Arc::new(Records::new(file(home.path()).await)));
        desk.donor(0, 4);
        let id = desk.submit(manifest(1, 10)).await;
        for _ in 0..3 {
            let lease = desk.dispatched[desk.dispatched.len() - 4].0;
            desk.ran(lease, 0, Status::Succeeded).await;
        }
        (id, desk.dispatched[3..].to_vec())
    };

    let records = Arc::new(Records::new(file(home.path()).await));
    let mut desk = Desk::resumed(records.clone()).await;
    assert_eq!(desk.broker.job(id).unwrap().tally.accepted, 3);
    desk.donor(0, 4);
    desk.settle().await;
    assert_eq!(
        BTreeSet::from_iter(desk.dispatched.clone()),
        BTreeSet::from_iter(live)
    );
    let mut answered = 0;
    while desk.finished.is_empty() {
        desk.ran(desk.dispatched[answered].0, 0, Status::Succeeded)
            .await;
        answered += 1;
    }
    assert_eq!(desk.finished[0].state, JobState::Completed);
    assert!(desk.submitted.is_empty());
    check_complete(&records, id, 10).await;
}

#[tokio::test]
async fn a_receipt_that_was_taken_but_not_committed_is_asked_for_again() {
    let home = tempfile::tempdir().unwrap();
    let lease = {
        let mut desk = Desk::new(Arc::new(Records::new(file(home.path()).await)));
        desk.donor(0, 1);
        desk.submit(manifest(1, 1)).await;
        let lease = desk.dispatched[0];
        desk.tell_ran(lease.0, 0, Status::Succeeded);
        desk.next_commit();
        lease
    };
    let records = Arc::new(Records::new(file(home.path()).await));
    let mut desk = Desk::resumed(records.clone()).await;
    desk.donor(0, 1);
    desk.settle().await;
    assert_eq!(desk.dispatched, [lease]);
    desk.ran(lease.0, 0, Status::Succeeded).await;
    check_complete(&records, job_id(1), 1).await;
}

async fn check_complete(records: &Records, id: worldcompute_scheduler::JobId, tasks: u32) {
    let stored = records.job(id).await.unwrap().unwrap();
    assert_eq!(stored.job.state, JobState::Completed);
    assert_eq!(stored.job.tally.accepted, tasks);
    assert_eq!(stored.tasks.len() as u32, tasks);
    for task in &stored.tasks {
        assert_eq!(task.state, TaskState::Accepted);
        assert!(
            task.leases
                .iter()
                .all(|lease| lease.state != LeaseState::Active)
        );
    }
    let receipts = records.receipts(id).await.unwrap();
    let indices: Vec<_> = receipts
        .iter()
        .map(|receipt| receipt.receipt().task_index)
        .collect();
    assert_eq!(indices, Vec::from_iter(0..tasks));
    for (receipt, task) in receipts.iter().zip(&stored.tasks) {
        assert_eq!(
            receipt.receipt().lease_id,
            task.leases.last().unwrap().id.to_string()
        );
    }
}

#[tokio::test]
async fn a_thousand_tasks_commit_in_small_portions_and_read_back_whole() {
    let (store, _home) = memory().await;
    let records = Arc::new(Records::new(store));
    let mut desk = Desk::new(records.clone());
    (0..4).for_each(|number| desk.donor(number, 250));
    let began = Instant::now();
    let id = desk.submit(manifest(1, 1_000)).await;
    assert_eq!(desk.dispatched.len(), 1_000);
    let mut storing = began.elapsed();
    for (at, (lease, peer)) in desk.dispatched.clone().into_iter().enumerate() {
        let number = (0..4)
            .find(|number| donor(*number).peer_id() == peer)
            .unwrap();
        desk.tell_ran(lease, number, Status::Succeeded);
        if at % COMMIT_TASKS == 0 || at == 999 {
            let settling = Instant::now();
            desk.settle().await;
            storing += settling.elapsed();
        }
    }
    println!(
        "1000 tasks: {} commits took {storing:?} of {:?}",
        desk.commits,
        began.elapsed()
    );
    assert_eq!(desk.finished[0].tally.accepted, 1_000);
    check_complete(&records, id, 1_000).await;
}

#[tokio::test]
async fn a_commit_can_be_repeated_whether_or_not_it_took_place() {
    let (store, _home) = memory().await;
    let records = Arc::new(Records::new(store));
    let mut desk = Desk::new(records.clone());
    desk.donor(0, 1);
    desk.manifests.insert(job_id(1), manifest(1, 1));
    desk.broker
        .submit(desk.now, manifest(1, 1), Options::default())
        .unwrap();
    for _ in 0..3 {
        let commit = desk.next_commit();
        desk.store(&commit).await.unwrap();
        desk.store(&commit).await.unwrap();
        desk.broker.handle(
            desk.now,
            Event::CommitFailed {
                job: job_id(1),
                number: commit.number,
            },
        );
        desk.now.monotonic += Duration::from_secs(60);
        desk.donor(0, 1);
    }
    desk.settle().await;
    desk.ran(desk.dispatched[0].0, 0, Status::Succeeded).await;
    check_complete(&records, job_id(1), 1).await;
}

#[tokio::test]
async fn a_commit_behind_the_back_of_the_records_is_noticed_and_does_not_block_the_next() {
    let (store, _home) = memory().await;
    let records = Arc::new(Records::new(store.clone()));
    let mut desk = Desk::new(records.clone());
    desk.donor(0, 1);
    let id = desk.submit(manifest(1, 1)).await;
    let partition = store.partition(Kind::JOB, &id.to_string()).unwrap();
    let snapshot = partition.load().await.unwrap().unwrap();
    let job = snapshot.get::<ForgedTask>("0").unwrap().unwrap();
    let mut batch = Batch::new();
    batch.put(job.into_value()).unwrap();
    partition.commit(batch, snapshot.version()).await.unwrap();

    desk.tell_ran(desk.dispatched[0].0, 0, Status::Succeeded);
    let commit = desk.next_commit();
    let refused = desk.store(&commit).await.unwrap_err();
    assert_eq!(refused.code(), "state_contention");
    desk.store(&commit).await.unwrap();
    assert_eq!(records.receipts(id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_the_store_has_had_is_not_overwritten_by_the_same_manifest() {
    let home = tempfile::tempdir().unwrap();
    {
        let mut desk = Desk::new(Arc::new(Records::new(file(home.path()).await)));
        desk.donor(0, 1);
        desk.submit(manifest(1, 1)).await;
        desk.ran(desk.dispatched[0].0, 0, Status::Succeeded).await;
    }
    let records = Arc::new(Records::new(file(home.path()).await));
    let mut desk = Desk::new(records.clone());
    desk.manifests.insert(job_id(1), manifest(1, 1));
    desk.broker
        .submit(desk.now, manifest(1, 1), Options::default())
        .unwrap();
    let commit = desk.next_commit();
    for _ in 0..2 {
        assert_eq!(
            desk.store(&commit).await.unwrap_err().number(),
            Some(WcCode::AlreadyExists)
        );
    }
    check_complete(&records, job_id(1), 1).await;
}

#[tokio::test]
async fn receipts_that_are_not_those_of_the_commit_are_refused() {
    let (store, _home) = memory().await;
    let mut desk = Desk::new(Arc::new(Records::new(store)));
    desk.donor(0, 2);
    desk.submit(manifest(1, 2)).await;
    desk.tell_ran(desk.dispatched[0].0, 0, Status::Succeeded);
    desk.tell_ran(desk.dispatched[1].0, 0, Status::Failed);
    let commit = desk.next_commit();
    let receipts = countersigned(&commit);
    let swapped: Vec<SignedReceipt> = receipts.iter().rev().cloned().collect();
    let manifest = &desk.manifests[&job_id(1)];
    for wrong in [&receipts[..1], &[], &swapped] {
        let fault = desk
            .records
            .commit(manifest, &commit, wrong)
            .await
            .unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::Internal));
    }
    desk.records
        .commit(manifest, &commit, &receipts)
        .await
        .unwrap();
}

#[tokio::test]
async fn open_and_finished_jobs_are_told_apart_and_come_in_order() {
    let (store, _home) = memory().await;
    let records = Arc::new(Records::new(store));
    let mut desk = Desk::new(records.clone());
    for number in [3, 1, 2] {
        desk.submit(manifest(number, 1)).await;
    }
    desk.broker.cancel(desk.now, job_id(2), "enough").unwrap();
    desk.settle().await;
    let ids = |jobs: Vec<worldcompute_scheduler::broker::StoredJob>| -> Vec<_> {
        jobs.iter().map(|job| job.job.id).collect()
    };
    assert_eq!(
        ids(records.load().await.unwrap()),
        [job_id(1), job_id(2), job_id(3)]
    );
    assert_eq!(
        ids(records.load_open().await.unwrap()),
        [job_id(1), job_id(3)]
    );
    let cancelled = records.job(job_id(2)).await.unwrap().unwrap().job;
    assert_eq!(cancelled.state, JobState::Cancelled);
    assert_eq!(cancelled.fault.unwrap().detail, "cancelled: enough");
}

#[tokio::test]
async fn the_table_shows_how_a_job_goes_and_not_what_it_is() {
    let home = tempfile::tempdir().unwrap();
    let secret = "do not show this anywhere";
    {
        let mut desk = Desk::new(Arc::new(Records::new(file(home.path()).await)));
        desk.donor(0, 1);
        desk.submit(crate::support::manifest_with(
            1,
            2,
            &format!("  env: {{MODE: {secret}}}\n"),
        ))
        .await;
        desk.ran(desk.dispatched[0].0, 0, Status::Failed).await;
        desk.broker.cancel(desk.now, job_id(1), secret).unwrap();
        desk.settle().await;
    }
    let mut raw = Vec::new();
    for entry in std::fs::read_dir(home.path().join("store")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            raw.extend(std::fs::read(path).unwrap());
        }
    }
    let shows = |text: &str| {
        raw.windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(
        shows(&job_id(1).to_string()) && shows("cancelled"),
        "the test looks at the wrong bytes"
    );
    let peers = [
        donor(0).peer_id().to_string(),
        submitter().peer_id().to_string(),
    ];
    for hidden in peers
        .iter()
        .map(String::as_str)
        .chain([secret, "it went wrong"])
    {
        assert!(!shows(hidden), "{hidden} lies open");
    }
}

/// A receipt record as this crate writes it, to be written by somebody else.
struct Forged(String, serde_json::Value);

impl Entity for Forged {
    const TYPE: &'static str = "receipt";
    type Clear = ();
    type Sealed = serde_json::Value;

    fn id(&self) -> String {
        self.0.clone()
    }

    fn split(self) -> ((), serde_json::Value) {
        ((), self.1)
    }

    fn join(id: String, (): (), sealed: serde_json::Value) -> Result<Self> {
        Ok(Self(id, sealed))
    }
}

#[tokio::test]
async fn a_receipt_in_the_place_of_another_is_refused_even_with_the_stores_own_keys() {
    let (store, _home) = memory().await;
    let records = Arc::new(Records::new(store.clone()));
    let mut desk = Desk::new(records.clone());
    desk.donor(0, 2);
    let id = desk.submit(manifest(1, 2)).await;
    desk.ran(desk.dispatched[0].0, 0, Status::Succeeded).await;
    let partition = store.partition(Kind::JOB, &id.to_string()).unwrap();
    let snapshot = partition.load().await.unwrap().unwrap();
    let genuine = snapshot.get::<Forged>("0").unwrap().unwrap().into_value();
    let mut batch = Batch::new();
    batch.put(Forged("1".into(), genuine.1)).unwrap();
    partition.commit(batch, snapshot.version()).await.unwrap();
    assert!(records.receipt(id, 0).await.unwrap().is_some());
    assert_eq!(
        records.receipt(id, 1).await.unwrap_err().number(),
        Some(WcCode::Internal)
    );
    assert!(records.receipts(id).await.is_err());
}

/// A task record as this crate writes it, to be written in another place.
struct ForgedTask(String, AnyClear, serde_json::Value);

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
struct AnyClear(serde_json::Value);

impl ClearHalf for AnyClear {}

impl Entity for ForgedTask {
    const TYPE: &'static str = "task";
    type Clear = AnyClear;
    type Sealed = serde_json::Value;

    fn id(&self) -> String {
        self.0.clone()
    }

    fn split(self) -> (AnyClear, serde_json::Value) {
        (self.1, self.2)
    }

    fn join(id: String, clear: AnyClear, sealed: serde_json::Value) -> Result<Self> {
        Ok(Self(id, clear, sealed))
    }
}

#[tokio::test]
async fn a_task_in_the_place_of_another_is_refused_even_with_the_stores_own_keys() {
    let (store, _home) = memory().await;
    let records = Arc::new(Records::new(store.clone()));
    let mut desk = Desk::new(records.clone());
    desk.donor(0, 1);
    let id = desk.submit(manifest(1, 2)).await;
    let partition = store.partition(Kind::JOB, &id.to_string()).unwrap();
    let snapshot = partition.load().await.unwrap().unwrap();
    let ForgedTask(_, clear, sealed) = snapshot
        .get::<ForgedTask>("0")
        .unwrap()
        .unwrap()
        .into_value();
    let mut batch = Batch::new();
    batch.remove::<ForgedTask>("0").unwrap();
    batch.insert(ForgedTask("1".into(), clear, sealed)).unwrap();
    partition.commit(batch, snapshot.version()).await.unwrap();
    let fault = records.load().await.unwrap_err();
    assert_eq!(fault.number(), Some(WcCode::Internal));
    assert!(fault.message().contains("place of another"), "{fault}");
}

#[tokio::test]
async fn a_job_that_is_deleted_is_gone_but_for_the_knowledge_that_it_was() {
    let (store, _home) = memory().await;
    let records = Arc::new(Records::new(store));
    let mut desk = Desk::new(records.clone());
    desk.donor(0, 1);
    let ended = desk.submit(manifest(1, 2)).await;
    for _ in 0..2 {
        let lease = desk.dispatched.last().unwrap().0;
        desk.ran(lease, 0, Status::Succeeded).await;
    }
    let open = desk.submit(manifest(2, 1)).await;
    let states = BTreeMap::from([(ended, JobState::Completed)]);
    assert_eq!(records.ended().await.unwrap(), states);

    records.remove(ended).await.unwrap();
    assert!(records.ended().await.unwrap().is_empty());
    assert!(records.job(ended).await.unwrap().is_none());
    assert!(records.receipts(ended).await.unwrap().is_empty());
    assert!(records.receipt(ended, 0).await.unwrap().is_none());
    assert!(records.had(ended).await.unwrap());
    records.remove(ended).await.unwrap();

    assert_eq!(records.remove(open).await.unwrap_err().code(), "job_open");
    assert!(records.job(open).await.unwrap().is_some());
    assert!(!records.had(job_id(9)).await.unwrap());
    let ids: Vec<_> = records.load().await.unwrap();
    assert_eq!(ids.len(), 1);
    assert_eq!(ended.made_at().as_millisecond(), 1_700_000_000_001);
}
