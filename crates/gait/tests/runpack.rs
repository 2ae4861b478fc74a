//! Runpacks and regressions, as a caller of the program sees them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fmt::Write as _;

use serde_json::{Value, json};
use support::{Gait, Run};
use worldcompute_proof::SigningKey;

fn run_of(id: &str) -> Value {
    json!({"run_id": id, "created_at": "2026-02-14T00:00:00Z", "timeline": []})
}

/// A run of one tool call with raw arguments.
fn recorded(gait: &Gait, id: &str, tool: &str, args: &Value) -> String {
    let input = json!({
        "run": run_of(id),
        "intents": [{"intent_id": "i1", "tool_name": tool, "args": args}],
        "results": [{"intent_id": "i1", "status": "ok", "result": {"answer": "planted-secret"}}],
        "refs": {"receipts": []},
        "capture_mode": "raw",
    });
    let input = gait.file(&format!("{id}.json"), input.to_string());
    let (code, fields) = gait.json(&["run", "record", "--input", &input]);
    assert_eq!(code, 0, "{fields}");
    format!("gait-out/runpack_{id}.zip")
}

fn key_files(gait: &Gait) -> (String, String) {
    let key = SigningKey::from_seed([7; 32]);
    let private = gait.file("private.key", &*key.file_text());
    let public = gait.file("public.key", key.verifying_key().to_base64());
    (private, public)
}

#[test]
fn a_signed_demo_verifies_strictly_with_its_key_and_fails_without_signatures() {
    let gait = Gait::new();
    let (private, public) = key_files(&gait);
    let input = json!({"run": run_of("run_s"), "intents": [], "results": [], "refs": {}});
    let input = gait.file("input.json", input.to_string());
    let record = [
        "run",
        "record",
        "--input",
        &input,
        "--private-key",
        &private,
    ];
    let (code, fields) = gait.json(&record);
    assert_eq!((code, &fields["signature_status"]), (0, &json!("signed")));
    let strict = [
        "verify",
        "run_s",
        "--profile",
        "strict",
        "--public-key",
        &public,
    ];
    let (code, fields) = gait.json(&strict);
    assert_eq!((code, &fields["signature_status"]), (0, &json!("verified")));
    let (code, fields) = gait.json(&["verify", "run_s", "--profile", "strict"]);
    assert_eq!(
        (code, &fields["error_category"]),
        (6, &json!("invalid_input"))
    );
    gait.json(&["run", "record", "--input", &input]);
    let (code, fields) = gait.json(&["verify", "run_s", "--public-key", &public]);
    assert_eq!((code, &fields["ok"]), (2, &json!(false)));
    assert_eq!(
        fields["signature_errors"],
        json!(["manifest has no signatures"])
    );
}

#[test]
fn what_is_damaged_failed_verification_and_what_is_not_there_is_a_mistake_of_the_caller() {
    let gait = Gait::new();
    gait.json(&["demo"]);
    let whole = std::fs::read(gait.path().join("gait-out/runpack_run_demo.zip")).unwrap();
    for (name, bytes) in [
        ("empty.zip", &[][..]),
        ("cut.zip", &whole[..whole.len() / 2]),
        ("text.zip", b"not a zip"),
    ] {
        gait.file(name, bytes);
        let (code, fields) = gait.json(&["verify", name]);
        assert_eq!(
            (code, &fields["error_category"]),
            (2, &json!("verification_failed")),
            "{name}"
        );
    }
    for missing in ["./none.zip", "run_none"] {
        let (code, fields) = gait.json(&["verify", missing]);
        assert_eq!(
            (code, &fields["error_code"]),
            (6, &json!("invalid_input")),
            "{missing}"
        );
        assert_eq!(fields["error_reason"], "runpack_not_found");
    }
    let (code, fields) = gait.json(&["run", "record", "--input", "none.json"]);
    assert_eq!((code, &fields["error_category"]), (1, &json!("io_failure")));
}

