//! The journals and chains of `gait run session`, as a caller of the program sees them.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::Gait;

/// A folder with a session of two checkpoints, chained in `s_chain.json`.
struct Recorded(Gait);

impl Recorded {
    fn new() -> Self {
        let recorded = Self(Gait::new());
        recorded.session(&["start", "--session-id", "s1", "--run-id", "run_s"]);
        recorded.checkpoint("cp1.zip");
        recorded.keep_chain_as("first_chain.json");
        recorded.checkpoint("cp2.zip");
        recorded
    }

    fn session(&self, args: &[&str]) -> Value {
        let args = [&["run", "session"], args, &["--journal", "s.jsonl"]].concat();
        let (code, fields) = self.0.json(&args);
        assert_eq!(code, 0, "{fields}");
        fields
    }

    /// One more event, and a checkpoint of it.
    fn checkpoint(&self, out: &str) {
        self.session(&["append", "--tool", "tool.x", "--verdict", "block"]);
        self.session(&["checkpoint", "--out", out]);
    }

    fn read(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.0.path().join(name)).unwrap()).unwrap()
    }

    fn keep_chain_as(&self, name: &str) {
        self.0.file(name, self.read("s_chain.json").to_string());
    }

    /// The chain with a change, under another name.
    fn changed(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut chain = self.read("s_chain.json");
        change(&mut chain);
        self.0.file(name, chain.to_string());
    }

    fn receipt(&self, change: impl FnOnce(&mut Value)) -> (i32, Value) {
        let mut receipt = json!({
            "schema_id": "gait.capture.receipt", "schema_version": "1.0.0", "ok": true,
            "from": "s_chain.json", "artifact_type": "runpack", "artifact_path": "cp1.zip",
            "session_chain_path": "s_chain.json", "run_id": "run_s", "output_path": "capture.json",
        });
        change(&mut receipt);
        self.0.file("capture.json", receipt.to_string());
        self.0
            .json(&["regress", "add", "--from", "capture.json", "--name", "fx"])
    }
}

#[test]
fn a_checkpoint_of_a_session_becomes_a_fixture() {
    let recorded = Recorded::new();
    let gait = &recorded.0;
    let (code, fields) = gait.json(&["verify", "session-chain", "--chain", "s_chain.json"]);
    assert_eq!((code, &fields["checkpoints_checked"]), (0, &json!(2)));
    let of = |checkpoint| ["--from", "s_chain.json", "--checkpoint", checkpoint];
    let (code, fields) = gait.json(&[&["regress", "bootstrap"][..], &of("1")].concat());
    assert_eq!((code, &fields["run_id"]), (0, &json!("run_s_cp_0001")));
    let missing = gait.json(&[&["regress", "init"][..], &of("9")].concat());
    assert_eq!(missing.0, 6);
}

#[test]
fn a_chain_is_inspected_checkpoint_by_checkpoint() {
    let recorded = Recorded::new();
    let (code, fields) = recorded.0.json(&["run", "inspect", "s_chain.json"]);
    assert_eq!((code, &fields["ok"]), (0, &json!(true)), "{fields}");
    assert_eq!(fields["artifact_type"], "session_chain");
    assert_eq!(
        (&fields["session_id"], &fields["run_id"]),
        (&json!("s1"), &json!("run_s"))
    );
    assert_eq!(fields["checkpoint_count"], 2);
    let [first, second] = fields["checkpoints"].as_array().unwrap().as_slice() else {
        panic!("{fields}");
    };
    assert_eq!(
        (&first["runpack_path"], &first["sequence_end"]),
        (&json!("cp1.zip"), &json!(1))
    );
    assert_eq!(first.get("prev_checkpoint_digest"), None);
    assert_eq!(second["prev_checkpoint_digest"], first["checkpoint_digest"]);
    let told = recorded
        .0
        .run(&["run", "inspect", "--from", "s_chain.json"])
        .stdout;
    assert!(told.contains("2. runpack=cp2.zip seq=2..2"), "{told}");
}

