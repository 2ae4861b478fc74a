//! `gait mcp`, with real servers and clients.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Gait, Run};

const POLICY: &str = "\
default_verdict: require_approval
rules:
  - {name: read, priority: 1, effect: allow, match: {tool_names: [read]}}
  - {name: wipe, priority: 1, effect: block, match: {tool_names: [wipe]}}
";

/// A server that keeps every line it gets and answers each.
const SERVER: &str = r#"while IFS= read -r line; do printf '%s\n' "$line" >> received; printf '{"jsonrpc":"2.0","id":0,"result":"served"}\n'; done"#;

fn request(id: &Value, tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {"p": "secret-argument"}}})
}

fn session(gait: &Gait, lines: &str, server: &str) -> Run {
    let policy = gait.file("policy.yaml", POLICY);
    let args = [
        "mcp", "proxy", "--stdio", "--policy", &policy, "--", "/bin/sh", "-c", server,
    ];
    let mut child = gait
        .command(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A server that ends early makes the proxy end as well, with the client still writing.
    let _ = input.write_all(lines.as_bytes());
    drop(input);
    Run::of(child.wait_with_output().unwrap())
}

fn received(gait: &Gait) -> String {
    std::fs::read_to_string(gait.path().join("received")).unwrap_or_default()
}

#[test]
fn a_denied_call_never_reaches_the_server_and_its_client_is_told_why() {
    let gait = Gait::new();
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let lines = [
        list,
        request(&json!(2), "read"),
        request(&json!("3"), "wipe"),
        request(&json!(4), "other"),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let run = session(&gait, &text, SERVER);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(received(&gait).lines().count(), 2);
    assert!(received(&gait).contains("\"read\"") && !received(&gait).contains("wipe"));
    let answers: Vec<Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        answers
            .iter()
            .filter(|answer| answer["result"] == "served")
            .count(),
        2
    );
    let denied = |id: &Value| answers.iter().find(|answer| &answer["id"] == id).unwrap();
    let wipe = &denied(&json!("3"))["result"];
    assert_eq!(
        (&wipe["isError"], &wipe["_meta"]["gait"]["verdict"]),
        (&true.into(), &"block".into())
    );
    assert_eq!(
        denied(&json!(4))["result"]["_meta"]["gait"]["verdict"],
        "require_approval"
    );
    assert!(run.stderr.contains("1 allowed, 2 denied, 0 refused"));
    let traces = std::fs::read_dir(gait.path().join("gait-out/mcp-proxy/traces")).unwrap();
    assert_eq!(traces.count(), 3);
}

#[test]
fn what_client_and_server_could_read_differently_does_not_pass() {
    let hidden = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{"name":"wipe"}}"#;
    let escaped =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"w\u0069pe"}}"#;
    let batch = format!("[{}]", request(&json!(1), "wipe"));
    let notification = r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"wipe"}}"#;
    let odd_method = r#"{"jsonrpc":"2.0","id":1,"method":["tools/call"],"params":{"name":"wipe"}}"#;
    let odd_params = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["wipe"]}"#;
    let odd_arguments = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":"wipe"}}"#;
    let surrogate =
        r#"{"jsonrpc":"2.0","id":"\ud800","method":"tools/call","params":{"name":"wipe"}}"#;
    let two = format!("{} {}", json!({"id": 1}), request(&json!(1), "wipe"));
    let torn = "{\"method\":\"tools/call\",\"params\":{\"name\":\"wipe\"";
    for line in [
        hidden,
        escaped,
        &batch,
        notification,
        odd_method,
        odd_params,
        odd_arguments,
        surrogate,
        &two,
        torn,
        "wipe",
    ] {
        let gait = Gait::new();
        let run = session(&gait, &format!("{line}\n"), SERVER);
        assert_eq!((run.code, received(&gait).as_str()), (0, ""), "{line}");
    }
    let unfinished = session(
        &Gait::new(),
        &request(&json!(1), "read").to_string(),
        SERVER,
    );
    assert!(
        unfinished.stderr.contains("0 allowed"),
        "a line without its end was never sent"
    );
}

#[test]
fn a_call_whose_evidence_cannot_be_kept_is_not_passed_on() {
    let gait = Gait::new();
    gait.file("gait-out/mcp-proxy/traces", "in the way");
    let run = session(&gait, &format!("{}\n", request(&json!(1), "read")), SERVER);
    assert_eq!((run.code, received(&gait).as_str()), (0, ""));
    let answer: Value = serde_json::from_str(run.stdout.trim()).unwrap();
    assert_eq!(
        answer["result"]["_meta"]["gait"]["error_category"],
        "io_failure"
    );
}

