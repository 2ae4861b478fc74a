//! Fixtures that pass, drift and lie.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use worldcompute_durable::{Mode, write_atomic};
use worldcompute_fault::{Category, Fault};

use super::*;
use crate::runpack::{CaptureMode, Intent, Receipt, Recorder, Refs, ResultRecord, Run};

/// A folder with one fixture, which expects what its runpack does.
struct Bench {
    dir: TempDir,
    meta: Value,
    graders: Value,
}

fn put(path: &Path, value: &Value) {
    write_atomic(path, value.to_string().as_bytes(), Mode::Private).unwrap();
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let meta = json!({
            "name": "fx", "run_id": "run_x", "runpack": "runpack.zip",
            "expected_replay_exit_code": 0,
            "expected_tool_sequence": ["echo"], "expected_verdict_sequence": ["ok"],
        });
        let graders = json!([]);
        let bench = Self { dir, meta, graders };
        bench.record("runpack.zip", "echo", "2026-02-14T00:00:00Z");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A run of one call that read one document at `read_at`.
    fn record(&self, name: &str, tool: &str, read_at: &str) {
        let run = Run {
            run_id: "run_x".to_owned(),
            ..Run::default()
        };
        let refs = Refs {
            context_set_digest: "c".repeat(64),
            receipts: vec![Receipt {
                content_digest: "d".repeat(64),
                query_digest: "e".repeat(64),
                ref_id: "r1".to_owned(),
                retrieved_at: serde_json::from_value(json!(read_at)).unwrap(),
                ..Receipt::default()
            }],
            ..Refs::default()
        };
        let digest = "a".repeat(64);
        let intent = Intent {
            args_digest: digest.clone().into(),
            intent_id: "i1".into(),
            tool_name: tool.into(),
            ..Intent::default()
        };
        let result = ResultRecord {
            intent_id: "i1".into(),
            result_digest: digest.into(),
            status: "ok".into(),
            ..ResultRecord::default()
        };
        let now = serde_json::from_value(json!("2026-02-14T00:00:00Z")).unwrap();
        let mut recorder = Recorder::new(run, refs, CaptureMode::Reference, now).unwrap();
        recorder.intent(intent, None).unwrap();
        recorder.result(result, None).unwrap();
        recorder.finish(&self.path(name), None).unwrap();
    }

    fn run(&self, rules: Rules) -> Result<RegressResult, Fault> {
        put(&self.path("fixture.json"), &self.meta);
        let runpack = self.path("runpack.zip");
        let listed = json!({"name": "fx", "run_id": "run_x", "runpack": runpack});
        put(
            &self.path("gait.yaml"),
            &json!({"fixtures": [listed], "graders": self.graders}),
        );
        run(
            &self.path("gait.yaml"),
            &self.path("result.json"),
            None,
            rules,
        )
    }

    /// The reasons of a grader.
    fn reasons(&self, grader: &str, rules: Rules) -> (Status, Vec<String>) {
        let graders = self.run(rules).unwrap().graders;
        let name = format!("fx/{grader}");
        let found = graders.into_iter().find(|one| one.name == name).unwrap();
        (found.status, found.reason_codes)
    }

    fn refused(&self) -> Fault {
        let fault = self.run(Rules::default()).unwrap_err();
        assert_eq!(
            (fault.category(), fault.code()),
            (Category::InvalidInput, "invalid_input")
        );
        fault
    }
}

const ENFORCED: Rules = Rules {
    context_conformance: true,
    allow_context_runtime_drift: false,
    allow_nondeterministic: false,
};
const NONDETERMINISTIC: Rules = Rules {
    context_conformance: false,
    allow_context_runtime_drift: false,
    allow_nondeterministic: true,
};

