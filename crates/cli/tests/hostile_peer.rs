//! Hostile peers: a submitter that sends a real donor what it must not run, and donors that lie to a real submitter.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gait::{Gate, Policy, SystemClock, starter};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use support::{Daemon, example, file, json, run, text, until};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use worldcompute_fault::{Category, Fault, WcCode};
use worldcompute_mesh::wire::{
    Capacity, DispatchReply, DispatchRequest, DispatchStatus, LeaseMessage, LeaseReply, NamedBytes,
    OfferReply, OutputBlob,
};
use worldcompute_mesh::{Inbound, Mesh, MeshConfig, Request};
use worldcompute_node::manifest::{Manifest, VerifiedManifest};
use worldcompute_node::receipt;
use worldcompute_proof::{Cid, PeerId, Sha256, SigningKey, canonical_json};

const SPINS: &[u8] = br#"(module (func (export "_start") (loop $again (br $again))))"#;
/// Takes a moment, so that several can ask while it runs.
const LINGERS: &[u8] = br#"(module (func (export "_start") (local $left i64)
  (local.set $left (i64.const 30000000))
  (loop $again
    (local.set $left (i64.sub (local.get $left) (i64.const 1)))
    (br_if $again (i64.ne (local.get $left) (i64.const 0))))))"#;
const ENDS: &[u8] = br#"(module (func (export "_start")))"#;

/// A donor that consents to general work only, and its directory.
fn donor() -> (tempfile::TempDir, Daemon) {
    let root = tempfile::tempdir().unwrap();
    let arguments = [
        "donor",
        "join",
        "--no-mdns",
        "--port",
        "0",
        "--slots",
        "2",
        "--consent",
        "general",
    ];
    let donor = Daemon::start(&root.path().join("donor"), &arguments);
    (root, donor)
}

fn status(home: &Path) -> Value {
    json(home, &["donor", "status"])
}

fn gate(policy: &str, key: &SigningKey) -> Gate {
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    Gate::new(policy, key.clone(), SystemClock::shared())
}

/// A submitter that can sign whatever it likes.
struct Submitter {
    key: SigningKey,
    mesh: Mesh,
    donor: PeerId,
    _requests: mpsc::Receiver<Inbound>,
}

impl Submitter {
    async fn of(donor: &Daemon) -> Self {
        let key = SigningKey::generate().unwrap();
        let (mesh, requests) = Mesh::start(MeshConfig::new(key.clone())).await.unwrap();
        let peer = donor.peer_id.parse().unwrap();
        mesh.add_peer(peer, vec![donor.loopback().parse().unwrap()])
            .await;
        Self {
            key,
            mesh,
            donor: peer,
            _requests: requests,
        }
    }

    fn sign(&self, module: &[u8], class: &str) -> VerifiedManifest {
        let document = format!(
            "apiVersion: worldcompute/v1\nkind: Job\nmetadata: {{ name: hostile }}\nspec:\n  wasm: cid:{}\n  max_wall_time: 10m\n  acceptable_use_classes: [{class}]\n",
            Cid::raw(module)
        );
        let manifest = Manifest::parse(document.as_bytes()).unwrap();
        let manifest = manifest.resolve(|_| Err(Fault::usage("it names no file")));
        manifest.unwrap().sign(&self.key).unwrap()
    }

    fn trace(&self, manifest: &VerifiedManifest) -> Vec<u8> {
        let decision = gate(&starter::submitter_policy(), &self.key)
            .decide(&manifest.submit_intent().unwrap())
            .unwrap();
        decision.trace().bytes().to_vec()
    }

    /// All that an honest submitter would send, for a lease of that name.
    fn request(&self, lease: &str, module: &[u8], class: &str) -> DispatchRequest {
        let manifest = self.sign(module, class);
        DispatchRequest {
            lease_id: lease.to_owned(),
            job_id: manifest.job_id().to_string(),
            task_id: "task".to_owned(),
            task_index: 0,
            attempt: 1,
            manifest: manifest.bytes().to_vec(),
            inline_inputs: vec![NamedBytes {
                name: Cid::raw(module).to_string(),
                bytes: module.to_vec(),
            }],
            trace: self.trace(&manifest),
            correlation_id: String::new(),
            inspected: false,
        }
    }

