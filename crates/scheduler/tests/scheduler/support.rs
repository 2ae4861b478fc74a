//! A submitter, donors that sign real receipts, and a driver that joins broker and store.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blue_encrypted_store::{LocalFileKeyProvider, Store, StoreConfig, StorePath};
use dynoxide::actions::put_item::PutItemRequest;
use dynoxide::actions::scan::ScanRequest;
use dynoxide::{AttributeValue, Database};
use jiff::Timestamp;
use worldcompute_fault::Result;
use worldcompute_ledger::receipt::{
    self, DecisionRef, ExecutorReceipt, Input, Outcome, Receipt, SignedReceipt, Status,
};
use worldcompute_proof::{Cid, PeerId, Sha256, SigningKey, canonical_json};
use worldcompute_scheduler::broker::{
    Action, Broker, Capacity, Classes, Commit, Event, Execution, Now, Options, Reply,
};
use worldcompute_scheduler::manifest::{CLASSES, Manifest, VerifiedManifest};
use worldcompute_scheduler::records::Records;
use worldcompute_scheduler::{JobId, JobRecord, LeaseId};

/// What the table of [`file`] is called.
const TABLE: &str = "blue-encrypted-store";

pub fn submitter() -> SigningKey {
    SigningKey::from_seed([1; 32])
}

pub fn donor(number: u8) -> SigningKey {
    SigningKey::from_seed([number.wrapping_add(100); 32])
}

pub fn job_id(number: u64) -> JobId {
    JobId::from_parts(1_700_000_000_000 + number, number.into())
}

pub fn manifest(number: u64, tasks: u32) -> Arc<VerifiedManifest> {
    manifest_with(number, tasks, "")
}

/// A job with more lines under `spec`.
pub fn manifest_with(number: u64, tasks: u32, more: &str) -> Arc<VerifiedManifest> {
    let cid = Cid::raw(b"module");
    let document = format!(
        "apiVersion: worldcompute/v1\nkind: Job\nmetadata: {{name: test}}\nspec:\n  wasm: cid:{cid}\n  array: {{count: {tasks}}}\n{more}"
    );
    let manifest = Manifest::parse(document.as_bytes())
        .unwrap()
        .resolve(|_| Ok(cid))
        .unwrap();
    Arc::new(manifest.sign_as(job_id(number), &submitter()).unwrap())
}

pub fn now(seconds: f64) -> Now {
    Now {
        monotonic: Duration::from_secs_f64(seconds),
        wall: "2026-01-01T00:00:00Z".parse().unwrap(),
    }
}

fn decision(intent_digest: Sha256) -> DecisionRef {
    let policy_digest = Sha256::of("policy");
    let trace_id =
        Sha256::of(format!("{policy_digest}:{intent_digest}:allow")).to_string()[..24].to_owned();
    DecisionRef {
        trace_id,
        policy_digest,
        intent_digest,
        verdict: gait::Verdict::Allow,
        trace_cid: Cid::raw(b"trace"),
    }
}

/// What an honest donor says of a run that ended so.
pub fn receipt(
    manifest: &VerifiedManifest,
    lease: LeaseId,
    executor: PeerId,
    status: Status,
) -> Receipt {
    let request = manifest.task(lease.task.index).unwrap();
    let seed = request.seed().unwrap();
    let succeeded = status == Status::Succeeded;
    let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    Receipt {
        job_id: request.job_id.clone(),
        task_index: request.task_index,
        attempt: lease.attempt,
        lease_id: lease.to_string(),
        manifest_cid: *manifest.cid(),
        workload_cid: request.workload,
        request_digest: Sha256::of(canonical_json(&request).unwrap()),
        stdin: request.stdin,
        inputs: request
            .inputs
            .iter()
            .map(|input| Input {
                path: input.path.clone(),
                cid: input.cid,
            })
            .collect(),
        limits: receipt::Limits {
            fuel: request.limits.fuel,
            memory_bytes: request.limits.memory_bytes,
            wall_ms: request.limits.wall_ms,
            output_bytes: request.limits.output_bytes,
        },
        profile: receipt::Profile::Deterministic { seed },
        machine: None,
        executor,
        submitter: *manifest.submitter(),
        sequence: u64::from(lease.task.index) << 16 | u64::from(lease.attempt),
        decision: decision(request.intent().unwrap().digest()),
        submitter_decision: decision(manifest.submit_intent().unwrap().digest()),
        outcome: Outcome {
            status,
            exit_code: match status {
                Status::Succeeded => Some(0),
                Status::Failed => Some(3),
                _ => None,
            },
            stdout_cid: Cid::raw(b"out"),
            stderr_cid: Cid::raw(b""),
            outputs: match succeeded {
                true => request
                    .outputs
                    .iter()
                    .map(|output| receipt::Output {
                        name: output.name.clone(),
                        cid: Cid::raw(b"x"),
                        size: 1,
                    })
                    .collect(),
                false => vec![],
            },
            fuel_used: match status {
                Status::OutOfFuel => request.limits.fuel,
                _ => 5,
            },
            wall_ms: match status {
                Status::TimedOut => request.limits.wall_ms,
                _ => 1,
            },
            error: (!succeeded).then(|| "it went wrong".to_owned()),
        },
        started_at: at,
        ended_at: at,
        path: receipt::Path::Direct,
        inspected: false,
    }
}

/// A verified run of `lease` by donor `number`.
pub fn run(manifest: &VerifiedManifest, lease: LeaseId, number: u8, status: Status) -> Execution {
    let key = donor(number);
    let signed = receipt(manifest, lease, key.peer_id(), status)
        .sign(&key)
        .unwrap();
    Execution::verify(signed.bytes(), lease, manifest).unwrap()
}

