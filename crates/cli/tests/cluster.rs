//! The program as its users meet it: real processes on loopback, donors that are reached through a relay only.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, and broken files are written on purpose"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Daemon, example, file, json, run, text, until};

/// A relay, two donors behind it, and a third node, also behind it, that submits.
struct Cluster {
    root: tempfile::TempDir,
    relay: Daemon,
    donors: Vec<Daemon>,
    submitter: Daemon,
}

impl Cluster {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let relay = Daemon::relay(root.path());
        let donors = ["a", "b"].map(|name| {
            Daemon::donor(
                root.path(),
                name,
                &relay,
                &["--consent", "scientific,general", "--slots", "1"],
            )
        });
        let submitter = Self::submitter(root.path(), &relay);
        submitter.sees_donors(3);
        Self {
            relay,
            donors: donors.into(),
            submitter,
            root,
        }
    }

    /// A donor to nobody's class of work, so that whatever it submits runs elsewhere.
    fn submitter(root: &Path, relay: &Daemon) -> Daemon {
        Daemon::donor(root, "submitter", relay, &["--consent", "indexing"])
    }

    fn home(&self) -> &Path {
        self.submitter.home()
    }

    fn submit(&self, manifest: &str) -> String {
        json(self.home(), &["job", "submit", manifest])["job_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn job(&self, id: &str) -> Value {
        json(self.home(), &["job", "status", id])
    }

    fn wait(&self, id: &str) -> Value {
        until("the job ends", || {
            ["completed", "failed", "cancelled"].contains(&self.job(id)["status"].as_str().unwrap())
        });
        self.job(id)
    }

    fn manifest(&self, name: &str, spec: &str) -> String {
        let text = format!(
            "apiVersion: worldcompute/v1\nkind: Job\nmetadata: {{ name: {name} }}\nspec:\n{spec}"
        );
        file(self.root.path(), &format!("{name}.yaml"), &text)
    }
}

/// Counts to a number that takes a while, then prints its argument.
const SLOW: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "done\n")
  (func (export "_start")
    (local $left i64)
    (local.set $left (i64.const 400000000))
    (loop $again
      (local.set $left (i64.sub (local.get $left) (i64.const 1)))
      (br_if $again (i64.ne (local.get $left) (i64.const 0))))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 5))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// The correlation ids of the records with this message in a node's log.
