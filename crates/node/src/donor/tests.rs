//! A donor with a store in memory, asked by itself and by peers of its mesh.

use super::*;
use blue_encrypted_store::{LocalFileKeyProvider, Store, StoreConfig, StorePath};
use gait::{Gate, SystemClock, starter};
use tokio::sync::mpsc;
use worldcompute_content::{Collect, Limits};
use worldcompute_ledger::receipt::ExecutorReceipt;
use worldcompute_mesh::wire::DispatchStatus;
use worldcompute_mesh::{Inbound, MeshConfig};
use worldcompute_scheduler::manifest::{Manifest, VerifiedManifest};

use crate::submitter::settle::{Asked, verify};

const SPINS: &[u8] = br#"(module (func (export "_start") (loop $again (br $again))))"#;
const ENDS: &[u8] = br#"(module (func (export "_start")))"#;

/// A donor of one slot, and the directory it lives in.
async fn donor() -> (tempfile::TempDir, Donor) {
    let directory = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    let keys = Arc::new(LocalFileKeyProvider::new(
        directory.path().join("keys/umk.key"),
    ));
    let store = Store::open(StoreConfig::new(StorePath::Memory), keys).await;
    let content = ContentStore::open(directory.path().join("content"), Limits::default());
    let (mesh, _) = Mesh::start(MeshConfig::new(key.clone())).await.unwrap();
    let donor = Donor::new(DonorParts {
        key,
        policy: Policy::parse(starter::donor_policy(&["general"]).as_bytes()).unwrap(),
        config: Config {
            slots: 1,
            ..Config::default()
        },
        home: Home::at(directory.path()),
        content: Arc::new(content.unwrap()),
        log: DonorLog::open(&store.unwrap()).await.unwrap(),
        mesh,
        load: Arc::new(LoadSampler::new()),
    });
    (directory, donor.unwrap())
}

/// A peer that the donor is connected to, and that takes requests without ever answering one.
struct Silent {
    key: SigningKey,
    _mesh: Mesh,
    _requests: mpsc::Receiver<Inbound>,
}

impl Silent {
    async fn known_to(donor: &Donor) -> Self {
        let key = SigningKey::generate().unwrap();
        let mut config = MeshConfig::new(key.clone());
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let (mesh, requests) = Mesh::start(config).await.unwrap();
        let listens = mesh.status().await.unwrap().listen;
        donor.0.mesh.add_peer(key.peer_id(), listens).await;
        Self {
            key,
            _mesh: mesh,
            _requests: requests,
        }
    }
}

/// A task as `key` would send it, without the module's bytes.
fn request(key: &SigningKey, lease: &str, module: &[u8]) -> DispatchRequest {
    let document = format!(
        "{{apiVersion: worldcompute/v1, kind: Job, metadata: {{name: test}}, spec: {{wasm: 'cid:{}'}}}}",
        Cid::raw(module)
    );
    let manifest = Manifest::parse(document.as_bytes()).unwrap();
    let manifest = manifest.resolve(|_| unreachable!()).unwrap();
    let manifest = manifest.sign(key).unwrap();
    let policy = Policy::parse(starter::submitter_policy().as_bytes()).unwrap();
    let gate = Gate::new(policy, key.clone(), SystemClock::shared());
    let decision = gate.decide(&manifest.submit_intent().unwrap()).unwrap();
    DispatchRequest {
        lease_id: lease.to_owned(),
        job_id: manifest.job_id().to_string(),
        task_id: String::new(),
        task_index: 0,
        attempt: 0,
        manifest: manifest.bytes().to_vec(),
        inline_inputs: Vec::new(),
        trace: decision.trace().bytes().to_vec(),
        correlation_id: String::new(),
        inspected: false,
    }
}

/// A dispatch under way, from whoever signed it.
fn dispatch(
    donor: &Donor,
    key: &SigningKey,
    request: DispatchRequest,
) -> tokio::task::JoinHandle<Result<DispatchReply>> {
    let (donor, from) = (donor.clone(), key.peer_id());
    tokio::spawn(async move { donor.dispatch(&from, request, Path::Local).await })
}

/// The donor's own task of a module that is here.
fn own(
    donor: &Donor,
    lease: &str,
    module: &[u8],
) -> tokio::task::JoinHandle<Result<DispatchReply>> {
    donor.0.content.put(module).unwrap();
    let key = &donor.0.key;
    dispatch(donor, key, request(key, lease, module))
}

