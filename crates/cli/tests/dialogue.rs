//! A session of an agent in the encrypted store: recorded by `gait run record --store`, listed, and read back as the
//! runpack that it was.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, and broken files are written on purpose"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gait::{Gate, Intent, Policy, SystemClock};
use serde_json::{Value, json};
use support::{run, text};
use worldcompute_proof::SigningKey;

/// What the agent was asked and told. It must be nowhere but where it was put.
const SECRETS: [&str; 5] = [
    "ask-correct-horse-battery",
    "told-staple-7c1e",
    "tool.of-nobody-else",
    "event-of-somebody",
    "the-trace-says-so",
];

/// A home with a store, and a session to record.
struct World {
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            root: tempfile::tempdir().unwrap(),
        };
        let made = run(&world.home(), &["store", "init"]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Writes the file that `gait run record` reads.
    fn input(&self, run_id: &str) -> PathBuf {
        let intent = json!({"intent_id": "i1", "tool_name": SECRETS[2], "args": {"prompt": SECRETS[0], "n": 1e21}});
        let result = json!({"intent_id": "i1", "status": "ok", "result": {"answer": SECRETS[1]}});
        let event = json!({"event": SECRETS[3], "ts": "2026-02-05T01:30:00.5+01:30"});
        let digest = "a".repeat(64);
        let receipt = json!({"ref_id": "r1", "query_digest": digest, "content_digest": digest, "source_type": "file",
            "source_locator": "notes.md", "retrieved_at": "2026-02-05T00:00:00Z", "redaction_mode": "reference"});
        let input = json!({
            "run": {"run_id": run_id, "created_at": "2026-02-05T00:00:00Z", "timeline": [event]},
            "intents": [intent], "results": [result], "refs": {"receipts": [receipt]}, "capture_mode": "raw",
        });
        let path = self.path("input.json");
        fs::write(&path, input.to_string()).unwrap();
        path
    }

    /// Records it with all that it said.
    fn record(&self, program: &Path, run_id: &str, more: &[&str]) -> Output {
        let (input, out, home) = (self.input(run_id), self.path("out"), self.home());
        Command::new(program)
            .args(["run", "record", "--json", "--input"])
            .arg(input)
            .arg("--out-dir")
            .arg(out)
            .arg("--store")
            .arg(home)
            .args(more)
            .output()
            .unwrap()
    }

    fn runpack(&self, run_id: &str) -> PathBuf {
        self.path("out").join(format!("runpack_{run_id}.zip"))
    }

    fn list(&self) -> Value {
        let listed = support::json(&self.home(), &["store", "dialogue", "list"]);
        listed["dialogues"].clone()
    }

    /// What the program says of a failure.
    fn fault(&self, arguments: &[&str]) -> Value {
        let output = run(&self.home(), &[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        serde_json::from_slice(&output.stderr).unwrap()
    }

    /// Every byte of every file in the home.
    fn bytes_at_home(&self) -> Vec<u8> {
        let (mut folders, mut bytes) = (vec![self.home()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => bytes.extend(fs::read(path).unwrap()),
                }
            }
        }
        bytes
    }
}

/// The program `gait` of this build, built if it is not there or older than its sources.
fn gait() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_BIN_EXE_worldcompute"));
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "gait", "--bin", "gait"]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    if here
        .parent()
        .is_some_and(|profile| profile.ends_with("release"))
    {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "gait does not build");
    here.with_file_name("gait")
}

fn object(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::from(text(bytes)))
}

fn holds(bytes: &[u8], what: &str) -> bool {
    bytes
        .windows(what.len())
        .any(|part| part == what.as_bytes())
}

#[test]
fn a_recorded_session_is_read_back_to_the_byte_and_nothing_of_it_is_in_the_clear() {
    let (world, gait) = (World::new(), gait());
    let recorded = world.record(&gait, "run_1", &["--key-mode", "dev"]);
    assert!(recorded.status.success(), "{}", text(&recorded.stdout));
    let recorded = object(&recorded.stdout);
    let stored = &recorded["stored"];
    assert_eq!(stored["manifest_digest"], recorded["manifest_digest"]);
    assert_eq!(stored["run_id"], "run_1");
    for (records, count) in [
        ("intents", 1),
        ("results", 1),
        ("references", 1),
        ("events", 1),
    ] {
        assert_eq!(stored[records], count, "{records}");
    }
    assert_eq!(world.list(), json!([stored]));

    let original = fs::read(world.runpack("run_1")).unwrap();
    let again = world.path("again.zip");
    let dialogue = stored["dialogue"].as_str().unwrap();
    let read = [
        "store",
        "dialogue",
        "read",
        dialogue,
        "--out",
        again.to_str().unwrap(),
    ];
    assert_eq!(support::json(&world.home(), &read), *stored);
    assert_eq!(fs::read(&again).unwrap(), original);
    let verified = Command::new(&gait)
        .arg("verify")
        .arg(&again)
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", text(&verified.stdout));

    let at_home = world.bytes_at_home();
    assert!(
        holds(&at_home, "dialogue#run_1"),
        "the search finds what is there"
    );
    for secret in SECRETS {
        assert!(!holds(&at_home, secret), "{secret} is in the clear");
    }
}

