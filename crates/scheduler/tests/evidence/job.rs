//! A finished job of three tasks, with real decisions, signatures and bytes, and its bundle on disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gait::{Clock, Decision, Gate, Policy, starter};
use jiff::Timestamp;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_ledger::receipt::{
    DecisionRef, Outcome, Output, Path as Route, Receipt, SignedReceipt, Status,
};
use worldcompute_proof::dsse::Envelope;
use worldcompute_proof::{
    Cid, STATEMENT_PAYLOAD_TYPE, Sha256, SigningKey, Statement, Subject, canonical_json,
};
use worldcompute_scheduler::JobId;
use worldcompute_scheduler::evidence::{self, Asked, Contents, Pins, Report};
use worldcompute_scheduler::manifest::{Manifest, VerifiedManifest};

pub const TASKS: u32 = 3;

const DOCUMENT: &str = "
apiVersion: worldcompute/v1
kind: Job
metadata: {name: evidence}
spec:
  wasm: module.wasm
  command: [module, \"${WC_TASK_INDEX}\"]
  stdin: stdin.txt
  inputs: [{file: input.bin, mount: /data/input}]
  outputs: [{name: result, path: /out/result, max_bytes: 1Ki}]
  resources: {memory: 64Mi, scratch: 1Mi, fuel: 1000000}
  array: {count: 3}
  max_wall_time: 2s
  acceptable_use_classes: [scientific]
";

pub fn submitter() -> SigningKey {
    SigningKey::from_seed([1; 32])
}

/// Two donors: the first runs tasks 0 and 2, the second task 1.
pub fn donor(task: u32) -> SigningKey {
    SigningKey::from_seed([if task.is_multiple_of(2) { 2 } else { 3 }; 32])
}

pub fn stranger() -> SigningKey {
    SigningKey::from_seed([9; 32])
}

/// Everything that the submitter has when the job is done.
pub struct Job {
    pub manifest: VerifiedManifest,
    pub receipts: Vec<SignedReceipt>,
    pub traces: Vec<Vec<u8>>,
    pub objects: BTreeMap<Cid, Vec<u8>>,
}

impl Job {
    pub fn new() -> Self {
        Self::numbered(1)
    }

    /// Job `number`: other jobs are the same but for their ids.
    pub fn numbered(number: u128) -> Self {
        let mut objects = BTreeMap::new();
        let manifest = manifest(number, &mut objects);
        let gate = gate(&starter::submitter_policy(), submitter());
        let submitted = gate.decide(&manifest.submit_intent().unwrap()).unwrap();
        let traces = vec![submitted.trace().bytes().to_vec()];
        let mut job = Self {
            manifest,
            receipts: Vec::new(),
            traces,
            objects,
        };
        for task in 0..TASKS {
            let receipt = job.run(task, &submitted);
            job.receipts.push(sign(receipt));
        }
        job
    }

    /// What the donor of `task` says it did.
    fn run(&mut self, task: u32, submitted: &Decision) -> Receipt {
        let request = self.manifest.task(task).unwrap();
        let decision = gate(&starter::donor_policy(&["scientific"]), donor(task))
            .decide(&request.intent().unwrap())
            .unwrap();
        self.traces.push(decision.trace().bytes().to_vec());
        let asked = Asked::by(&request).unwrap();
        let result = format!("result of task {task}");
        Receipt {
            job_id: asked.job_id,
            task_index: asked.task_index,
            attempt: 0,
            lease_id: format!("{}.{task}.0.0", self.manifest.job_id()),
            manifest_cid: *self.manifest.cid(),
            workload_cid: asked.workload_cid,
            request_digest: asked.request_digest,
            stdin: asked.stdin,
            inputs: asked.inputs,
            limits: asked.limits,
            profile: asked.profile,
            machine: None,
            executor: donor(task).peer_id(),
            submitter: asked.submitter,
            sequence: u64::from(task),
            decision: refer_to(&decision),
            submitter_decision: refer_to(submitted),
            outcome: Outcome {
                status: Status::Succeeded,
                exit_code: Some(0),
                stdout_cid: keep(&mut self.objects, format!("task {task} is done\n")),
                stderr_cid: keep(&mut self.objects, ""),
                outputs: vec![Output {
                    name: "result".into(),
                    cid: keep(&mut self.objects, &result),
                    size: result.len() as u64,
                }],
                fuel_used: 1000,
                wall_ms: 5,
                error: None,
            },
            started_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            ended_at: "2026-01-02T03:04:06Z".parse().unwrap(),
            path: Route::Direct,
            inspected: false,
        }
    }

    /// The job with another receipt for `task`, properly signed by those it names.
    pub fn with_receipt(mut self, task: u32, change: impl FnOnce(&mut Receipt)) -> Self {
        let mut receipt = self.receipts[task as usize].receipt().clone();
        change(&mut receipt);
        self.receipts[task as usize] = sign(receipt);
        self
    }

    pub fn write(&self, root: &Path) -> Result<PathBuf> {
        let contents = Contents {
            manifest: &self.manifest,
            receipts: &self.receipts,
            traces: &self.traces,
        };
        evidence::write(
            root,
            contents,
            &mut |cid, out| self.copy_object(cid, out),
            &submitter(),
        )
    }

    pub fn copy_object(&self, cid: &Cid, out: &mut dyn std::io::Write) -> Result<()> {
        let bytes = self
            .objects
            .get(cid)
            .ok_or_else(|| Fault::new(Category::IoFailure, "not_found", cid.to_string()))?;
        out.write_all(bytes)
            .map_err(|error| Fault::io("write", &error))
    }
}

fn manifest(number: u128, objects: &mut BTreeMap<Cid, Vec<u8>>) -> VerifiedManifest {
    let blob = |path: &str| match path {
        "module.wasm" => noise(20_000),
        "input.bin" => noise(9_000),
        _ => path.as_bytes().to_vec(),
    };
    let parsed = Manifest::parse(DOCUMENT.as_bytes()).unwrap();
    let resolved = parsed
        .resolve(|path| Ok(keep(objects, blob(path))))
        .unwrap();
    resolved
        .sign_as(JobId::from_parts(1_700_000_000_000, number), &submitter())
        .unwrap()
}

/// Bytes without a pattern, always the same.
fn noise(length: usize) -> Vec<u8> {
    (0..length)
        .flat_map(|block| *Sha256::of(block.to_be_bytes()).as_bytes())
        .take(length)
        .collect()
}

fn keep(objects: &mut BTreeMap<Cid, Vec<u8>>, bytes: impl AsRef<[u8]>) -> Cid {
    let cid = Cid::raw(&bytes);
    objects.insert(cid, bytes.as_ref().to_vec());
    cid
}

/// A gate whose clock stands still, so that its traces are always the same.
pub fn gate(policy: &str, key: SigningKey) -> Gate {
    struct Still;
    impl Clock for Still {
        fn now(&self) -> Timestamp {
            "2026-01-01T00:00:00Z".parse().unwrap()
        }
    }
    Gate::new(
        Policy::parse(policy.as_bytes()).unwrap(),
        key,
        Arc::new(Still),
    )
}

pub fn refer_to(decision: &Decision) -> DecisionRef {
    let trace = decision.trace();
    DecisionRef {
        trace_id: trace.trace_id().to_owned(),
        policy_digest: trace.policy_digest(),
        intent_digest: trace.intent_digest(),
        verdict: trace.verdict(),
        trace_cid: Cid::raw(trace.bytes()),
    }
}

/// Signs for those whom the receipt names.
pub fn sign(receipt: Receipt) -> SignedReceipt {
    let keys = [submitter(), donor(0), donor(1), stranger()];
    let key = |peer| keys.iter().find(|key| key.peer_id() == peer).unwrap();
    let (executor, submitter) = (key(receipt.executor), key(receipt.submitter));
    receipt
        .sign(executor)
        .unwrap()
        .countersign(submitter)
        .unwrap()
}

/// A bundle on disk that can be broken.
pub struct Bundle {
    pub dir: PathBuf,
    _root: tempfile::TempDir,
}

impl Bundle {
    pub fn new() -> Self {
        Self::of(&Job::new())
    }

    pub fn of(job: &Job) -> Self {
        let root = tempfile::tempdir().unwrap();
        Self {
            dir: job.write(root.path()).unwrap(),
            _root: root,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The names of all files, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["", "decisions/", "objects/", "receipts/"] {
            for entry in fs::read_dir(self.path(folder)).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    names.push(format!("{folder}{}", entry.file_name().to_str().unwrap()));
                }
            }
        }
        names.sort();
        names
    }

    /// All names but that of the index.
    pub fn listed(&self) -> Vec<String> {
        self.names()
            .into_iter()
            .filter(|name| name != "index.json")
            .collect()
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        File::create(self.path(name))
            .unwrap()
            .write_all(bytes)
            .unwrap();
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    pub fn swap(&self, one: &str, other: &str) {
        let (first, second) = (self.read(one), self.read(other));
        self.put(one, &second);
        self.put(other, &first);
    }

    pub fn verify(&self) -> Result<Report> {
        evidence::verify(&self.dir, &Pins::default())
    }

    pub fn verify_file(&self, name: &str) -> Result<Report> {
        evidence::verify(&self.path(name), &Pins::default())
    }

    /// The names and digests that an honest index of the files as they are would have.
    pub fn subjects(&self) -> Vec<Subject> {
        self.listed()
            .into_iter()
            .map(|name| Subject::new(name.clone(), Sha256::of(self.read(&name))))
            .collect()
    }

    /// Signs these subjects as the bundle's index.
    pub fn seal(&self, subjects: Vec<Subject>, key: &SigningKey) {
        let manifest = VerifiedManifest::open(&self.read("manifest.cbor")).unwrap();
        let job = serde_json::json!({
            "job_id": manifest.job_id(),
            "manifest_cid": manifest.cid(),
            "task_count": manifest.manifest().array_count,
        });
        let statement = Statement::new(subjects, evidence::PREDICATE_TYPE, job);
        let envelope = Envelope::sign(
            STATEMENT_PAYLOAD_TYPE,
            canonical_json(&statement).unwrap(),
            key,
        );
        self.put("index.json", &envelope.to_bytes().unwrap());
    }

    /// Lets the submitter sign for the files as they are.
    pub fn reseal(&self) {
        self.seal(self.subjects(), &submitter());
    }

    /// Verifies, and expects a failure of that code that names that part.
    #[track_caller]
    pub fn fails(&self, code: &str, part: &str) {
        expect(self.verify(), code, part);
    }
}

#[track_caller]
pub fn expect(result: Result<Report>, code: &str, part: &str) {
    let fault = result.expect_err(part);
    assert_eq!(fault.code(), code, "{fault}");
    assert!(
        fault.message().starts_with(&format!("{part}: ")),
        "{part} is not named: {fault}"
    );
}

pub fn receipt_name(task: u32) -> String {
    format!("receipts/{task:05}.json")
}