#[test]
fn a_run_that_does_the_same_passes_every_grader() {
    let result = Bench::new().run(ENFORCED).unwrap();
    assert_eq!(
        (result.status, result.graders.len(), result.failed()),
        (Status::Pass, 5, 0)
    );
    assert!(
        result
            .graders
            .is_sorted_by_key(|grader| grader.name.clone())
    );
    assert_eq!(result.top_failure_reason(), None);
}

#[test]
fn another_tool_verdict_or_exit_fails_its_grader() {
    let mut bench = Bench::new();
    bench.meta["expected_tool_sequence"] = json!(["other"]);
    bench.meta["expected_verdict_sequence"] = json!(["block"]);
    bench.meta["expected_replay_exit_code"] = json!(2);
    let rules = Rules::default();
    let both = ["unexpected_tool_sequence", "unexpected_verdict_sequence"].map(str::to_owned);
    assert_eq!(
        bench.reasons("trajectory", rules),
        (Status::Fail, both.to_vec())
    );
    assert_eq!(bench.reasons("expected_exit_code", rules).0, Status::Fail);
    assert_eq!(
        bench.run(rules).unwrap().top_failure_reason(),
        Some("unexpected_exit_code")
    );
}

#[test]
fn a_difference_fails_unless_its_file_is_allowed_to_change() {
    let mut bench = Bench::new();
    bench.record("candidate.zip", "other", "2026-02-14T00:00:00Z");
    bench.meta["candidate_runpack"] = json!("candidate.zip");
    let rules = Rules::default();
    assert_eq!(
        bench.reasons("diff", rules),
        (Status::Fail, vec!["unexpected_diff".to_owned()])
    );
    bench.meta["diff_allow_changed_files"] = json!(["intents.jsonl"]);
    assert_eq!(bench.reasons("diff", rules).0, Status::Pass);
}

#[test]
fn what_was_read_at_another_time_is_drift_unless_that_is_allowed() {
    let mut bench = Bench::new();
    bench.record("candidate.zip", "echo", "2026-02-15T00:00:00Z");
    bench.meta["candidate_runpack"] = json!("candidate.zip");
    let blocked = vec!["context_runtime_drift_blocked".to_owned()];
    assert_eq!(
        bench.reasons("context_conformance", ENFORCED),
        (Status::Fail, blocked)
    );
    let allowed = Rules {
        allow_context_runtime_drift: true,
        ..ENFORCED
    };
    assert_eq!(
        bench.reasons("context_conformance", allowed).0,
        Status::Pass
    );
}

#[test]
fn a_candidate_that_is_not_there_or_damaged_fails_and_never_passes() {
    let mut bench = Bench::new();
    bench.meta["candidate_runpack"] = json!("none.zip");
    let missing = vec!["candidate_path_invalid".to_owned()];
    for grader in ["diff", "trajectory", "context_conformance"] {
        let found = bench.reasons(grader, ENFORCED);
        assert_eq!(found, (Status::Fail, missing.clone()), "{grader}");
    }
    write_atomic(&bench.path("none.zip"), b"PK", Mode::Private).unwrap();
    let result = bench.run(ENFORCED).unwrap();
    assert_eq!(result.failed(), 3, "{result:?}");
}

#[test]
fn a_fixture_that_does_not_fit_together_is_refused() {
    let changes: [(&str, Value); 9] = [
        ("name", json!("other")),
        ("run_id", json!("run_y")),
        ("runpack", json!("")),
        ("expected_replay_exit_code", json!(-1)),
        ("expected_verdict_sequence", json!(["zzz"])),
        ("context_conformance", json!("sometimes")),
        ("expected_context_set_digest", json!("abc")),
        ("unknown", json!(1)),
        ("expected_tool_sequence", json!("echo")),
    ];
    for (member, value) in changes {
        let mut bench = Bench::new();
        bench.meta[member] = value;
        bench.refused();
    }
    let bench = Bench::new();
    write_atomic(&bench.path("runpack.zip"), b"PK", Mode::Private).unwrap();
    assert_eq!(bench.refused().reason(), "fixture_unusable");
}