#[test]
fn a_server_that_does_not_start_or_ends_early_is_told_apart() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    let missing = gait.run(&[
        "mcp",
        "proxy",
        "--stdio",
        "--policy",
        &policy,
        "--",
        "/nonexistent/server",
    ]);
    assert_eq!(missing.code, 7, "{missing:?}");
    assert!(missing.stdout.contains("cannot start /nonexistent/server"));
    let ended = session(&gait, "", "exit 3");
    assert_eq!(ended.code, 7, "{ended:?}");
    assert!(ended.stdout.contains("the MCP server ended"));
    let json = gait.run(&[
        "mcp", "proxy", "--stdio", "--policy", &policy, "--json", "--", "/bin/sh",
    ]);
    assert_eq!(json.code, 6);
}

#[test]
fn a_single_call_is_ruled_on_signed_and_exported() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    let call = gait.file(
        "call.json",
        r#"{"name": "wipe", "args": {"p": "secret-argument"}}"#,
    );
    let args = [
        "mcp",
        "proxy",
        "--policy",
        &policy,
        "--call",
        &call,
        "--trace-out",
        "t.json",
        "--export-log-out",
        "l",
        "--export-otel-out",
        "o",
    ];
    let (code, json) = gait.json(&args);
    assert_eq!(
        (code, &json["verdict"], &json["executed"]),
        (3, &"block".into(), &false.into())
    );
    let read = |name: &str| std::fs::read_to_string(gait.path().join(name)).unwrap();
    let trace: Value = serde_json::from_str(&read("t.json")).unwrap();
    assert_eq!(trace["correlation_id"], json["correlation_id"]);
    assert_eq!(trace["trace_id"], json["trace_id"]);
    let otel: Value = serde_json::from_str(&read("o")).unwrap();
    assert_eq!(otel["attributes"]["gait.verdict"], "block");
    for text in [read("t.json"), read("l"), read("o"), json.to_string()] {
        assert!(!text.contains("secret-argument"), "{text}");
    }
    let (code, json) = gait.json(&["mcp", "bridge", &policy, &call]);
    assert_eq!((code, &json["ok"]), (3, &true.into()));
}

#[test]
fn a_ruling_becomes_a_runpack_and_a_pack_that_verify_and_hold_no_arguments() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    let call = gait.file(
        "call.json",
        r#"{"name": "read", "args": {"p": "secret-argument"}}"#,
    );
    let base = [
        "mcp", "proxy", "--policy", &policy, "--call", &call, "--run-id", "run_x",
    ];
    let (code, json) = gait.json(
        &[
            &base[..],
            &["--runpack-out", "r.zip", "--pack-out", "p.zip"],
        ]
        .concat(),
    );
    assert_eq!(
        (code, &json["runpack_path"], &json["pack_path"]),
        (0, &"r.zip".into(), &"p.zip".into()),
        "{json}"
    );
    assert_eq!(gait.json(&["verify", "./r.zip"]).1["run_id"], "run_x");
    let (code, pack) = gait.json(&["pack", "verify", "p.zip"]);
    assert_eq!((code, &pack["pack_id"]), (0, &json["pack_id"]), "{pack}");
    let (_, alone) = gait.json(&[&base[..], &["--pack-out", "q.zip"]].concat());
    assert_eq!(alone["pack_path"], "q.zip");
    let left: Vec<_> = std::fs::read_dir(gait.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_str().unwrap().ends_with(".runpack")),
        "{left:?}"
    );
}

#[test]
fn a_key_that_cannot_be_used_is_refused_before_a_trace_is_written() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    let call = gait.file("call.json", r#"{"name": "read"}"#);
    let args = [
        "mcp",
        "proxy",
        "--policy",
        &policy,
        "--call",
        &call,
        "--trace-out",
        "t.json",
        "--key-mode",
        "prod",
    ];
    let (code, json) = gait.json(&args);
    assert_eq!(
        (code, &json["error_reason"], &json["executed"]),
        (6, &"key_source_required".into(), &false.into())
    );
    assert!(!gait.path().join("t.json").exists());
}

#[test]
fn a_server_is_verified_against_the_snapshot_of_the_policy() {
    let gait = Gait::new();
    gait.file("snapshot.json", r#"{"entries": [{"server_id": "github", "score": 0.5, "updated_at": "2026-02-05T00:00:00Z"}]}"#);
    let policy = gait.file("policy.yaml", "default_verdict: allow\nmcp_trust: {snapshot: snapshot.json, action: require_approval, required_risk_classes: [high], min_score: 0.4}\n");
    let known = gait.file("known.json", r#"{"server_id": "github"}"#);
    let (code, json) = gait.json(&["mcp", "verify", "--policy", &policy, "--server", &known]);
    assert_eq!((code, &json["status"]), (0, &"trusted".into()));
    let stranger = gait.file("stranger.json", r#"{"server_id": "evil"}"#);
    let (code, json) = gait.json(&["mcp", "verify", "--policy", &policy, "--server", &stranger]);
    assert_eq!((code, &json["verdict"]), (4, &"require_approval".into()));
    let plain = gait.file("plain.yaml", POLICY);
    let (code, json) = gait.json(&["mcp", "verify", "--policy", &plain, "--server", &known]);
    assert_eq!(
        (code, &json["error_reason"]),
        (6, &"mcp_trust_missing".into())
    );
}