#[test]
fn two_chains_differ_in_the_checkpoints_that_only_one_has_or_that_are_others() {
    let recorded = Recorded::new();
    let diff = |left, right| {
        recorded
            .0
            .json(&["run", "diff", left, right, "--output", "d.json"])
    };
    let (code, fields) = diff("s_chain.json", "s_chain.json");
    assert_eq!((code, &fields["ok"]), (0, &json!(true)), "{fields}");
    let (code, fields) = diff("first_chain.json", "s_chain.json");
    assert_eq!((code, &fields["ok"]), (2, &json!(false)), "{fields}");
    let summary = &fields["summary"];
    assert_eq!(summary["files_changed"], json!(["right_only_checkpoint_2"]));
    for changed in [
        "manifest_changed",
        "intents_changed",
        "results_changed",
        "refs_changed",
    ] {
        assert_eq!(summary[changed], true, "{changed}");
    }
    assert_eq!(&recorded.read("d.json")["summary"], summary);
    let other = Recorded::new();
    other.session(&["append", "--tool", "tool.y", "--verdict", "allow"]);
    recorded
        .0
        .file("other_chain.json", other.read("s_chain.json").to_string());
    let changed = json!(["checkpoint_1", "checkpoint_2"]);
    let (_, fields) = diff("s_chain.json", "other_chain.json");
    assert_eq!(fields["summary"]["files_changed"], changed);
    let (code, fields) = diff("s_chain.json", "cp1.zip");
    assert_eq!((code, &fields["error_code"]), (6, &json!("invalid_input")));
}

#[test]
fn the_last_checkpoint_of_a_session_becomes_a_pack() {
    let recorded = Recorded::new();
    let build = ["pack", "build", "--from", "s_chain.json", "--out", "p.zip"];
    let (code, fields) = recorded.0.json(&build);
    assert_eq!(
        (code, &fields["source_ref"]),
        (0, &json!("run_s_cp_0002")),
        "{fields}"
    );
    assert_eq!(recorded.0.json(&["pack", "verify", "p.zip"]).0, 0);
}

#[test]
fn a_chain_that_is_broken_or_names_other_runpacks_is_used_for_nothing() {
    let recorded = Recorded::new();
    recorded.changed("gap_chain.json", |chain| {
        chain["checkpoints"].as_array_mut().unwrap().remove(0);
    });
    recorded.changed("swapped_chain.json", |chain| {
        chain["checkpoints"][1]["runpack_path"] = json!("cp1.zip");
    });
    recorded.changed("moved_chain.json", |chain| {
        chain["checkpoints"][1]["runpack_path"] = json!("none.zip");
    });
    recorded.0.file("no_chain.json", "{}");
    let inspect = ["run", "inspect", "gap_chain.json"];
    let diff = ["run", "diff", "gap_chain.json", "s_chain.json"];
    let pack = |chain| ["pack", "build", "--out", "p.zip", "--from", chain];
    let add = |chain| ["regress", "add", "--name", "fx", "--from", chain];
    for args in [
        &inspect[..],
        &diff,
        &pack("gap_chain.json"),
        &pack("swapped_chain.json"),
        &pack("moved_chain.json"),
        &pack("no_chain.json"),
        &add("gap_chain.json"),
        &add("swapped_chain.json"),
        &add("no_chain.json"),
    ] {
        let (code, fields) = recorded.0.json(args);
        let told = (code, &fields["error_category"]);
        assert_eq!(
            told,
            (2, &json!("verification_failed")),
            "{args:?} {fields}"
        );
    }
    for made in ["p.zip", "fixtures", "gait.yaml"] {
        assert!(!recorded.0.path().join(made).exists(), "{made}");
    }
}

#[test]
fn a_capture_receipt_becomes_a_fixture() {
    let recorded = Recorded::new();
    let (code, fields) = recorded.receipt(|_| ());
    assert_eq!(
        (code, &fields["run_id"]),
        (0, &json!("run_s_cp_0001")),
        "{fields}"
    );
    assert_eq!(fields["source"], "capture.json");
    let expected = recorded.read("fixtures/fx/fixture.json");
    assert_eq!(expected["session_chain"], "s_chain.json");
    assert_eq!(expected["checkpoint_index"], 1);
    recorded.0.json(&["demo"]);
    let (code, fields) = recorded.receipt(|receipt| {
        receipt["artifact_path"] = json!("gait-out/runpack_run_demo.zip");
        receipt["session_chain_path"] = json!("");
        receipt["run_id"] = json!("run_demo");
    });
    assert_eq!(
        (code, &fields["run_id"]),
        (0, &json!("run_demo")),
        "{fields}"
    );
    assert_eq!(recorded.0.json(&["regress", "run"]).0, 0);
}

