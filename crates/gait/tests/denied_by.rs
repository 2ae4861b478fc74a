//! Whoever is denied is told by which rule and clause, whichever way he asked.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::serving::Serving;
use support::{Gait, Run};

/// Allows writing below `/work` only.
const POLICY: &str = "default_verdict: block
rules:
  - name: writes
    effect: allow
    match: {tool_names: [write, tool.write]}
    endpoint: {path_allowlist: [/work/**]}
";
const IN_WORDS: &str =
    "endpoint.path_allowlist says block in rule writes (endpoint_path_not_allowlisted)";

fn place(policy: &str) -> Gait {
    let gait = Gait::new();
    gait.file("policy.yaml", policy);
    gait.file("intent.json", intent().to_string());
    gait.file("call.json", call().to_string());
    gait
}

fn intent() -> Value {
    json!({
        "tool_name": "write", "args": {}, "targets": [{"kind": "path", "value": "/etc/x", "operation": "write"}],
        "context": {"identity": "a", "workspace": "/w", "risk_class": "high"},
    })
}

fn call() -> Value {
    json!({"name": "write", "args": {}, "targets": [{"kind": "path", "value": "/etc/x", "operation": "write"}]})
}

fn fed(mut command: Command, input: &str) -> Run {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.stderr(Stdio::piped()).spawn().unwrap();
    // The other end may be closed before everything is read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Run::of(child.wait_with_output().unwrap())
}

fn is_named(answer: &Value) {
    let cause = &answer["denied_by"][0];
    assert_eq!(cause["rule"], "writes", "{answer}");
    assert_eq!(cause["clause"], "endpoint.path_allowlist");
    assert_eq!(cause["reason_code"], "endpoint_path_not_allowlisted");
    assert_eq!(cause["verdict"], "block");
}

#[test]
fn a_command_names_the_rule_and_the_clause_that_deny() {
    let gait = place(POLICY);
    let ask = ["--policy", "policy.yaml"];
    for args in [
        [&["gate", "eval", "--intent", "intent.json"][..], &ask].concat(),
        [&["mcp", "proxy", "--call", "call.json"][..], &ask].concat(),
        vec!["policy", "test", "policy.yaml", "intent.json"],
    ] {
        let (code, answer) = gait.json(&args);
        assert_eq!(code, 3, "{answer}");
        is_named(&answer);
        let shown = gait.run(&args).stdout;
        assert!(shown.contains(&format!("  because {IN_WORDS}")), "{shown}");
    }
}

#[test]
fn a_service_names_the_rule_and_the_clause_that_deny() {
    let gait = place(POLICY);
    let args = ["gate", "serve", "--policy", "policy.yaml", "--json"];
    let serving = Serving::start(gait.command(&args)).unwrap();
    let ask = |body: Value| -> Value {
        let (_, answer) = serving.post("/v1/eval", "", &body.to_string());
        serde_json::from_str(&answer).unwrap()
    };
    let answer = ask(json!({"intent": intent()}));
    is_named(&answer);
    assert_eq!(answer.get("why_not"), None);
    let explained = ask(json!({"intent": intent(), "why_not": true}));
    assert_eq!(explained["why_not"]["change"][0]["value"], "/etc/x");

    let listen = ["--listen", "127.0.0.1:0", "--json"];
    let args = [&["mcp", "serve", "--policy", "policy.yaml"][..], &listen].concat();
    let serving = Serving::start(gait.command(&args)).unwrap();
    let (_, answer) = serving.post("/v1/evaluate", "", &json!({"call": call()}).to_string());
    is_named(&serde_json::from_str(&answer).unwrap());
}

#[test]
fn an_agent_is_told_the_rule_and_the_clause_that_deny() {
    let gait = place(POLICY);
    let event = json!({
        "session_id": "s1", "cwd": "/work", "hook_event_name": "PreToolUse", "tool_name": "Write",
        "tool_input": {"file_path": "/etc/x", "content": "secret-argument"},
    });
    let hook = gait.command(&["hook", "--policy", "policy.yaml"]);
    let answer: Value = serde_json::from_str(&fed(hook, &event.to_string()).stdout).unwrap();
    let reason = &answer["hookSpecificOutput"]["permissionDecisionReason"];
    assert!(reason.as_str().unwrap().contains(IN_WORDS), "{reason}");

    let request = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "write", "arguments": {"path": "/etc/x"}},
    });
    let args = [
        "mcp",
        "proxy",
        "--stdio",
        "--policy",
        "policy.yaml",
        "--",
        "cat",
    ];
    let told = fed(gait.command(&args), &format!("{request}\n")).stdout;
    let told: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    is_named(&told["result"]["_meta"]["gait"]);
    let text = &told["result"]["content"][0]["text"];
    assert!(text.as_str().unwrap().contains(IN_WORDS), "{text}");
}

/// What the gate says to the intent under a policy that allows it, but for `clauses`.
fn denied(gait: &Gait, clauses: &str, flags: &[&str]) -> Value {
    let rule = "{name: ruled, effect: allow, match: {tool_names: [write]}";
    gait.file("policy.yaml", format!("rules:\n  - {rule}{clauses}}}\n"));
    let args = [
        "gate",
        "eval",
        "--policy",
        "policy.yaml",
        "--intent",
        "intent.json",
    ];
    let (code, mut answer) = gait.json(&[&args, flags].concat());
    assert_eq!(code, 3, "{answer}");
    answer["denied_by"].take()
}

fn without_empty(mut value: Value) -> Value {
    let members = value.as_object_mut().unwrap();
    members.retain(|_, value| value != "");
    value
}

#[test]
fn what_denies_beside_the_rules_effect_is_named_by_its_clause() {
    let gait = place(POLICY);
    gait.json(&[
        "kill-switch",
        "add",
        "--tool-name",
        "write",
        "--state",
        "stop.json",
    ]);
    let cause = |clause: &str, rule: &str, code: &str| {
        let cause =
            json!({"clause": clause, "reason_code": code, "rule": rule, "verdict": "block"});
        json!([without_empty(cause)])
    };
    let limit = ", rate_limit: {requests: 1, window: hour, scope: tool}";
    for (clauses, flags, expected) in [
        (
            ", require_broker_credential: true",
            &[][..],
            cause(
                "require_broker_credential",
                "ruled",
                "broker_credential_required",
            ),
        ),
        (
            "",
            &["--kill-switch-state", "none.json"],
            cause("kill_switch", "", "kill_switch_state_unavailable"),
        ),
    ] {
        assert_eq!(denied(&gait, clauses, flags), expected);
    }
    let stopped = denied(&gait, "", &["--kill-switch-state", "stop.json"]);
    assert_eq!(stopped[0]["clause"], "kill_switch");
    gait.file(
        "policy.yaml",
        format!("rules:\n  - {{name: ruled, effect: allow{limit}}}\n"),
    );
    let args = [
        "gate",
        "eval",
        "--policy",
        "policy.yaml",
        "--intent",
        "intent.json",
    ];
    assert_eq!(gait.json(&args).0, 0);
    assert_eq!(
        denied(&gait, limit, &[]),
        cause("rate_limit", "ruled", "rate_limit_exceeded")
    );
}

#[test]
fn a_simulation_names_what_would_have_denied() {
    let gait = place(POLICY);
    let args = [
        "gate",
        "eval",
        "--policy",
        "policy.yaml",
        "--intent",
        "intent.json",
        "--simulate",
    ];
    let (code, answer) = gait.json(&args);
    assert_eq!((code, &answer["verdict"]), (0, &"allow".into()));
    is_named(&answer);
}