    async fn dispatch(&self, request: DispatchRequest) -> Result<DispatchReply, Fault> {
        self.mesh.dispatch(self.donor, request).await
    }

    async fn known(&self, message: LeaseMessage) -> bool {
        self.mesh.lease(self.donor, message).await.unwrap().known
    }
}

fn heartbeat(lease: &str) -> LeaseMessage {
    LeaseMessage::Heartbeat {
        lease_id: lease.to_owned(),
    }
}

fn cancel(lease: &str) -> LeaseMessage {
    LeaseMessage::Cancel {
        lease_id: lease.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_senders_own_signed_job_is_refused_and_nothing_runs() {
    let (_root, donor) = donor();
    let (mallory, alice) = (Submitter::of(&donor).await, Submitter::of(&donor).await);
    let honest = || mallory.request("lease", ENDS, "general");
    let mut garbage = honest();
    garbage.manifest = vec![0xa1; 300];
    let mut tampered = honest();
    *tampered.manifest.last_mut().unwrap() ^= 1;
    let mut unheard = honest();
    unheard.trace = b"{}".to_vec();
    let mut other_job = honest();
    other_job.trace = mallory.trace(&mallory.sign(ENDS, "general"));
    let mut renamed = honest();
    renamed.job_id = mallory.sign(ENDS, "general").job_id().to_string();
    let mut beyond = honest();
    beyond.task_index = u32::MAX;
    let mut swapped = honest();
    swapped.inline_inputs[0].bytes = TRAPDOOR.to_vec();
    let unwasm = mallory.request("lease", b"not a module", "general");
    let cases = [
        ("garbage for a manifest", garbage, WcCode::InvalidManifest),
        (
            "a manifest signed by another",
            alice.request("lease", ENDS, "general"),
            WcCode::Unauthorized,
        ),
        (
            "a manifest changed after it was signed",
            tampered,
            WcCode::Unauthorized,
        ),
        (
            "a class without consent",
            mallory.request("lease", ENDS, "rendering"),
            WcCode::AcceptableUseViolation,
        ),
        ("garbage for a decision", unheard, WcCode::Unauthorized),
        (
            "a decision about another job",
            other_job,
            WcCode::Unauthorized,
        ),
        ("the id of another job", renamed, WcCode::InvalidManifest),
        (
            "a task that the job does not have",
            beyond,
            WcCode::InvalidManifest,
        ),
        (
            "bytes that are not the named ones",
            swapped,
            WcCode::InvalidManifest,
        ),
        ("bytes that are no module", unwasm, WcCode::InvalidManifest),
    ];
    let count = cases.len();
    for (what, request, number) in cases {
        let fault = mallory.dispatch(request).await.unwrap_err();
        assert_eq!(fault.number(), Some(number), "{what}: {}", fault.human());
    }
    let after = status(donor.home());
    assert_eq!(after["refused"], count, "{after}");
    assert_eq!(after["finished"], serde_json::json!({}), "{after}");
    assert_eq!(after["running"], 0, "{after}");

    let reply = mallory.dispatch(honest()).await.unwrap();
    assert_eq!(reply.status, DispatchStatus::Succeeded);
}

const TRAPDOOR: &[u8] = br#"(module (func (export "_start") unreachable))"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_nobodys_but_its_submitters() {
    let (_root, donor) = donor();
    let alice = Arc::new(Submitter::of(&donor).await);
    let mallory = Submitter::of(&donor).await;
    let asking = alice.clone();
    let request = alice.request("hers", SPINS, "general");
    let again = request.clone();
    let run = tokio::spawn(async move { asking.dispatch(request).await });
    until("it runs", || status(donor.home())["running"] == 1);
    assert!(!mallory.known(heartbeat("hers")).await);
    assert!(!mallory.known(cancel("hers")).await);
    assert!(!alice.known(cancel("another")).await);
    assert_eq!(status(donor.home())["running"], 1);
    assert!(alice.known(heartbeat("hers")).await);
    assert!(alice.known(cancel("hers")).await);
    let reply = run.await.unwrap().unwrap();
    assert_eq!(reply.status, DispatchStatus::Preempted);
    assert!(!alice.known(cancel("hers")).await, "nothing runs any more");
    assert!(
        alice.known(heartbeat("hers")).await,
        "the answer is kept, so that it can be asked for again"
    );
    assert!(!mallory.known(heartbeat("hers")).await);
    assert!(!alice.known(heartbeat("another")).await);
    let kept = alice.dispatch(again).await.unwrap();
    assert_eq!(kept.receipt, reply.receipt);
    assert!(
        mallory
            .dispatch(mallory.request("hers", ENDS, "general"))
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn however_often_a_lease_is_asked_for_it_runs_once() {
    let (_root, donor) = donor();
    let submitter = Arc::new(Submitter::of(&donor).await);
    let request = submitter.request("again", LINGERS, "general");
    let mut askers = JoinSet::new();
    for _ in 0..16 {
        let (submitter, request) = (submitter.clone(), request.clone());
        askers.spawn(async move { submitter.dispatch(request).await.unwrap().receipt });
    }
    let receipts = askers.join_all().await;
    let later = submitter.dispatch(request).await.unwrap().receipt;
    assert!(receipts.iter().all(|one| *one == later));
    let after = status(donor.home());
    assert_eq!(after["last_exit"], 1, "{after}");
    assert_eq!(
        after["finished"],
        serde_json::json!({ "succeeded": 1 }),
        "{after}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_answered_with_busy_and_the_donor_stays_well() {
    let (_root, donor) = donor();
    let submitter = Arc::new(Submitter::of(&donor).await);
    let request = submitter.request("burst", LINGERS, "general");
    let mut burst = JoinSet::new();
    for number in 0..300 {
        let submitter = submitter.clone();
        let lease_id = format!("burst-{number}");
        let request = DispatchRequest {
            lease_id,
            ..request.clone()
        };
        burst.spawn(async move { submitter.dispatch(request).await });
    }
    let answers = burst.join_all().await;
    let served = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(served >= 1);
    for fault in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(fault.retryable(), "{}", fault.human());
    }
    until("nothing runs any more", || {
        status(donor.home())["running"] == 0
    });
    let after = status(donor.home());
    assert_eq!(after["last_exit"], served, "{after}");
    let reply = submitter
        .dispatch(submitter.request("after", ENDS, "general"))
        .await;
    assert_eq!(reply.unwrap().status, DispatchStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_given_by_name_only_and_never_more_than_asked_for() {
    let (_root, donor) = donor();
    let submitter = Submitter::of(&donor).await;
    submitter
        .dispatch(submitter.request("content", LINGERS, "general"))
        .await
        .unwrap();
    let module = Cid::raw(LINGERS);
    let fetch = async |cid: &Cid, most: u64| submitter.mesh.fetch(submitter.donor, cid, most).await;
    assert_eq!(fetch(&module, 1 << 20).await.unwrap(), LINGERS);
    assert!(fetch(&module, LINGERS.len() as u64 - 1).await.is_err());
    let unknown = fetch(&Cid::raw(b"nobody has this"), 1 << 20)
        .await
        .unwrap_err();
    assert_ne!(
        unknown.category(),
        Category::InternalFailure,
        "{}",
        unknown.human()
    );
}

/// How a donor lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Its receipt is noise.
    Garbage,
    /// Its receipt holds, but the bytes are not those that it names.
    OtherBytes,
    /// The same for bytes that travel under a name.
    OtherNamedBytes,
    /// Everything holds, but the receipt is signed by a node that nobody asked.
    OtherSigner,
    /// Everything holds, but the decision is not the donor's own.
    OtherDecision,
    /// There is no answer. Asked for the lease, it knows none.
    Idle,
    /// There is no answer. Asked for the lease, it says that it works on it.
    Boasts,
}

/// A donor that takes every task and runs none. It counts how often it was asked.
struct Liar {
    mesh: Mesh,
    asked: Arc<AtomicUsize>,
}

impl Liar {
    async fn behind(submitter: &Daemon, lie: Lie) -> Self {
        let key = SigningKey::generate().unwrap();
        let mut config = MeshConfig::new(key.clone());
        config.bootstrap = vec![submitter.loopback().parse().unwrap()];
        let (mesh, mut requests) = Mesh::start(config).await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        tokio::spawn(async move {
            while let Some(inbound) = requests.recv().await {
                answer(inbound, &key, lie, &counter);
            }
        });
        let liar = Self { mesh, asked };
        liar.boast().await;
        liar
    }

    async fn boast(&self) {
        let boast = Capacity {
            cores: 64,
            memory_mb: 65_536,
            load: 0.0,
            classes: vec!["general".to_owned()],
            paused: false,
            addresses: Vec::new(),
            slots: 64,
            images: false,
        };
        self.mesh.announce(boast).await;
    }

    fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) > 0
    }
}

fn answer(inbound: Inbound, key: &SigningKey, lie: Lie, asked: &AtomicUsize) {
    let refusal = Fault::wc(WcCode::NotFound, "nothing here");
    match inbound.request {
        Request::Dispatch(request, reply) => {
            asked.fetch_add(1, Ordering::Relaxed);
            if matches!(lie, Lie::Idle | Lie::Boasts) {
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(reply);
                });
            } else {
                reply.send(lying_reply(&request, key, lie));
            }
        }
        Request::Lease(_, reply) if matches!(lie, Lie::Idle | Lie::Boasts) => {
            reply.send(LeaseReply {
                known: lie == Lie::Boasts,
            });
        }
        Request::Offer(_, reply) => {
            reply.send(OfferReply {
                accepted: true,
                load: 0.0,
                reason: None,
            });
        }
        other => {
            other.refuse(&refusal);
        }
    }
}