async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_bytes_never_come_holds_no_slot_and_ends_when_it_is_cancelled() {
    let (_directory, donor) = donor().await;
    let silent = Silent::known_to(&donor).await;
    let from = silent.key.peer_id();
    let stuck = dispatch(&donor, &silent.key, request(&silent.key, "stuck", SPINS));
    until(|| donor.0.fetches.under_way() == 1).await;
    assert_eq!(donor.status().running, 1);

    let served = own(&donor, "served", ENDS).await.unwrap().unwrap();
    assert_eq!(served.status, DispatchStatus::Succeeded);
    let one_more = request(&silent.key, "one more", SPINS);
    let refused = donor.dispatch(&from, one_more, Path::Local).await;
    assert_eq!(refused.unwrap_err().code(), "too_many_fetches");

    assert!(donor.heartbeat(&from, "stuck"));
    assert!(donor.cancel(&from, "stuck"));
    let ended = stuck.await.unwrap().unwrap_err();
    assert_eq!(ended.code(), "task_cancelled");
    assert_eq!(donor.status().running, 0);
    assert!(!donor.heartbeat(&from, "stuck"));
    assert_eq!(
        donor.status().last_exit,
        1,
        "nothing but the other task ran"
    );
}

/// A task of the donor's own, told to have come over an inspected way or not; the lease and manifest that it names.
async fn told(donor: &Donor, inspected: bool) -> (Asked, DispatchReply) {
    donor.0.content.put(ENDS).unwrap();
    let key = &donor.0.key;
    let mut request = request(key, "", ENDS);
    let manifest = Arc::new(VerifiedManifest::open(&request.manifest).unwrap());
    let lease = format!("{}.0.0.0", manifest.job_id());
    donor.0.content.put(&request.trace).unwrap();
    (request.lease_id, request.inspected) = (lease.clone(), inspected);
    let asked = Asked {
        lease: lease.parse().unwrap(),
        donor: key.peer_id(),
        manifest,
    };
    let reply = dispatch(donor, key, request).await.unwrap().unwrap();
    (asked, reply)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_says_that_tls_was_opened_where_the_submitter_saw_it() {
    let (_directory, donor) = donor().await;
    for inspected in [true, false] {
        let (_, reply) = told(&donor, inspected).await;
        let opened = ExecutorReceipt::open(&reply.receipt).unwrap();
        assert_eq!(opened.receipt().inspected, inspected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitter_that_saw_it_takes_no_receipt_that_hides_it() {
    let (_directory, donor) = donor().await;
    for (said, seen, taken) in [
        (true, true, true),
        (false, true, false),
        (true, false, true),
        (false, false, true),
    ] {
        let (asked, reply) = told(&donor, said).await;
        let settled = verify(&asked, &reply, seen, &donor.0.content).map(drop);
        assert_eq!(settled.is_ok(), taken, "{said} {seen}: {settled:?}");
        if let Err(fault) = settled {
            assert_eq!(fault.number(), Some(WcCode::LedgerVerificationFailed));
            assert!(fault.message().contains("TLS"), "{fault}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_outlasts_the_patience_of_a_leaving_donor_is_handed_back() {
    let (_directory, donor) = donor().await;
    let endless = own(&donor, "endless", SPINS);
    until(|| donor.status().last_exit == 1).await;
    donor.leave(Duration::ZERO).await;
    assert_eq!(donor.status().running, 0);
    let reply = endless.await.unwrap().unwrap();
    assert_eq!(reply.status, DispatchStatus::Preempted);
    let late = own(&donor, "late", ENDS).await.unwrap().unwrap_err();
    assert_eq!(late.number(), Some(WcCode::Unavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_donor_finishes_a_run_that_ends_in_time() {
    let (_directory, donor) = donor().await;
    let running = own(&donor, "running", ENDS);
    until(|| donor.status().last_exit == 1).await;
    donor.leave(Duration::MAX).await;
    assert_eq!(donor.status().running, 0);
    let reply = running.await.unwrap().unwrap();
    assert_eq!(reply.status, DispatchStatus::Succeeded);
    assert_eq!(donor.status().finished["succeeded"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_results_of_a_kept_answer_are_not_collected_and_what_the_task_took_is() {
    let (_directory, donor) = donor().await;
    let hello = include_bytes!("../../../../examples/hello/hello.wat");
    let content = donor.0.content.clone();
    let before = own(&donor, "hello", hello).await.unwrap().unwrap();
    assert!(!before.output.is_empty());
    content.collect(Collect::All).unwrap();
    let printed = before.output_cid.unwrap();
    assert_eq!(content.get(&printed).unwrap(), before.output);
    assert!(!content.has(&Cid::raw(hello)).unwrap());
    let from = donor.0.key.peer_id();
    let again = request(&donor.0.key, "hello", hello);
    let again = donor.dispatch(&from, again, Path::Local).await.unwrap();
    assert_eq!(again.output, before.output);

    let restarted = Answers::of(&donor.0.log, &content, 1 << 20).unwrap();
    drop(donor);
    content.collect(Collect::All).unwrap();
    assert!(content.has(&printed).unwrap());
    drop(restarted);
    content.collect(Collect::All).unwrap();
    assert!(!content.has(&printed).unwrap());
}
