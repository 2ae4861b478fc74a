//! A session of an agent in the encrypted store: recorded by `gait run record --store`, listed, and read back as the
//! runpack that it was.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, and broken files are written on purpose"
)]

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use dynoxide::actions::put_item::PutItemRequest;
use dynoxide::actions::scan::ScanRequest;
use dynoxide::{AttributeValue, Database};
use gait::{Gate, Intent, Policy, SystemClock};
use serde_json::{Value, json};
use support::{run, text};
use worldcompute_node::store::{
    Batch, Entity, Kind, LocalFileKeyProvider, META, PartitionVersion, Store, StoreConfig,
    StorePath,
};
use worldcompute_proof::SigningKey;

/// What the agent was asked and told. It must be nowhere but where it was put.
const SECRETS: [&str; 5] = [
    "ask-correct-horse-battery",
    "told-staple-7c1e",
    "tool.of-nobody-else",
    "event-of-somebody",
    "the-trace-says-so",
];

/// What the table of a home is called.
const TABLE: &str = "blue-encrypted-store";

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

    /// A runpack of a session that takes many transactions to record.
    fn long_runpack(&self, program: &Path, run_id: &str) -> PathBuf {
        let input = self.input(run_id);
        let mut session: Value = serde_json::from_slice(&fs::read(&input).unwrap()).unwrap();
        let said = "said ".repeat(3_000);
        let of_each = |make: &dyn Fn(String) -> Value| -> Value {
            (0..400).map(|n| make(format!("i{n}"))).collect()
        };
        session["intents"] = of_each(
            &|id| json!({"intent_id": id, "tool_name": "tool.ask", "args": {"prompt": said}}),
        );
        session["results"] =
            of_each(&|id| json!({"intent_id": id, "status": "ok", "result": {"answer": said}}));
        fs::write(&input, session.to_string()).unwrap();
        let made = Command::new(program)
            .args(["run", "record", "--json", "--input"])
            .arg(&input)
            .arg("--out-dir")
            .arg(self.path("out"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", text(&made.stdout));
        self.runpack(run_id)
    }

    /// Kills `store dialogue record` once the table has grown by some of the session.
    fn record_until_killed(&self, runpack: &Path) {
        let files = ["worldcompute.db", "worldcompute.db-wal"];
        let bytes = || -> u64 {
            let sizes = files.map(|name| self.home().join("store").join(name).metadata());
            sizes.into_iter().flatten().map(|file| file.len()).sum()
        };
        let before = bytes();
        let mut recording = support::worldcompute(&self.home())
            .args(["store", "dialogue", "record"])
            .arg(runpack)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while recording.try_wait().unwrap().is_none() && bytes() < before + (3 << 20) {
            std::thread::yield_now();
        }
        recording.kill().unwrap();
        recording.wait().unwrap();
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

/// The program `gait` of this build, built if it is not there or older than its sources: building a test of it does, and
/// with the features of all tests, so that nothing below it is compiled a second time.
fn gait() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_BIN_EXE_worldcompute"));
    let mut build = Command::new(env!("CARGO"));
    build.args([
        "test",
        "--quiet",
        "--workspace",
        "--test",
        "doctor",
        "--no-run",
    ]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo told this test about itself makes build scripts that watch for it run again, and all above them.
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)) {
        build.env_remove(name);
    }
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
fn what_a_recording_that_was_killed_has_left_is_no_tampering_and_is_erased() {
    let (world, gait) = (World::new(), gait());
    let runpack = world.long_runpack(&gait, "run_long");
    let partition = "dialogue#run_long";
    // The table's file tells when it is in the middle. It may be through all the same.
    let left = (0..8).find_map(|_| {
        world.record_until_killed(&runpack);
        let verified = support::json(&world.home(), &["store", "verify"]);
        assert_eq!(verified["ok"], true, "{verified}");
        if world.list() != json!([]) {
            let done = run(&world.home(), &["store", "erase", partition, "--yes"]);
            panic!("recorded before it was killed: {}", text(&done.stdout));
        }
        verified["left"].as_u64().filter(|left| *left > 0)
    });
    assert!(left.is_some(), "nothing was left");
    let erased = support::json(&world.home(), &["store", "erase", partition, "--yes"]);
    assert_eq!(erased["erasure"]["data_keys_destroyed"], 1);
    let verified = support::json(&world.home(), &["store", "verify"]);
    assert_eq!(
        (&verified["ok"], &verified["left"]),
        (&json!(true), &json!(0))
    );
    let fault = world.fault(&["store", "erase", "dialogue#nobody", "--yes"]);
    assert_eq!(fault["error_code"], "partition_not_found");
}

#[test]
fn one_damaged_dialogue_keeps_no_other_from_being_listed_and_none_is_listed_twice() {
    let (world, gait) = (World::new(), gait());
    for run_id in ["run_1", "run_2"] {
        assert!(world.record(&gait, run_id, &[]).status.success());
    }
    let engine = Database::new(world.home().join("store/worldcompute.db").to_str().unwrap());
    let engine = engine.unwrap();
    let scan = ScanRequest {
        table_name: TABLE.to_owned(),
        ..ScanRequest::default()
    };
    let rows = engine.scan(scan).unwrap().items.unwrap();
    let string = |text: &str| AttributeValue::S(text.to_owned());
    let meta = |pk: &str| {
        let is = |row: &&HashMap<String, AttributeValue>| {
            row["pk"] == string(pk) && row["sk"] == string("meta")
        };
        rows.iter().find(is).unwrap().clone()
    };
    let mut damaged = meta("dialogue#run_1");
    damaged.insert("updated_at".to_owned(), string("now"));
    let mut again = meta("dialogue#run_2");
    let sk = "intent#2026-01-02T03:04:05.000000006Z#i9";
    again.insert("sk".to_owned(), string(sk));
    for item in [damaged, again] {
        let request = PutItemRequest {
            table_name: TABLE.to_owned(),
            item,
            ..PutItemRequest::default()
        };
        engine.put_item(request).unwrap();
    }
    drop(engine);
    let listed = run(&world.home(), &["store", "dialogue", "list", "--json"]);
    assert_eq!(listed.status.code(), Some(1));
    let listed = object(&listed.stdout);
    assert_eq!(listed["dialogues"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["dialogues"][0]["dialogue"], "run_2");
    assert_eq!(listed["damaged"][0]["dialogue"], "run_1");
}

/// A record of another program in the place of a dialogue's.
struct Strange;

impl Entity for Strange {
    const TYPE: &'static str = META;
    type Clear = ();
    type Sealed = ();

    fn id(&self) -> String {
        String::new()
    }

    fn split(self) -> ((), ()) {
        ((), ())
    }

    fn join(_id: String, _clear: (), _sealed: ()) -> worldcompute_fault::Result<Self> {
        Ok(Self)
    }

    fn listed_as(_clear: &()) -> Option<String> {
        Some("recorded".to_owned())
    }
}

#[tokio::test]
async fn a_list_that_breaks_off_leaves_on_record_what_it_has_read() {
    let (world, gait) = (World::new(), gait());
    assert!(world.record(&gait, "run_1", &[]).status.success());
    let file = StorePath::File(world.home().join("store/worldcompute.db"));
    let keys = Arc::new(LocalFileKeyProvider::new(world.home().join("keys/umk.key")));
    let store = Store::open(StoreConfig::new(file), keys).await.unwrap();
    let mut batch = Batch::new();
    batch.insert(Strange).unwrap();
    let strange = store.partition(Kind::DIALOGUE, "run_2").unwrap();
    let none = PartitionVersion::NONE;
    strange.commit(batch, none).await.unwrap();
    drop(strange);
    store.close().await.unwrap();
    let reads = || {
        let events = support::json(&world.home(), &["store", "events"]);
        let events = events["events"].as_array().unwrap().iter();
        let is = |event: &&Value| {
            event["key_id"] == "dek#dialogue#run_1#1" && event["operation"] == "Decrypt"
        };
        events.filter(is).count()
    };
    let before = reads();
    let fault = world.fault(&["store", "dialogue", "list"]);
    assert_eq!(fault["error_code"], "invalid_record");
    assert_eq!(reads(), before + 1);
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
