//! `gait hook`, called as an agent calls it.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Gait, Run};

const POLICY: &str = "\
default_verdict: require_approval
rules:
  - {name: read, priority: 1, effect: allow, match: {tool_names: [tool.read]}}
  - {name: exec, priority: 1, effect: block, match: {tool_names: [tool.exec]}}
";

fn hook(gait: &Gait, args: &[&str], input: &[u8]) -> Run {
    let mut child = gait
        .command(&[&["hook"], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A hook with a wrong command line does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    Run::of(child.wait_with_output().unwrap())
}

fn event(tool: &str, input: &Value) -> Value {
    json!({
        "session_id": "s1", "cwd": "/work", "hook_event_name": "PreToolUse", "transcript_path": "/t",
        "tool_name": tool, "tool_input": input,
    })
}

#[test]
fn a_hook_answers_in_the_agents_shape() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    for (tool, input, decision) in [
        ("Read", json!({"file_path": "/work/x"}), "allow"),
        (
            "Bash",
            json!({"command": "rm -rf / # secret-argument"}),
            "deny",
        ),
        (
            "Write",
            json!({"file_path": "/work/x", "content": "secret-argument"}),
            "ask",
        ),
    ] {
        let run = hook(
            &gait,
            &["--policy", &policy],
            event(tool, &input).to_string().as_bytes(),
        );
        let answer: Value = serde_json::from_str(&run.stdout).unwrap();
        let output = &answer["hookSpecificOutput"];
        assert_eq!(
            (run.code, &output["permissionDecision"]),
            (0, &decision.into()),
            "{tool}"
        );
        assert_eq!(output["hookEventName"], "PreToolUse");
        assert!(
            output["permissionDecisionReason"]
                .as_str()
                .unwrap()
                .starts_with("gait: ")
        );
        assert!(!run.stdout.contains("secret-argument"));
    }
    let traces = std::fs::read_dir(gait.path().join("gait-out/hook/traces")).unwrap();
    assert_eq!(traces.count(), 3);
}

#[test]
fn whatever_goes_wrong_in_a_hook_denies() {
    let sound = event("Read", &json!({"file_path": "/x"})).to_string();
    let without = |member: &str| {
        let mut event = event("Read", &json!({"file_path": "/x"}));
        event.as_object_mut().unwrap().remove(member);
        event.to_string()
    };
    let mut inputs = [
        "session_id",
        "cwd",
        "hook_event_name",
        "tool_name",
        "tool_input",
    ]
    .map(without)
    .to_vec();
    inputs.extend(
        [
            "",
            "{",
            "[]",
            "null",
            "\u{feff}{}",
            r#"{"hook_event_name":"PreToolUse","hook_event_name":"PreToolUse"}"#,
        ]
        .map(str::to_owned),
    );
    inputs.push(sound.replace("PreToolUse", "PostToolUse"));
    inputs.push(sound.replace("\"Read\"", "7"));
    inputs.push(format!("{}{sound}", " ".repeat(1 << 20)));
    for input in inputs {
        let gait = Gait::new();
        let policy = gait.file("policy.yaml", "default_verdict: allow\n");
        let run = hook(&gait, &["--policy", &policy], input.as_bytes());
        assert!(denies(&run), "{input:.80}: {run:?}");
    }
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", "default_verdict: allow\n");
    let broken = gait.file("broken.yaml", "default_verdict: [\n");
    gait.file("gait-out/hook/traces", "in the way");
    for args in [
        &[][..],
        &["--policy", "none.yaml"],
        &["--policy", &broken],
        &["--policy", &policy],
        &["--policy", &policy, "--frobnicate"],
        &["--policy", &policy, "stray"],
        &["--policy", &policy, "--key-mode", "prod"],
    ] {
        assert!(denies(&hook(&gait, args, sound.as_bytes())), "{args:?}");
    }
    assert!(denies(&hook(&gait, &["--policy", &policy], b"\xff\xfe")));
}

#[test]
fn a_hook_with_an_argument_that_is_no_text_denies() {
    use std::os::unix::ffi::OsStrExt;
    let gait = Gait::new();
    let output = gait
        .command(&["hook", "--policy"])
        .arg(std::ffi::OsStr::from_bytes(b"policy-\xff.yaml"))
        .output()
        .unwrap();
    assert!(denies(&Run::of(output)));
}

fn denies(run: &Run) -> bool {
    let answer: Value = serde_json::from_str(&run.stdout).unwrap();
    run.code == 0 && answer["hookSpecificOutput"]["permissionDecision"] == "deny"
}

#[test]
fn with_json_the_decision_is_in_the_output_all_the_same() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    for (tool, decision) in [("Read", "allow"), ("Bash", "deny"), ("Write", "ask")] {
        let input = event(tool, &json!({"file_path": "/work/x", "command": "ls"})).to_string();
        for json in ["--json", "--json=true", "-json"] {
            let run = hook(&gait, &["--policy", &policy, json], input.as_bytes());
            let answer = run.json();
            let output = &answer["hookSpecificOutput"];
            assert_eq!(
                (run.code, &output["permissionDecision"], &answer["ok"]),
                (0, &decision.into(), &true.into()),
                "{tool} {json}"
            );
            assert_eq!(output["hookEventName"], "PreToolUse");
            assert_eq!(answer["correlation_id"].as_str().map(str::len), Some(24));
        }
    }
}

#[test]
fn with_json_too_whatever_goes_wrong_denies_in_the_agents_shape() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", "default_verdict: allow\n");
    let sound = event("Read", &json!({"file_path": "/x"})).to_string();
    for input in [&b""[..], b"{", b"[]", b"null", b"\xff\xfe", b"garbage"] {
        let run = hook(&gait, &["--policy", &policy, "--json"], input);
        assert!(denies(&run), "{input:?} {run:?}");
    }
    for args in [
        &["--json"][..],
        &["--json", "--policy", &policy, "--frobnicate"],
        &["--frobnicate", "--json", "--policy", &policy],
        &["--json=perhaps", "--policy", &policy],
        &["--policy", &policy, "--json", "stray"],
        &["--policy", "none.yaml", "--json"],
        &["--policy", &policy, "--json", "--key-mode", "prod"],
        &["--policy", &policy, "--json", "--policy"],
    ] {
        let run = hook(&gait, args, sound.as_bytes());
        assert!(denies(&run), "{args:?} {run:?}");
        assert_ne!(run.json()["ok"], true, "{args:?} {run:?}");
        let reason = &run.json()["hookSpecificOutput"]["permissionDecisionReason"];
        assert!(reason.as_str().unwrap().starts_with("gait: "), "{args:?}");
    }
    assert!(!gait.path().join("gait-out/hook/traces").exists());
}

#[test]
fn a_hook_that_cannot_answer_blocks() {
    let gait = Gait::new();
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else {
        println!("skipped: no /dev/full on this machine");
        return;
    };
    let status = gait.command(&["hook"]).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(2));
}