fn lying_reply(request: &DispatchRequest, key: &SigningKey, lie: Lie) -> DispatchReply {
    let other = SigningKey::generate().unwrap();
    let (receipt, trace) = match lie {
        Lie::Garbage | Lie::Idle | Lie::Boasts => (vec![0x5a; 2048], vec![0x5a; 64]),
        Lie::OtherBytes | Lie::OtherNamedBytes => convincing(request, key, key),
        Lie::OtherSigner => convincing(request, &other, key),
        Lie::OtherDecision => convincing(request, key, &other),
    };
    let (output, named): (&[u8], &[u8]) = match lie {
        Lie::OtherBytes => (b"not what the receipt names", b""),
        Lie::OtherNamedBytes => (b"hello\n", b"not what the receipt names"),
        _ => (b"hello\n", b""),
    };
    DispatchReply {
        task_id: request.task_id.clone(),
        status: DispatchStatus::Succeeded,
        output: output.to_vec(),
        output_cid: Some(Cid::raw(b"hello\n")),
        duration_ms: 1,
        error: None,
        receipt,
        trace,
        outputs: vec![OutputBlob {
            name: "stderr".to_owned(),
            cid: Cid::raw(b""),
            size: 0,
            inline: Some(named.to_vec().into()),
        }],
    }
}

