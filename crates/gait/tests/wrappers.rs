//! `gait trace|test|enforce -- <command>`, `gait init` and `gait check`.

mod support;

use serde_json::{Value, json};
use support::Gait;

const POLICY: &str = "\
default_verdict: require_approval
rules:
  - {name: read, priority: 1, effect: allow, match: {tool_names: [tool.read]}}
  - {name: exec, priority: 1, effect: block, match: {tool_names: [tool.exec]}}
";

fn intent(tool: &str) -> Value {
    json!({"tool_name": tool, "context": {"identity": "a", "workspace": "/w", "risk_class": "low"}})
}

#[test]
fn a_wrapped_program_is_summed_up_and_enforced() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    let file = gait.file("intent.json", intent("tool.exec").to_string());
    let script = asking(&policy, &file) + "; echo seen >&2";
    let (code, json) = gait.json_before(&["enforce"], &["/bin/sh", "-c", &script]);
    assert_eq!((code, &json["ok"]), (3, &false.into()), "{json}");
    assert_eq!(
        json["verdict_counts"],
        json!([{"count": 1, "verdict": "block"}])
    );
    assert_eq!(
        (&json["stderr"], json.get("error")),
        (&"seen\n".into(), None)
    );
    let (code, json) = gait.json_before(
        &["trace"],
        &["/bin/sh", "-c", &format!("{script}; exit 42")],
    );
    assert_eq!((code, &json["child_exit_code"]), (42, &42.into()));
    let (code, json) = gait.json_before(&["test"], &["/bin/sh", "-c", "true"]);
    assert_eq!(
        (code, &json["failure_reason"]),
        (6, &"missing_trace_reference".into())
    );
    let (code, json) = gait.json_before(
        &["test", "--timeout", "50ms"],
        &["/bin/sh", "-c", "sleep 1000"],
    );
    assert_eq!(
        (code, &json["failure_reason"], &json["timed_out"]),
        (1, &"child_timed_out".into(), &true.into())
    );
    let (code, json) = gait.json_before(&["test"], &["/nonexistent/program"]);
    assert_eq!(
        (code, &json["failure_reason"]),
        (1, &"child_start_failed".into())
    );
    let (code, json) = gait.json_before(&["test", "--timeout", "0s"], &["/bin/sh"]);
    assert_eq!((code, &json["error"]), (6, &"--timeout must be > 0".into()));
    assert_eq!(
        gait.json(&["test"]).1["error"],
        "expected child command after --"
    );
}

/// A script that asks the gate and names the trace that it got.
fn asking(policy: &str, intent: &str) -> String {
    let gait = env!("CARGO_BIN_EXE_gait");
    format!(
        "{gait} gate eval --policy {policy} --intent {intent} --trace-out t.json >asked; echo trace_path=t.json"
    )
}

#[test]
fn enforcement_takes_only_signed_decisions_of_its_own_run() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    let file = gait.file("intent.json", intent("tool.read").to_string());
    let asks = asking(&policy, &file);
    let enforce = |script: &str| gait.json_before(&["enforce"], &["/bin/sh", "-c", script]);
    let (code, json) = enforce(&asks);
    assert_eq!(code, 0, "{json}");
    let warned = json["warnings"].to_string();
    assert!(warned.contains("nobody verified who signed"), "{json}");
    let strip = format!("{asks}; sed -i '/\"signature\": {{/,/}}/d' t.json");
    for (script, why) in [
        ("echo trace_path=t.json", "not during this run"),
        (&*strip, "it carries no signature"),
    ] {
        let (code, json) = enforce(script);
        assert_eq!(
            (code, &json["error_code"]),
            (3, &"invalid_trace_artifact".into()),
            "{json}"
        );
        assert!(json["warnings"].to_string().contains(why), "{json}");
    }
    let trace = std::fs::read_to_string(gait.path().join("t.json")).unwrap();
    assert!(serde_json::from_str::<Value>(&trace).unwrap()["signature"].is_null());
}

#[test]
fn a_project_gets_a_policy_that_checks() {
    let gait = Gait::new();
    gait.file(".mcp.json", r#"{"mcpServers": {"github": {}}}"#);
    let (code, json) = gait.json(&["init"]);
    assert_eq!(
        (code, &json["policy_path"]),
        (0, &".gait.yaml".into()),
        "{json}"
    );
    assert_eq!(json["detection"]["tool_names"], json!(["mcp.github"]));
    let (code, json) = gait.json(&["check"]);
    assert_eq!((code, &json["ok"]), (0, &true.into()), "{json}");
    assert!(
        json["summary"]
            .as_str()
            .unwrap()
            .starts_with("policy ok: default_verdict=")
    );
    let (code, json) = gait.json(&["init"]);
    assert_eq!((code, &json["error_reason"]), (6, &"output_exists".into()));
    assert_eq!(json["contract"]["repo_policy_path"], ".gait.yaml");
    assert_eq!(gait.json(&["init", "--force", "--template", "low"]).0, 0);
    assert_eq!(gait.json(&["init", "--template", "none"]).0, 6);
    assert_eq!(
        gait.json(&["check", "--policy", "none.yaml"]).1["error_category"],
        "io_failure"
    );
}