#[test]
fn real_tools_run_only_with_every_consent() {
    let gait = Gait::new().env("GAIT_ALLOW_REAL_REPLAY", "1");
    let args = json!({"path": "made/by-replay.txt", "content": "x"});
    let pack = recorded(&gait, "run_real", "file.write", &args);
    let made = gait.path().join("made/by-replay.txt");
    let consents = [
        "--real-tools",
        "--unsafe-real-tools",
        "--allow-tools=file.write",
        "--unsafe-real-tools-env=GAIT_ALLOW_REAL_REPLAY",
    ];
    for missing in [1, 2] {
        let some = consents
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != missing);
        let args: Vec<&str> = ["run", "replay", &pack]
            .into_iter()
            .chain(some.map(|(_, consent)| *consent))
            .collect();
        let (code, fields) = gait.json(&args);
        assert_eq!(
            (code, &fields["error_code"]),
            (8, &json!("unsafe_operation")),
            "{args:?}"
        );
    }
    let other = [
        "run",
        "replay",
        &pack,
        "--real-tools",
        "--unsafe-real-tools",
        "--allow-tools=file.write",
        "--unsafe-real-tools-env=UNSET",
    ];
    assert_eq!(gait.json(&other).0, 8);
    assert_eq!(
        gait.json(&[
            "run",
            "replay",
            &pack,
            "--unsafe-real-tools",
            "--allow-tools=file.write"
        ])
        .0,
        0
    );
    assert!(!made.exists(), "a tool ran without every consent");
    let args: Vec<&str> = ["run", "replay", &pack]
        .into_iter()
        .chain(consents)
        .collect();
    let (code, fields) = gait.json(&args);
    assert_eq!(
        (code, &fields["steps"][0]["execution"]),
        (0, &json!("executed"))
    );
    assert_eq!(std::fs::read(&made).unwrap(), b"x");
}

#[test]
fn a_command_that_is_replayed_is_bounded_in_output_and_its_children_end_with_it() {
    let gait = Gait::new()
        .env("GAIT_ALLOW_REAL_REPLAY", "1")
        .env("PATH", "/usr/bin:/bin");
    let args = json!({"command": "head -c 200000 /dev/zero; exit 0"});
    let pack = recorded(&gait, "run_loud", "shell.exec", &args);
    let replay = [
        "run",
        "replay",
        &pack,
        "--real-tools",
        "--unsafe-real-tools",
        "--allow-tools",
        "shell.exec",
    ];
    let (code, fields) = gait.json(&replay);
    assert_eq!((code, &fields["steps"][0]["status"]), (0, &json!("ok")));
    let kept = worldcompute_proof::Sha256::of(vec![0; 64 << 10]).to_string();
    assert_eq!(fields["steps"][0]["result_digest"], json!(kept));
    let pack = recorded(
        &gait,
        "run_bad",
        "shell.exec",
        &json!({"command": "exit 3"}),
    );
    let replay = [
        "run",
        "replay",
        &pack,
        "--real-tools",
        "--unsafe-real-tools",
        "--allow-tools",
        "shell.exec",
    ];
    assert_eq!(gait.json(&replay).1["steps"][0]["status"], "error");
}

#[test]
fn a_child_that_left_the_group_of_its_command_holds_nobody_up() {
    let gait = Gait::new()
        .env("GAIT_ALLOW_REAL_REPLAY", "1")
        .env("PATH", "/usr/bin:/bin");
    let command = "setsid sh -c 'echo $$ > pid; exec sleep 1000' & exit 0";
    let pack = recorded(&gait, "run", "shell.exec", &json!({ "command": command }));
    let replay = "--real-tools --unsafe-real-tools --allow-tools shell.exec";
    let replay = replay.split(' ');
    let words: Vec<_> = ["run", "replay", &pack].into_iter().chain(replay).collect();
    let (_, answer) = gait.json(&words);
    let pid = std::fs::read_to_string(gait.path().join("pid")).unwrap();
    let ended = std::process::Command::new("kill").arg(pid.trim()).status();
    assert!(ended.unwrap().success(), "it had ended by itself");
    assert_eq!(answer["steps"][0]["status"], "error", "{answer}");
}

#[test]
fn what_a_run_was_given_and_returned_shows_in_no_output() {
    let gait = Gait::new();
    let pack = recorded(
        &gait,
        "run_raw",
        "echo",
        &json!({"message": "planted-secret"}),
    );
    let other = recorded(
        &gait,
        "run_raw2",
        "echo",
        &json!({"message": "planted-secret-2"}),
    );
    for args in [
        vec!["verify", pack.as_str()],
        vec!["run", "inspect", &pack],
        vec!["run", "replay", &pack],
        vec!["run", "receipt", &pack],
        vec!["run", "diff", &pack, &other],
        vec!["regress", "bootstrap", "--from", &pack],
    ] {
        for json in [false, true] {
            let extra = json.then_some("--json");
            let args: Vec<&str> = args.iter().copied().chain(extra).collect();
            let run = gait.run(&args);
            assert!(!run.stdout.contains("planted-secret"), "{args:?}");
            assert!(!run.stderr.contains("planted-secret"), "{args:?}");
        }
    }
}