/// A receipt that says what the submitter hopes for, signed by `key`, and the decision it names, made by `gatekeeper`.
fn convincing(
    request: &DispatchRequest,
    key: &SigningKey,
    gatekeeper: &SigningKey,
) -> (Vec<u8>, Vec<u8>) {
    let manifest = VerifiedManifest::open(&request.manifest).unwrap();
    let run = manifest.task(request.task_index).unwrap();
    let decision = gate(&starter::donor_policy(&["general"]), gatekeeper)
        .decide(&run.intent().unwrap())
        .unwrap();
    let trace = decision.trace().bytes().to_vec();
    let now = Timestamp::now();
    let receipt = receipt::Receipt {
        job_id: run.job_id.clone(),
        task_index: run.task_index,
        attempt: request.attempt,
        lease_id: request.lease_id.clone(),
        manifest_cid: *manifest.cid(),
        workload_cid: run.workload,
        request_digest: Sha256::of(canonical_json(&run).unwrap()),
        stdin: run.stdin,
        inputs: Vec::new(),
        limits: same(&run.limits),
        profile: same(&run.profile),
        machine: None,
        executor: key.peer_id(),
        submitter: run.submitter,
        sequence: 1,
        decision: decided(&trace, &gatekeeper.peer_id()),
        submitter_decision: decided(&request.trace, manifest.submitter()),
        outcome: receipt::Outcome {
            status: receipt::Status::Succeeded,
            exit_code: Some(0),
            stdout_cid: Cid::raw(b"hello\n"),
            stderr_cid: Cid::raw(b""),
            outputs: Vec::new(),
            fuel_used: 1,
            wall_ms: 1,
            error: None,
        },
        started_at: now,
        ended_at: now,
        path: receipt::Path::Direct,
        inspected: false,
    };
    (receipt.sign(key).unwrap().bytes().to_vec(), trace)
}