#[test]
fn a_receipt_of_something_else_makes_no_fixture() {
    let recorded = Recorded::new();
    let refused = |exit: i32, field: &str, value: Value| {
        let (code, fields) = recorded.receipt(|receipt| receipt[field] = value.clone());
        assert_eq!(code, exit, "{field}={value}: {fields}");
        assert!(!recorded.0.path().join("fixtures").exists());
    };
    refused(6, "artifact_type", json!("trace"));
    refused(6, "schema_version", json!("2.0.0"));
    refused(6, "ok", json!(false));
    refused(6, "artifact_path", json!(""));
    refused(6, "artifact_path", json!("cp3.zip"));
    refused(6, "run_id", json!("run_other"));
    refused(6, "run_id", json!(7));
    refused(1, "session_chain_path", json!("none_chain.json"));
    // Without its chain, the runpack is of another run than the receipt says.
    refused(6, "session_chain_path", json!(""));
}

#[test]
fn an_added_fixture_leaves_the_rest_of_the_configuration_as_it_is() {
    let recorded = Recorded::new();
    let graders = json!([{"name": "judge", "command": ["true"], "timeout_seconds": 5}]);
    let kept = json!({"fixture_set": "mine", "graders": graders,
        "fixtures": [{"name": "far", "run_id": "r", "runpack": "elsewhere/runpack.zip"}]});
    recorded.0.file("gait.yaml", kept.to_string());
    assert_eq!(recorded.receipt(|_| ()).0, 0);
    let config = recorded.read("gait.yaml");
    assert_eq!(
        (&config["fixture_set"], &config["graders"]),
        (&json!("mine"), &graders)
    );
    let names: Vec<_> = config["fixtures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["far", "fx"]);
    recorded.0.file("gait.yaml", "rules: []");
    let (code, _) = recorded.0.json(&[
        "regress",
        "init",
        "--from",
        "s_chain.json",
        "--name",
        "other",
    ]);
    assert_eq!(code, 6);
    assert!(!recorded.0.path().join("fixtures/other").exists());
}

/// A journal as another program may have left it: so many events, none of them in a checkpoint.
fn journal_of(events: usize) -> Gait {
    let gait = Gait::new();
    let mut journal = json!({"record_type": "header", "header": {
        "schema_id": "gait.runpack.session_journal", "schema_version": "1.0.0",
        "created_at": "2026-11-21T09:08:38Z", "producer_version": "1.4.0", "session_id": "s1",
        "run_id": "run_s", "started_at": "2026-11-21T09:08:38Z", "events": [],
    }})
    .to_string();
    for sequence in 1..=events {
        let event = json!({"record_type": "event", "event": {
            "schema_id": "gait.runpack.session_event", "schema_version": "1.0.0",
            "created_at": "2026-11-21T09:08:38Z", "producer_version": "1.4.0", "session_id": "s1",
            "run_id": "run_s", "sequence": sequence, "tool_name": "tool.x", "verdict": "allow",
            "trace_id": format!("{sequence:024x}"), "policy_digest": "b".repeat(64),
            "intent_digest": "a".repeat(64),
        }});
        journal.push('\n');
        journal.push_str(&event.to_string());
    }
    gait.file("s.jsonl", journal + "\n");
    gait
}

const CHECKPOINT: [&str; 8] = [
    "run",
    "session",
    "checkpoint",
    "--journal",
    "s.jsonl",
    "--out",
    "cp1.zip",
    "--json",
];
const APPEND: [&str; 9] = [
    "run",
    "session",
    "append",
    "--journal",
    "s.jsonl",
    "--tool",
    "t",
    "--verdict",
    "allow",
];

#[test]
#[cfg(target_os = "linux")]
fn a_session_of_a_hundred_thousand_events_is_checkpointed_and_verified_in_the_memory_of_a_few() {
    const KIB: u32 = 24 << 10;
    let gait = journal_of(100_000);
    let (code, fields) = gait.json(&APPEND);
    assert_eq!(
        (code, &fields["error_code"]),
        (6, &json!("session_checkpoint_due"))
    );
    let verify = ["verify", "session-chain", "s_chain.json", "--json"];
    for args in [&CHECKPOINT[..], &verify] {
        let run = gait.within(KIB, args);
        assert_eq!(run.code, 0, "{args:?}: {}", run.stdout);
    }
    assert_eq!(gait.json(&APPEND).1["event"]["sequence"], 100_001);
}

#[test]
fn more_events_than_a_checkpoint_takes_are_refused_and_cost_nothing() {
    let gait = journal_of(100_001);
    let run = gait.run(&CHECKPOINT);
    assert_eq!(
        (run.code, &run.json()["error_code"]),
        (6, &json!("session_checkpoint_too_large"))
    );
    assert!(!gait.path().join("cp1.zip").exists());
    assert_eq!(gait.json(&APPEND).1["error_code"], "session_checkpoint_due");
}