#[test]
fn a_configuration_of_another_shape_is_refused_and_nothing_is_written() {
    let bench = Bench::new();
    let config = bench.path("gait.yaml");
    for text in [
        "",
        "[]",
        "{\"fixtures\":[]}",
        "{\"rules\":[]}",
        "{\"schema_id\":\"x\"}",
        "fixtures: []",
    ] {
        write_atomic(&config, text.as_bytes(), Mode::Private).unwrap();
        let fault = run(&config, &bench.path("result.json"), None, Rules::default()).unwrap_err();
        assert_eq!(fault.category(), Category::InvalidInput, "{text}");
    }
    assert!(!bench.path("result.json").exists());
    let missing = run(
        &bench.path("none.yaml"),
        &bench.path("r"),
        None,
        Rules::default(),
    )
    .unwrap_err();
    assert_eq!(missing.reason(), "config_not_found");
}

/// A grader that is the shell script `script`.
fn judge(script: &str) -> Value {
    json!([{"name": "judge", "command": ["sh", "-c", script], "timeout_seconds": 20}])
}

#[test]
fn a_grader_that_is_a_program_runs_only_when_what_is_not_deterministic_is_allowed() {
    let mut bench = Bench::new();
    let trail = bench.path("trail");
    let script = format!("cat > {}; echo '{{\"status\":\"pass\"}}'", trail.display());
    bench.graders = judge(&script);
    assert_eq!(bench.refused().reason(), "nondeterministic_grader");
    assert!(!trail.exists() && !bench.path("result.json").exists());
    let result = bench.run(NONDETERMINISTIC).unwrap();
    assert_eq!((result.status, result.graders.len()), (Status::Pass, 5));
    let asked: Value = serde_json::from_slice(&std::fs::read(trail).unwrap()).unwrap();
    assert_eq!(asked["candidate_runpack"], json!(bench.path("runpack.zip")));
    let judged = result.graders.iter().find(|one| one.name == "fx/judge");
    assert_eq!(judged.unwrap().details["deterministic"], false);
}

#[test]
fn a_grader_that_fails_or_says_nothing_of_use_fails() {
    for (script, reason) in [
        (
            "echo '{\"status\":\"fail\",\"reason_codes\":[\"worse\"]}'",
            "worse",
        ),
        ("echo '{\"status\":\"pass\"}'; exit 1", "grader_error"),
        ("echo '{\"status\":\"perhaps\"}'", "grader_error"),
        ("echo '{\"status\":\"pass\",\"more\":1}'", "grader_error"),
        ("echo pass", "grader_error"),
        ("head -c 70000 /dev/zero", "grader_error"),
        ("true", "grader_error"),
    ] {
        let mut bench = Bench::new();
        bench.graders = judge(script);
        let expected = (Status::Fail, vec![reason.to_owned()]);
        assert_eq!(
            bench.reasons("judge", NONDETERMINISTIC),
            expected,
            "{script}"
        );
    }
}

#[test]
fn graders_that_cannot_be_told_apart_or_started_are_refused() {
    let named = |name: &str| json!({"name": name, "command": ["true"]});
    for graders in [
        json!([named("diff")]),
        json!([named("judge"), named("judge")]),
        json!([named("a/b")]),
        json!([named("")]),
        json!([{"name": "judge", "command": []}]),
        json!([{"name": "judge", "command": ["true"], "timeout_seconds": 0}]),
        json!([{"name": "judge", "command": ["true"], "timeout_seconds": 601}]),
        json!([{"name": "judge", "command": ["true"], "shell": true}]),
        Value::Array(
            (0..17)
                .map(|number| named(&format!("judge_{number}")))
                .collect(),
        ),
    ] {
        let mut bench = Bench::new();
        bench.graders = graders.clone();
        let fault = bench.run(NONDETERMINISTIC).unwrap_err();
        assert_eq!(fault.category(), Category::InvalidInput, "{graders}");
    }
}