fn decided(trace: &[u8], signer: &PeerId) -> receipt::DecisionRef {
    let verified = gait::trace::verify(trace, &signer.verifying_key()).unwrap();
    receipt::DecisionRef {
        trace_id: verified.trace_id().to_owned(),
        policy_digest: verified.policy_digest(),
        intent_digest: verified.intent_digest(),
        verdict: verified.verdict(),
        trace_cid: Cid::raw(trace),
    }
}

/// The same value in the words of another crate.
fn same<T: DeserializeOwned>(value: &impl Serialize) -> T {
    serde_json::from_value(serde_json::to_value(value).unwrap()).unwrap()
}

/// A submitter whose only donor lies; then an honest one comes.
async fn outlives(lie: Lie) {
    let root = tempfile::tempdir().unwrap();
    let join = ["donor", "join", "--no-mdns", "--port", "0", "--consent"];
    let submitter = Daemon::start(
        &root.path().join("submitter"),
        &[&join[..], &["indexing"]].concat(),
    );
    let liar = Liar::behind(&submitter, lie).await;
    submitter.sees_donors(2);
    let manifest = format!(
        "apiVersion: worldcompute/v1\nkind: Job\nmetadata: {{ name: lied-to }}\nspec: {{ wasm: {}, array: {{ count: 2 }} }}\n",
        example("hello/hello.wat")
    );
    let manifest = file(root.path(), "job.yaml", &manifest);
    let job = json(submitter.home(), &["job", "submit", &manifest]);
    let id = job["job_id"].as_str().unwrap();
    until("the liar was asked", || liar.was_asked());

    let bootstrap = submitter.loopback();
    let honest = Daemon::start(
        &root.path().join("honest"),
        &[&join[..], &["general", "--bootstrap", &bootstrap]].concat(),
    );
    let view = || json(submitter.home(), &["job", "status", id]);
    until("the job has ended", || {
        ["completed", "failed", "cancelled"].contains(&view()["status"].as_str().unwrap())
    });
    let job = view();
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(
        job["executors"],
        serde_json::json!({ honest.peer_id.clone(): 2 }),
        "{job}"
    );
    assert_eq!(job["receipt_verified"], true, "{job}");
    let results = run(submitter.home(), &["job", "results", id]);
    assert_eq!(text(&results.stdout), "hello\nhello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donor_whose_receipts_are_noise_costs_no_task() {
    outlives(Lie::Garbage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donor_whose_bytes_are_not_those_of_its_receipt_costs_no_task() {
    outlives(Lie::OtherBytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donor_whose_named_bytes_are_others_costs_no_task() {
    outlives(Lie::OtherNamedBytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donor_whose_receipt_another_node_signed_costs_no_task() {
    outlives(Lie::OtherSigner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donor_with_the_decision_of_another_costs_no_task() {
    outlives(Lie::OtherDecision).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donor_that_takes_a_task_and_never_runs_it_costs_no_task() {
    outlives(Lie::Idle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_donor_that_says_for_ever_that_it_works_costs_no_task() {
    outlives(Lie::Boasts).await;
}
