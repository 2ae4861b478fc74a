//! `worldcompute verify --re-execute`: a receipt of one's own, of a stranger, and of a liar.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

mod support;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use support::{file, json, run, text, worldcompute};
use worldcompute_node::evidence::{self, Contents};
use worldcompute_node::manifest::VerifiedManifest;
use worldcompute_node::receipt::{Receipt, SignedReceipt, Status};
use worldcompute_proof::{Cid, SigningKey};

/// Prints five bytes of its randomness, and a word on standard error.
const SAYS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\40\00\00\00\05\00\00\00\80\00\00\00\04\00\00\00")
  (data (i32.const 128) "word")
  (func (export "_start")
    (drop (call $random (i32.const 64) (i32.const 5)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (drop (call $write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 32)))))"#;

/// Ends where its stack does.
const DEEP: &str = r#"(module (func $down (call $down)) (func (export "_start") (call $down)))"#;

/// One job of one task that this machine ran for itself.
struct Evidence {
    root: tempfile::TempDir,
    bundle: PathBuf,
    /// Of executor and submitter.
    key: SigningKey,
    forged: Cell<u32>,
}

impl Evidence {
    fn of(module: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let module = file(root.path(), "module.wat", module);
        let ended = run(root.path(), &["job", "run", "--local", &module]);
        let jobs = fs::read_dir(root.path().join("local/evidence")).unwrap();
        let mut jobs = jobs.map(|job| job.unwrap().path());
        let bundle = jobs.find(|job| job.is_dir());
        Self {
            bundle: bundle.unwrap_or_else(|| panic!("no evidence: {}", text(&ended.stderr))),
            key: SigningKey::load(&root.path().join("local/identity.key")).unwrap(),
            forged: Cell::default(),
            root,
        }
    }

    fn receipt(&self) -> PathBuf {
        self.bundle.join("receipts/00000.json")
    }

    /// The evidence with another receipt in it, signed by those whom it names.
    fn forged(&self, change: impl FnOnce(&mut Receipt)) -> PathBuf {
        let read = |name: &str| fs::read(self.bundle.join(name)).unwrap();
        let signed = SignedReceipt::open(&read("receipts/00000.json")).unwrap();
        let mut receipt = signed.receipt().clone();
        change(&mut receipt);
        let receipt = receipt
            .sign(&self.key)
            .unwrap()
            .countersign(&self.key)
            .unwrap();
        let traces = fs::read_dir(self.bundle.join("decisions")).unwrap();
        let traces: Vec<_> = traces
            .map(|trace| fs::read(trace.unwrap().path()).unwrap())
            .collect();
        let contents = Contents {
            manifest: &VerifiedManifest::open(&read("manifest.cbor")).unwrap(),
            receipts: &[receipt],
            traces: &traces,
        };
        self.forged.set(self.forged.get() + 1);
        let root = self
            .root
            .path()
            .join(format!("forged-{}", self.forged.get()));
        let mut object = |cid: &Cid, out: &mut dyn std::io::Write| {
            out.write_all(&read(&format!("objects/{cid}"))).unwrap();
            Ok(())
        };
        let bundle = evidence::write(&root, contents, &mut object, &self.key).unwrap();
        bundle.join("receipts/00000.json")
    }
}

fn re_execute(home: &Path, file: &Path) -> Output {
    let file = file.to_str().unwrap();
    run(home, &["verify", "--re-execute", file, "--json"])
}