pub async fn memory() -> (Store, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let keys = LocalFileKeyProvider::new(home.path().join("keys/umk.key"));
    (
        Store::open(StoreConfig::new(StorePath::Memory), Arc::new(keys))
            .await
            .unwrap(),
        home,
    )
}

pub async fn file(home: &Path) -> Store {
    let keys = LocalFileKeyProvider::new(home.join("keys/umk.key"));
    let config = StoreConfig::new(StorePath::File(home.join("store/table.db")));
    Store::open(config, Arc::new(keys)).await.unwrap()
}

/// A row of a table, as the engine has it.
pub type Row = HashMap<String, AttributeValue>;

pub fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    match &row[name] {
        AttributeValue::S(text) => text,
        other => panic!("{name} is {other:?}"),
    }
}

/// The rows of a partition in the table of [`file`], which nobody has open.
pub fn rows(home: &Path, pk: &str) -> Vec<Row> {
    let request = ScanRequest {
        table_name: TABLE.to_owned(),
        ..ScanRequest::default()
    };
    let answer = engine(home).scan(request).unwrap();
    assert!(answer.last_evaluated_key.is_none(), "one page");
    let mut rows = answer.items.unwrap();
    rows.retain(|row| text(row, "pk") == pk);
    rows
}

/// Puts rows into that table behind the store's back.
pub fn plant(home: &Path, rows: Vec<Row>) {
    let engine = engine(home);
    for item in rows {
        let request = PutItemRequest {
            table_name: TABLE.to_owned(),
            item,
            ..PutItemRequest::default()
        };
        engine.put_item(request).unwrap();
    }
}

fn engine(home: &Path) -> Database {
    Database::new(home.join("store/table.db").to_str().unwrap()).unwrap()
}

/// A broker with its records and donors that answer when told to.
pub struct Desk {
    pub broker: Broker,
    pub records: Arc<Records>,
    pub now: Now,
    pub manifests: BTreeMap<JobId, Arc<VerifiedManifest>>,
    pub submitted: Vec<JobId>,
    pub dispatched: Vec<(LeaseId, PeerId)>,
    pub finished: Vec<JobRecord>,
    pub commits: usize,
}

impl Desk {
    pub fn new(records: Arc<Records>) -> Self {
        Self {
            broker: Broker::new(1),
            records,
            now: now(0.0),
            manifests: BTreeMap::new(),
            submitted: vec![],
            dispatched: vec![],
            finished: vec![],
            commits: 0,
        }
    }

    /// A desk that takes up what an earlier one left.
    pub async fn resumed(records: Arc<Records>) -> Self {
        let mut desk = Self::new(records);
        for stored in desk.records.load_open().await.unwrap() {
            desk.manifests
                .insert(stored.job.id, stored.manifest.clone());
            desk.broker.restore(desk.now, stored).unwrap();
        }
        desk
    }

    pub fn donor(&mut self, number: u8, slots: u32) {
        let capacity = Capacity {
            slots,
            cpu_millicores: 64_000,
            memory_bytes: 1 << 40,
            load_permille: 0,
            classes: Classes::of(CLASSES),
            paused: false,
            images: true,
        };
        self.broker.handle(
            self.now,
            Event::Donor {
                peer: donor(number).peer_id(),
                capacity,
            },
        );
    }

    pub async fn submit(&mut self, manifest: Arc<VerifiedManifest>) -> JobId {
        let id = self
            .broker
            .submit(self.now, manifest.clone(), Options::default())
            .unwrap();
        self.manifests.insert(id, manifest);
        self.settle().await;
        id
    }

    pub fn tell_ran(&mut self, lease: LeaseId, number: u8, status: Status) {
        let execution = run(&self.manifests[&lease.task.job], lease, number, status);
        let from = execution.executor();
        self.broker.handle(
            self.now,
            Event::Reply {
                lease,
                from,
                reply: Reply::Ran(Box::new(execution)),
            },
        );
    }

    pub async fn ran(&mut self, lease: LeaseId, number: u8, status: Status) {
        self.tell_ran(lease, number, status);
        self.settle().await;
    }

    /// Does what the broker says until it says nothing more.
    pub async fn settle(&mut self) {
        loop {
            let actions = self.broker.poll(self.now);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.act(action).await;
            }
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Commit(commit) => {
                let (job, number) = (commit.job.id, commit.number);
                self.store(&commit).await.unwrap();
                self.commits += 1;
                self.broker
                    .handle(self.now, Event::Committed { job, number });
            }
            Action::Submitted { job } => self.submitted.push(job),
            Action::Dispatch { lease, donor, .. } => self.dispatched.push((lease, donor)),
            Action::Heartbeat { .. } | Action::CancelLease { .. } => {}
            Action::JobFinished { job } => self.finished.push(*job),
        }
    }

    /// The one thing the broker wants to have done: a commit.
    pub fn next_commit(&mut self) -> Commit {
        match <[Action; 1]>::try_from(self.broker.poll(self.now)) {
            Ok([Action::Commit(commit)]) => *commit,
            other => panic!("not one commit: {other:?}"),
        }
    }

    pub async fn store(&self, commit: &Commit) -> Result<()> {
        self.records
            .commit(
                &self.manifests[&commit.job.id],
                commit,
                &countersigned(commit),
            )
            .await
    }
}

pub fn countersigned(commit: &Commit) -> Vec<SignedReceipt> {
    let sign = |receipt: &[u8]| {
        ExecutorReceipt::open(receipt)
            .unwrap()
            .countersign(&submitter())
            .unwrap()
    };
    commit
        .receipts
        .iter()
        .map(|settlement| sign(&settlement.receipt))
        .collect()
}