#[test]
fn recording_a_session_again_changes_nothing_and_another_one_does_not_take_its_place() {
    let (world, gait) = (World::new(), gait());
    let first = object(&world.record(&gait, "Run-2", &[]).stdout)["stored"].clone();
    assert!(
        first["dialogue"].as_str().unwrap().starts_with("run-"),
        "{first}"
    );
    assert_eq!(
        object(&world.record(&gait, "Run-2", &[]).stdout)["stored"],
        first
    );
    let approval = world.path("approval.json");
    let record = json!({"schema_id": "gait.gate.approval_audit_record", "approved": true, "note": SECRETS[4]});
    fs::write(&approval, record.to_string()).unwrap();
    let other = world.record(
        &gait,
        "Run-2",
        &["--approval-audit", approval.to_str().unwrap()],
    );
    assert_eq!(object(&other.stdout)["error_code"], "dialogue_exists");
    assert_eq!(world.list(), json!([first]));

    let evidence = ["--approval-audit", approval.to_str().unwrap()];
    let third = object(&world.record(&gait, "run_3", &evidence).stdout)["stored"].clone();
    assert_eq!(third["approvals"], 1);
    assert_eq!(world.list(), json!([first, third]));
    assert!(!holds(&world.bytes_at_home(), SECRETS[4]));
}

#[test]
fn decisions_of_the_gate_go_with_the_session_and_what_is_none_does_not() {
    let (world, gait) = (World::new(), gait());
    let trace = world.path("trace.json");
    fs::write(&trace, decision()).unwrap();
    let with_trace = ["--trace", trace.to_str().unwrap()];
    let stored = object(&world.record(&gait, "run_6", &with_trace).stdout)["stored"].clone();
    assert_eq!(stored["decisions"], 1);
    let at_home = world.bytes_at_home();
    assert!(
        holds(&at_home, "require_approval"),
        "verdicts are cleartext"
    );
    assert!(!holds(&at_home, SECRETS[4]));

    let mut forged: Value = serde_json::from_slice(&decision()).unwrap();
    forged["verdict"] = "allow".into();
    for none in [forged.to_string(), "{}".to_owned(), "no JSON".to_owned()] {
        fs::write(&trace, none).unwrap();
        let refused = object(&world.record(&gait, "run_7", &with_trace).stdout);
        assert_eq!(refused["error_code"], "invalid_input", "{refused}");
    }
    assert_eq!(world.list(), json!([stored]));
}

/// The trace of a decision on what nobody is to know.
fn decision() -> Vec<u8> {
    let policy = "{schema_id: gait.gate.policy, schema_version: 1.0.0, default_verdict: require_approval, rules: []}";
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    let gate = Gate::new(
        policy,
        SigningKey::from_seed([5; 32]),
        SystemClock::shared(),
    );
    let intent = json!({"tool_name": SECRETS[4], "args": {},
        "context": {"identity": "alice", "workspace": "/srv", "risk_class": "low"}});
    let intent = Intent::parse(intent.to_string().as_bytes()).unwrap();
    gate.decide(&intent).unwrap().trace().bytes().to_vec()
}

#[test]
fn what_cannot_be_put_into_the_store_is_told_as_it_is() {
    let (world, gait) = (World::new(), gait());
    let refused = world.record(&gait, "run_4", &["--trace", "/nonexistent/trace.json"]);
    assert!(!refused.status.success());
    assert!(world.runpack("run_4").is_file(), "the runpack is written");
    assert!(
        object(&refused.stdout)["error"]
            .as_str()
            .unwrap()
            .contains("trace.json")
    );

    let cut = world.path("cut.zip");
    let whole = fs::read(world.runpack("run_4")).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let fault = world.fault(&["store", "dialogue", "record", cut.to_str().unwrap()]);
    assert_eq!(fault["error_category"], "verification_failed", "{fault}");
    assert_eq!(world.list(), json!([]));
    let fault = world.fault(&["store", "dialogue", "read", "run_4"]);
    assert_eq!(fault["error_code"], "dialogue_not_found");

    let policy = world.home().join("policy/keys.yaml");
    let kept: Vec<_> = fs::read_to_string(&policy)
        .unwrap()
        .lines()
        .filter(|line| !line.contains("key:dialogue\""))
        .map(str::to_owned)
        .collect();
    fs::write(&policy, kept.join("\n")).unwrap();
    let denied = object(&world.record(&gait, "run_4", &[]).stdout);
    assert_eq!(denied["error_code"], "key_release_denied", "{denied}");

    let alone = world.path("gait");
    fs::copy(&gait, &alone).unwrap();
    let output = Command::new(&alone)
        .args(["run", "record", "--json", "--store", "home", "--input"])
        .arg(world.input("run_5"))
        .current_dir(world.root.path())
        .env("PATH", "")
        .output()
        .unwrap();
    assert_eq!(
        object(&output.stdout)["error_code"],
        "store_program_missing"
    );
}