/// Expects a refusal, which it gives, and nothing on standard output.
#[track_caller]
fn refused(home: &Path, file: &Path, code: &str) -> String {
    let output = re_execute(home, file);
    let told: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(told["error_code"], code, "{told}");
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    told["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_stranger_confirms_a_receipt_and_keeps_nothing() {
    let evidence = Evidence::of(SAYS);
    let (home, temporary) = (
        evidence.root.path().join("none"),
        evidence.root.path().join("tmp"),
    );
    fs::create_dir(&temporary).unwrap();
    let output = worldcompute(&home)
        .args(["verify", "--re-execute", "--json"])
        .arg(evidence.receipt())
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let receipt = SignedReceipt::open(&fs::read(evidence.receipt()).unwrap()).unwrap();
    let told = &receipt.receipt().outcome;
    assert_eq!(told.status, Status::Succeeded);
    assert_eq!(report["run_again"]["fuel_used"], told.fuel_used);
    let open = report["not_proven"].to_string();
    assert!(!open.contains("executor's word"), "{open}");
    assert!(!home.exists());
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    // What is only verified is not run.
    let verified = json(&home, &["verify", evidence.receipt().to_str().unwrap()]);
    assert_eq!(verified.get("run_again"), None);
    assert!(
        verified["not_proven"]
            .to_string()
            .contains("executor's word")
    );
}

#[test]
fn every_lie_of_an_executor_is_told_by_its_field() {
    let evidence = Evidence::of(SAYS);
    let home = evidence.root.path();
    let other = Cid::raw(SAYS);
    type Lie = fn(&mut Receipt, Cid);
    let lies: [(&str, Lie); 5] = [
        ("fuel_used", |receipt, _| receipt.outcome.fuel_used += 1),
        ("stdout", |receipt, other| {
            receipt.outcome.stdout_cid = other
        }),
        ("stderr", |receipt, other| {
            receipt.outcome.stderr_cid = other
        }),
        ("status", |receipt, _| {
            receipt.outcome.status = Status::Trapped;
            receipt.outcome.exit_code = None;
            receipt.outcome.error = Some("it trapped".to_owned());
        }),
        ("exit_code", |receipt, _| {
            receipt.outcome.status = Status::Failed;
            receipt.outcome.exit_code = Some(3);
            receipt.outcome.error = Some("exit code 3".to_owned());
        }),
    ];
    for (field, lie) in lies {
        let forged = evidence.forged(|receipt| lie(receipt, other));
        let bundle = json(home, &["verify", forged.to_str().unwrap()]);
        assert_eq!(bundle["ok"], true, "{field}: the signatures hold");
        let why = refused(home, &forged, "rerun_differs");
        assert!(why.starts_with("receipts/00000.json: "), "{why}");
        assert!(why.contains(&format!("{field} is ")), "{field}: {why}");
    }
    // What is no matter of the run is none of its result.
    let later = evidence.forged(|receipt| receipt.outcome.wall_ms += 1);
    assert!(re_execute(home, &later).status.success());
}

#[test]
fn what_a_clock_or_a_person_ended_is_not_run_again() {
    let evidence = Evidence::of(SAYS);
    for status in [Status::TimedOut, Status::Cancelled] {
        let forged = evidence.forged(|receipt| {
            receipt.outcome.status = status;
            receipt.outcome.exit_code = None;
            receipt.outcome.wall_ms = receipt.limits.wall_ms;
            receipt.outcome.error = Some("ended".to_owned());
        });
        let why = refused(evidence.root.path(), &forged, "rerun_undetermined");
        assert!(why.contains(status.as_str()), "{why}");
    }
}

#[test]
fn how_deep_a_stack_is_accuses_nobody() {
    let evidence = Evidence::of(DEEP);
    let home = evidence.root.path();
    let honest = re_execute(home, &evidence.receipt());
    assert!(honest.status.success(), "{}", text(&honest.stderr));
    let deeper = evidence.forged(|receipt| receipt.outcome.fuel_used += 1);
    let why = refused(home, &deeper, "rerun_undetermined");
    assert!(why.contains("call stack exhausted"), "{why}");
    assert!(why.contains("fuel_used"), "{why}");
}

#[test]
fn the_donor_policy_and_the_consent_of_the_home_decide() {
    let evidence = Evidence::of(SAYS);
    let home = evidence.root.path().join("other");
    fs::create_dir_all(home.join("policy")).unwrap();
    let write = |name: &str, text: &str| {
        let path = home.join(name);
        let mode = worldcompute_node::durable::Mode::Private;
        worldcompute_node::durable::write_atomic(&path, text.as_bytes(), mode).unwrap();
    };
    write("config.toml", "consent = [\"rendering\"]\n");
    let why = refused(&home, &evidence.receipt(), "acceptable_use_violation");
    assert!(why.contains("did not consent"), "{why}");
    write("config.toml", "");
    assert!(re_execute(&home, &evidence.receipt()).status.success());
    write("policy/donor.yaml", "default_verdict: block\n");
    let output = re_execute(&home, &evidence.receipt());
    let told: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(told["error_category"], "policy_blocked", "{told}");
    write("policy/donor.yaml", "no policy");
    refused(&home, &evidence.receipt(), "policy_invalid");
}

#[test]
fn nothing_but_a_receipt_where_it_lies_can_be_run_again() {
    let evidence = Evidence::of(SAYS);
    let home = evidence.root.path();
    let copy = home.join("receipt.json");
    fs::copy(evidence.receipt(), &copy).unwrap();
    let manifest = evidence.bundle.join("manifest.cbor");
    for path in [&copy, &manifest, &evidence.bundle, &home.join("nowhere")] {
        refused(home, path, "rerun_incomplete");
    }
}

#[test]
fn a_module_that_is_missing_or_changed_is_named_and_not_run() {
    let evidence = Evidence::of(SAYS);
    let home = evidence.root.path();
    let module = format!("objects/{}", Cid::raw(SAYS));
    let path = evidence.bundle.join(&module);
    let mode = worldcompute_node::durable::Mode::Private;
    worldcompute_node::durable::write_atomic(&path, DEEP.as_bytes(), mode).unwrap();
    let why = refused(home, &evidence.receipt(), "evidence_changed");
    assert!(why.starts_with(&module), "{why}");
    fs::remove_file(&path).unwrap();
    let why = refused(home, &evidence.receipt(), "evidence_missing");
    assert!(why.starts_with(&module), "{why}");
}