fn correlations(home: &Path, message: &str) -> Vec<String> {
    let log = fs::read_to_string(home.join("log/daemon.log")).unwrap();
    let records = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .filter(|record| record["message"] == message)
        .map(|record| {
            record["correlation_id"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

fn evidence(job: &Value) -> PathBuf {
    PathBuf::from(job["evidence"].as_str().unwrap())
}

#[test]
fn a_module_runs_on_a_donor_behind_a_relay_and_its_evidence_verifies() {
    let cluster = Cluster::start();
    let output = run(cluster.home(), &["job", "run", &example("hello/hello.wat")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "hello\n");

    let jobs = json(cluster.home(), &["job", "list"]);
    let job = &jobs[0];
    assert_eq!(job["receipt_verified"], true);
    let executors = job["executors"].as_object().unwrap();
    assert!(
        cluster
            .donors
            .iter()
            .any(|donor| executors.contains_key(&donor.peer_id))
    );
    let bundle = evidence(job);
    let report = json(cluster.root.path(), &["verify", bundle.to_str().unwrap()]);
    assert_eq!(report["ok"], true);

    let accepted = correlations(cluster.home(), "job accepted");
    assert!(
        accepted.len() == 1 && !accepted[0].is_empty(),
        "{accepted:?}"
    );
    let ran = |donor: &Daemon| correlations(donor.home(), "task ran");
    let ran: Vec<_> = cluster.donors.iter().flat_map(ran).collect();
    assert_eq!(ran, accepted, "one id from the command to the donor");

    let receipt = fs::read_to_string(bundle.join("receipts/00000.json")).unwrap();
    assert!(receipt.contains("payload"));
    let words = run(
        cluster.root.path(),
        &[
            "verify",
            bundle.join("receipts/00000.json").to_str().unwrap(),
        ],
    );
    assert!(words.status.success(), "{}", text(&words.stderr));
    assert!(cluster.relay.pid() > 0);
}

#[test]
fn a_donor_killed_in_the_middle_costs_no_task() {
    let mut cluster = Cluster::start();
    let module = file(cluster.root.path(), "slow.wat", SLOW);
    let manifest = cluster.manifest(
        "slow",
        &format!("  wasm: {module}\n  array: {{ count: 8 }}\n  acceptable_use_classes: [scientific]\n  max_wall_time: 60s\n"),
    );
    let id = cluster.submit(&manifest);
    let first = cluster.donors[0].peer_id.clone();
    until("the first donor works", || {
        json(cluster.donors[0].home(), &["donor", "status"])["running"]
            .as_u64()
            .unwrap()
            > 0
    });
    cluster.donors[0].kill();

    let job = cluster.wait(&id);
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(job["tasks"]["accepted"], 8);
    assert!(job["redispatched"].as_u64().unwrap() >= 1, "{job}");
    let done_by_survivor = job["executors"][&cluster.donors[1].peer_id]
        .as_u64()
        .unwrap();
    let done_by_victim = job["executors"]
        .get(&first)
        .and_then(Value::as_u64)
        .unwrap_or(0);
    assert_eq!(done_by_survivor + done_by_victim, 8);
    assert_eq!(
        json(
            cluster.root.path(),
            &["verify", evidence(&job).to_str().unwrap()]
        )["ok"],
        true
    );
}

#[test]
fn a_submitter_killed_in_the_middle_resumes_its_job() {
    let mut cluster = Cluster::start();
    let module = file(cluster.root.path(), "slow.wat", SLOW);
    let manifest = cluster.manifest(
        "resumed",
        &format!("  wasm: {module}\n  array: {{ count: 6 }}\n  acceptable_use_classes: [scientific]\n  max_wall_time: 60s\n"),
    );
    let id = cluster.submit(&manifest);
    until("a task is accepted", || {
        cluster.job(&id)["tasks"]["accepted"].as_u64().unwrap() > 0
    });
    cluster.submitter.kill();
    cluster.submitter = Cluster::submitter(cluster.root.path(), &cluster.relay);

    let job = cluster.wait(&id);
    assert_eq!(job["status"], "completed", "{job}");
    assert_eq!(job["tasks"]["accepted"], 6);
    assert_eq!(
        json(
            cluster.root.path(),
            &["verify", evidence(&job).to_str().unwrap()]
        )["ok"],
        true
    );
}

#[test]
fn every_part_of_the_evidence_that_is_changed_is_named() {
    let cluster = Cluster::start();
    let input = file(cluster.root.path(), "input.txt", "what went in");
    let manifest = cluster.manifest(
        "tampered",
        &format!(
            "  wasm: {}\n  inputs: [{{ file: {input}, mount: /in/input.txt }}]\n  array: {{ count: 2 }}\n  acceptable_use_classes: [general]\n",
            example("hello/hello.wat")
        ),
    );
    let job = cluster.wait(&cluster.submit(&manifest));
    assert_eq!(job["status"], "completed", "{job}");
    let bundle = evidence(&job);
    let parts: Vec<PathBuf> = ["receipts", "decisions", "objects"]
        .iter()
        .flat_map(|directory| {
            fs::read_dir(bundle.join(directory))
                .unwrap()
                .map(|entry| entry.unwrap().path())
        })
        .chain([bundle.join("manifest.cbor"), bundle.join("index.json")])
        .collect();
    assert!(parts.len() >= 9, "{parts:?}");
    for part in parts {
        tampered(&cluster, &bundle, &part);
    }
    assert_eq!(
        json(cluster.root.path(), &["verify", bundle.to_str().unwrap()])["ok"],
        true
    );
}

/// Changes one byte in the middle of `part`, expects the verifier to name it, and puts the byte back.
fn tampered(cluster: &Cluster, bundle: &Path, part: &Path) {
    let honest = fs::read(part).unwrap();
    let mut forged = honest.clone();
    match forged.len() {
        0 => forged.push(b'!'),
        length => forged[length / 2] ^= 1,
    }
    fs::write(part, &forged).unwrap();
    let output = run(cluster.root.path(), &["verify", bundle.to_str().unwrap()]);
    fs::write(part, &honest).unwrap();
    let name = part.strip_prefix(bundle).unwrap().display().to_string();
    assert_eq!(output.status.code(), Some(1), "{name}");
    assert!(
        text(&output.stderr).contains(&name),
        "{name}: {}",
        text(&output.stderr)
    );
    assert!(output.stdout.is_empty(), "{name}");
}

#[test]
fn a_donor_runs_no_class_it_did_not_consent_to() {
    let cluster = Cluster::start();
    let manifest = cluster.manifest(
        "unwelcome",
        &format!(
            "  wasm: {}\n  acceptable_use_classes: [rendering]\n",
            example("hello/hello.wat")
        ),
    );
    let id = cluster.submit(&manifest);
    until("the job says why it waits", || {
        cluster.job(&id)["reason"].is_string()
    });
    let job = cluster.job(&id);
    assert_eq!(job["status"], "queued", "{job}");
    assert_eq!(job["tasks"]["accepted"], 0);

    let cancelled = json(cluster.home(), &["job", "cancel", &id]);
    assert_eq!(cancelled["status"], "cancelled");
}

#[test]
fn a_paused_donor_gets_nothing_until_it_resumes() {
    let mut cluster = Cluster::start();
    cluster.donors.truncate(1);
    let donor = cluster.donors[0].home().to_owned();
    assert_eq!(json(&donor, &["donor", "pause"])["state"], "paused");
    assert_eq!(json(&donor, &["donor", "status"])["state"], "paused");
    let manifest = cluster.manifest(
        "patient",
        &format!(
            "  wasm: {}\n  acceptable_use_classes: [general]\n",
            example("hello/hello.wat")
        ),
    );
    let id = cluster.submit(&manifest);
    until("the job waits", || cluster.job(&id)["reason"].is_string());
    assert_eq!(json(&donor, &["donor", "resume"])["state"], "idle");
    assert_eq!(cluster.wait(&id)["status"], "completed");
}

#[test]
fn a_daemon_that_is_told_to_stop_ends_in_order_and_leaves_no_socket() {
    let root = tempfile::tempdir().unwrap();
    let relay = Daemon::relay(root.path());
    let home = relay.home().to_owned();
    assert!(home.join("run/control.sock").exists());
    assert!(relay.stop());
    assert!(!home.join("run/control.sock").exists());
}

#[test]
fn the_identity_never_changes_however_often_the_daemon_restarts() {
    let root = tempfile::tempdir().unwrap();
    let home = root.path().join("relay");
    let enrolled = json(&home, &["donor", "enroll"])["peer_id"]
        .as_str()
        .unwrap()
        .to_owned();
    for _ in 0..3 {
        let relay = Daemon::relay(root.path());
        assert_eq!(relay.peer_id, enrolled);
        assert_eq!(
            json(&home, &["admin", "status"])["peer_id"],
            enrolled.as_str()
        );
    }
    let again = run(&home, &["donor", "enroll"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        text(&again.stderr).contains("WC-019"),
        "{}",
        text(&again.stderr)
    );
}