#[test]
fn a_fixture_passes_until_the_run_does_something_else() {
    let gait = Gait::new();
    gait.json(&["demo"]);
    let (code, fields) = gait.json(&["regress", "init", "--from", "run_demo"]);
    assert_eq!((code, &fields["fixture_name"]), (0, &json!("run_demo")));
    let (code, fields) = gait.json(&["regress", "run", "--junit", "j.xml"]);
    assert_eq!((code, &fields["graders"]), (0, &json!(4)));
    let first = std::fs::read(gait.path().join("regress_result.json")).unwrap();
    gait.json(&["regress", "run"]);
    assert_eq!(
        std::fs::read(gait.path().join("regress_result.json")).unwrap(),
        first
    );
    let other = recorded(&gait, "run_demo", "other", &json!({}));
    let candidate = gait.path().join(other);
    let meta = gait.path().join("fixtures/run_demo/fixture.json");
    let mut expected: Value = serde_json::from_slice(&std::fs::read(&meta).unwrap()).unwrap();
    expected["candidate_runpack"] = json!(candidate);
    gait.file("fixtures/run_demo/fixture.json", expected.to_string());
    let (code, fields) = gait.json(&["regress", "run", "--junit", "j.xml"]);
    assert_eq!(
        (code, &fields["status"], &fields["failed"]),
        (5, &json!("fail"), &json!(2))
    );
    let junit = std::fs::read_to_string(gait.path().join("j.xml")).unwrap();
    assert!(
        junit.contains("failures=\"2\"") && junit.contains("unexpected_tool_sequence"),
        "{junit}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_hundred_thousand_intents_fit_into_the_memory_of_a_few() {
    const RECORDS: usize = 100_000;
    const KIB: u32 = 24 << 10;
    let gait = Gait::new();
    let (mut intents, mut results) = (String::new(), String::new());
    let digest = "a".repeat(64);
    for number in 0..RECORDS {
        let comma = if number == 0 { "" } else { "," };
        write!(intents, "{comma}{{\"intent_id\":\"intent_{number}\",\"tool_name\":\"echo\",\"args_digest\":\"{digest}\"}}").unwrap();
        write!(results, "{comma}{{\"intent_id\":\"intent_{number}\",\"status\":\"ok\",\"result_digest\":\"{digest}\"}}").unwrap();
    }
    let input = format!(
        "{{\"intents\":[{intents}],\"results\":[{results}],\"run\":{},\"refs\":{{}}}}",
        run_of("run_big")
    );
    let input = gait.file("big.json", input);
    let record = ["run", "record", "--input", &input, "--json"];
    let replay = ["run", "replay", "run_big", "--json"];
    let inspect = ["run", "inspect", "run_big", "--json"];
    for args in [
        &record[..],
        &["verify", "run_big", "--json"],
        &replay,
        &inspect,
    ] {
        let run = gait.within(KIB, args);
        assert_eq!(run.code, 0, "{args:?}: {}", run.stderr);
    }
    let steps = Run::of(gait.command(&replay).output().unwrap()).json();
    assert_eq!(steps["steps"].as_array().unwrap().len(), RECORDS);
    let starved = gait.within(2 << 10, &replay);
    assert_ne!(starved.code, 0, "the limit does not limit");
}

#[test]
fn a_run_in_which_nothing_was_called_is_recorded_with_a_warning() {
    let gait = Gait::new();
    let warnings = |input: Value| {
        let path = gait.file("run.json", input.to_string());
        let (code, json) = gait.json(&["run", "record", "--input", &path]);
        assert_eq!(code, 0, "{json}");
        json["warnings"].to_string()
    };
    let run = json!({"run_id": "run_x"});
    let result = json!({"intent_id": "i", "status": "ok", "result": {}});
    let empty = "no intents and no results";
    assert!(warnings(json!({"run": run})).contains(empty));
    assert!(warnings(json!({"run": run, "intents": [], "results": []})).contains(empty));
    assert!(!warnings(json!({"run": run, "results": [result]})).contains(empty));
}
