use std::sync::Arc;

use serde_json::{Value, json};
use worldcompute_fault::Result;
use worldcompute_proof::SigningKey;

use super::*;
use crate::clock::SystemClock;
use crate::gate::{Gate, Profile};
use crate::policy::Policy;
use crate::verdict::Verdict;

fn boundary(policy: &str, profile: Profile) -> Boundary {
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    let gate = Gate::new(
        policy,
        SigningKey::generate().unwrap(),
        SystemClock::shared(),
    );
    Boundary::new(gate, Arc::new(SystemClock), profile)
}

fn decode(adapter: Adapter, payload: &Value) -> Result<ToolCall> {
    adapter.decode(payload.to_string().as_bytes())
}

fn call(payload: &Value) -> ToolCall {
    decode(Adapter::Mcp, payload).unwrap()
}

impl Boundary {
    /// [`Boundary::decide`] with the trace in a directory that is gone afterwards.
    fn rule(&self, call: &ToolCall, run: &str, correlation_id: &str) -> Result<Ruling> {
        let dir = tempfile::tempdir().unwrap();
        self.decide(call, run, correlation_id, |_| dir.path().join("trace.json"))
    }
}

const ALLOW: &str = "default_verdict: allow\n";

#[test]
fn every_adapter_reads_the_same_call() {
    let args = json!({"q": "x", "n": null});
    let own = call(&json!({"name": "tool.search", "args": args}))
        .intent(false)
        .unwrap();
    for (adapter, payload) in [
        (
            Adapter::OpenAi,
            json!({"type": "function", "function": {"name": "tool.search", "arguments": args}}),
        ),
        (
            Adapter::OpenAi,
            json!({"function": {"name": "tool.search", "arguments": args.to_string()}}),
        ),
        (
            Adapter::Anthropic,
            json!({"type": "tool_use", "name": "tool.search", "input": args}),
        ),
        (
            Adapter::LangChain,
            json!({"tool": "tool.search", "tool_input": args}),
        ),
        (
            Adapter::LangChain,
            json!({"tool": "tool.search", "tool_input": args.to_string()}),
        ),
        (
            Adapter::ClaudeCode,
            json!({"tool_name": "tool.search", "tool_input": args}),
        ),
    ] {
        let intent = decode(adapter, &payload).unwrap().intent(false).unwrap();
        assert_eq!(intent.digest(), own.digest(), "{}", adapter.as_str());
    }
}

#[test]
fn the_agents_own_tools_get_names_and_targets_that_policies_know() {
    for (tool, input, name, kind, operation) in [
        (
            "Read",
            json!({"file_path": "/x"}),
            "tool.read",
            "path",
            "read",
        ),
        (
            "WebFetch",
            json!({"url": "https://x.example"}),
            "tool.read",
            "url",
            "read",
        ),
        (
            "Edit",
            json!({"file_path": "/x"}),
            "tool.write",
            "path",
            "write",
        ),
        (
            "Notebook_Edit",
            json!({"path": "/x"}),
            "tool.write",
            "path",
            "write",
        ),
        (
            "Bash",
            json!({"command": "ls"}),
            "tool.exec",
            "other",
            "execute",
        ),
        (
            "Task",
            json!({"prompt": "do"}),
            "tool.delegate",
            "other",
            "delegate",
        ),
    ] {
        let call = decode(
            Adapter::ClaudeCode,
            &json!({"tool_name": tool, "tool_input": input}),
        )
        .unwrap();
        let [target] = call.targets.as_slice() else {
            panic!("{tool}")
        };
        assert_eq!(
            (
                call.name.as_str(),
                target.kind.as_str(),
                target.operation.as_str()
            ),
            (name, kind, operation)
        );
    }
    let other = decode(Adapter::ClaudeCode, &json!({"tool_name": "My Tool-2"})).unwrap();
    assert_eq!(other.name, "tool.my_tool_2");
    let dotted = decode(Adapter::ClaudeCode, &json!({"tool_name": "MCP.Github"})).unwrap();
    assert_eq!(dotted.name, "mcp.github");
}

#[test]
fn what_is_no_call_is_refused() {
    for (adapter, payload) in [
        (Adapter::Mcp, "[]"),
        (Adapter::Mcp, "{"),
        (Adapter::Mcp, ""),
        (Adapter::Mcp, r#"{"name":"a","name":"b"}"#),
        (Adapter::Mcp, r#"{"name":"a"} {}"#),
        (Adapter::Mcp, r#"{"name":7}"#),
        (Adapter::Mcp, r#"{"name":"a","args":[]}"#),
        (Adapter::OpenAi, r#"{"name":"a"}"#),
        (
            Adapter::OpenAi,
            r#"{"function":{"name":"a","arguments":"[1]"}}"#,
        ),
        (
            Adapter::OpenAi,
            r#"{"function":{"name":"a","arguments":"{"}}"#,
        ),
        (Adapter::OpenAi, r#"{"function":{"name":["a"]}}"#),
        (Adapter::Anthropic, r#"{"name":"a","input":7}"#),
        (Adapter::LangChain, r#"{"tool":{},"tool_input":{}}"#),
        (Adapter::ClaudeCode, r#"{"tool_input":{}}"#),
        (
            Adapter::ClaudeCode,
            r#"{"tool_name":"Bash","tool_input":"rm"}"#,
        ),
        (
            Adapter::ClaudeCode,
            r#"{"tool_name":"Bash","session_id":7}"#,
        ),
    ] {
        let fault = adapter.decode(payload.as_bytes()).map(drop).unwrap_err();
        assert_eq!(fault.code(), "invalid_input", "{payload}");
    }
    let padded = format!("{}{{\"name\":\"a\"}}", " ".repeat(MAX_PAYLOAD));
    assert!(Adapter::Mcp.decode(padded.as_bytes()).is_err());
    let fitting = format!("{}{{\"name\":\"a\"}}", " ".repeat(MAX_PAYLOAD - 12));
    assert!(Adapter::Mcp.decode(fitting.as_bytes()).is_ok());
    assert!(Adapter::parse("cobol").is_err());
    assert!(call(&json!({})).intent(false).is_err());
}

#[test]
fn context_is_assumed_in_the_standard_profile_and_required_in_production() {
    let bare = call(&json!({"name": "tool.read"}));
    let ruling = boundary(ALLOW, Profile::Standard)
        .rule(&bare, "", "c")
        .unwrap();
    assert_eq!(ruling.intent.context().identity, "mcp-proxy");
    assert_eq!(ruling.intent.context().risk_class, "high");
    assert_eq!(ruling.warnings.len(), 1);
    assert!(ruling.run_id.starts_with("run_mcp_"));
    let strict = boundary(ALLOW, Profile::OssProd);
    let context = json!({"identity": "a", "workspace": "/w", "session_id": "s"});
    for missing in ["identity", "workspace", "session_id"] {
        let mut context = context.clone();
        context.as_object_mut().unwrap().remove(missing);
        let lacking = call(&json!({"name": "tool.read", "context": context}));
        let fault = strict.rule(&lacking, "", "c").map(drop).unwrap_err();
        assert!(fault.message().contains(missing), "{fault}");
    }
    let ruling = strict
        .rule(
            &call(&json!({"name": "tool.read", "context": context})),
            "my run",
            "c",
        )
        .unwrap();
    assert_eq!(
        (ruling.run_id.as_str(), ruling.warnings.len()),
        ("run_my_run", 0)
    );
}

#[test]
fn production_asks_for_whole_oauth_evidence() {
    let evidence = json!({
        "issuer": "i", "audience": ["a"], "subject": "s", "client_id": "c", "token_type": "Bearer",
        "scopes": ["x"], "redirect_uri": "https://r.example", "evidence_ref": "e", "auth_time": "2026-02-05T00:00:00Z",
        "dcr_client_id": "d", "token_binding": "b",
    });
    let with = |mode: &str, evidence: &Value| {
        call(&json!({"name": "tool.read", "context": {
            "identity": "a", "workspace": "/w", "session_id": "s", "auth_mode": mode, "oauth_evidence": evidence,
        }}))
    };
    let strict = boundary(ALLOW, Profile::OssProd);
    strict
        .rule(&with("oauth_dcr", &evidence), "", "c")
        .map(drop)
        .unwrap();
    for field in evidence.as_object().unwrap().keys() {
        let mut lacking = evidence.clone();
        lacking.as_object_mut().unwrap().remove(field);
        let fault = strict
            .rule(&with("oauth_dcr", &lacking), "", "c")
            .map(drop)
            .unwrap_err();
        assert!(fault.message().contains(field), "{fault}");
    }
    assert!(strict.rule(&with("oauth", &Value::Null), "", "c").is_err());
    assert!(strict.rule(&with("magic", &evidence), "", "c").is_err());
    boundary(ALLOW, Profile::Standard)
        .rule(&with("oauth", &Value::Null), "", "c")
        .map(drop)
        .unwrap();
}

#[test]
fn a_server_that_is_not_trusted_is_blocked() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = dir.path().join("snapshot.json");
    let policy = format!(
        "default_verdict: allow\nmcp_trust:\n  snapshot: {}\n  action: block\n  required_risk_classes: [high]\n",
        snapshot.display()
    );
    let boundary = boundary(&policy, Profile::Standard);
    let rule = |server: &Value| {
        let call = call(&json!({"name": "tool.read", "server": server}));
        let ruling = boundary.rule(&call, "", "c").unwrap();
        (
            ruling.decision.verdict(),
            ruling.decision.reason_codes().join(","),
        )
    };
    let known = json!({"server_id": "github"});
    assert_eq!(
        rule(&known).0,
        Verdict::Block,
        "without a snapshot nobody is trusted"
    );
    let entries = json!({"entries": [{"server_id": "github", "score": 0.9, "updated_at": "2026-02-05T00:00:00Z"}]});
    worldcompute_durable::write_atomic(
        &snapshot,
        entries.to_string().as_bytes(),
        worldcompute_durable::Mode::Private,
    )
    .unwrap();
    assert_eq!(rule(&known).0, Verdict::Allow);
    assert_eq!(rule(&json!({"server_id": "evil"})).0, Verdict::Block);
    let (verdict, reasons) = rule(&Value::Null);
    assert_eq!(verdict, Verdict::Block);
    assert!(
        reasons.contains("mcp_trust_identifier_missing"),
        "{reasons}"
    );
}

#[test]
fn a_kill_switch_that_is_on_or_unreadable_blocks_whatever_the_policy_says() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("kill.json");
    let rule = || {
        let boundary = boundary(ALLOW, Profile::Standard).with_kill_switch(Some(state.clone()));
        let ruling = boundary
            .rule(&call(&json!({"name": "tool.read"})), "", "c")
            .unwrap();
        (
            ruling.decision.verdict(),
            ruling.decision.reason_codes().join(","),
        )
    };
    assert_eq!(rule().0, Verdict::Block);
    worldcompute_durable::write_atomic(&state, b"{", worldcompute_durable::Mode::Private).unwrap();
    let (verdict, reasons) = rule();
    assert_eq!(verdict, Verdict::Block);
    assert!(reasons.contains("kill_switch"), "{reasons}");
}

#[test]
fn a_call_of_a_job_that_cannot_be_found_is_blocked() {
    let dir = tempfile::tempdir().unwrap();
    let boundary = boundary(ALLOW, Profile::Standard).with_jobs(Some(dir.path().to_owned()));
    let of = |job: &str| {
        let call = call(&json!({"name": "tool.read", "context": {"job_id": job}}));
        boundary.rule(&call, "", "c").unwrap().decision.verdict()
    };
    assert_eq!(of("job_1"), Verdict::Block);
    assert_eq!(of("../escape"), Verdict::Block);
    assert_eq!(of(""), Verdict::Allow);
}

#[test]
fn run_ids_are_safe_in_file_names() {
    for (given, id) in [
        ("run_7", "run_7"),
        ("7", "run_7"),
        ("  a b//c ", "run_a_b_c"),
        ("../../etc", "run_etc"),
        ("//", ""),
        ("", ""),
    ] {
        assert_eq!(run_id(given), id, "{given:?}");
    }
}

/// The targets that the hook's adapter finds, as kind and value.
fn touched(tool: &str, input: &Value) -> Vec<String> {
    let payload = json!({"tool_name": tool, "tool_input": input, "cwd": "/work"});
    let call = decode(Adapter::ClaudeCode, &payload).unwrap();
    let found = call.targets.iter();
    found
        .map(|target| format!("{} {}", target.kind, target.value))
        .collect()
}

#[test]
fn every_argument_that_names_something_is_a_target_of_an_agents_tool() {
    for (tool, input, found) in [
        (
            "NotebookEdit",
            json!({"notebook_path": "/etc/x.ipynb"}),
            vec!["path /etc/x.ipynb"],
        ),
        ("MultiEdit", json!({"file_path": "/x"}), vec!["path /x"]),
        (
            "Read",
            json!({"path": "/work/ok", "file_path": "/etc/passwd"}),
            vec!["path /work/ok", "path /etc/passwd"],
        ),
        (
            "Write",
            json!({"file_path": "../up"}),
            vec!["path /work/../up"],
        ),
        ("Glob", json!({"pattern": "/etc/**"}), vec!["path /etc/**"]),
        (
            "Glob",
            json!({"pattern": "**/*.rs", "path": "/src"}),
            vec!["path /src", "path /src/**/*.rs"],
        ),
        (
            "Read",
            json!({"file_path": "file:///etc/passwd"}),
            vec!["path file:///etc/passwd"],
        ),
        ("Glob", json!({"pattern": "*.rs"}), vec!["path /work/*.rs"]),
        (
            "Grep",
            json!({"pattern": "/etc/passwd"}),
            vec!["path /work"],
        ),
        (
            "read_multiple_files",
            json!({"paths": ["/a", "/b"]}),
            vec!["path /a", "path /b"],
        ),
    ] {
        assert_eq!(touched(tool, &input), found, "{tool} {input}");
    }
}

#[test]
fn a_call_that_says_nothing_of_what_it_touches_passes_no_rule_about_that() {
    for clause in [
        "endpoint: {path_allowlist: [/work/**]}",
        "endpoint: {domain_denylist: [evil.example]}",
        "dataflow: {enabled: true}",
    ] {
        let policy = format!(
            "default_verdict: block\nrules:\n- {{name: r, effect: allow, match: {{tool_names: [read_file]}}, {clause}}}\n"
        );
        let boundary = boundary(&policy, Profile::Standard);
        let payload =
            json!({"function": {"name": "read_file", "arguments": {"path": "/etc/shadow"}}});
        let silent = decode(Adapter::OpenAi, &payload).unwrap();
        let ruling = boundary.rule(&silent, "", "c").unwrap();
        assert_eq!(ruling.decision.verdict(), Verdict::Block, "{clause}");
        let codes = ruling.decision.reason_codes();
        assert!(
            codes.contains(&"targets_undeclared".to_owned()),
            "{codes:?}"
        );
        let target = json!({"kind": "path", "value": "/work/x", "operation": "read"});
        let told = call(&json!({"name": "read_file", "targets": [target]}));
        let ruling = boundary.rule(&told, "", "c").unwrap();
        assert_eq!(ruling.decision.verdict(), Verdict::Allow, "{clause}");
    }
}

#[test]
fn what_arguments_name_and_no_target_says_helps_no_call_past_a_rule() {
    let path = |value: &str| json!({"kind": "path", "value": value, "operation": "read"});
    let own = |args: Value, targets: Value| {
        call(&json!({"name": "read", "args": args, "targets": targets}))
    };
    let step = |targets: Value| json!({"name": "read", "args": {"path": "/etc/passwd"}, "targets": targets});
    let plain = json!({"type": "tool_use", "name": "read", "input": {"path": "/etc/passwd"}});
    let policies = [
        "default_verdict: allow\nrules: [{name: r, effect: block, match: {target_values: [/etc/passwd]}}]",
        "default_verdict: block\nrules: [{name: r, effect: allow, match: {tool_names: [read]}, endpoint: {path_allowlist: [/work/**]}}]",
    ];
    for policy in policies {
        let boundary = boundary(policy, Profile::Standard);
        for (call, passes) in [
            (
                own(json!({"path": "/etc/passwd"}), json!([path("/work/x")])),
                false,
            ),
            (
                own(
                    json!({"paths": ["/work/x", "/etc/passwd"]}),
                    json!([path("/work/x")]),
                ),
                false,
            ),
            (
                own(
                    json!({"path": "../../etc/passwd"}),
                    json!([path("/work/a/../../../etc/passwd")]),
                ),
                false,
            ),
            (decode(Adapter::Anthropic, &plain).unwrap(), false),
            (
                own(json!({"path": "/work/x"}), json!([path("/work/x")])),
                true,
            ),
            (own(json!({"path": "x"}), json!([path("/work/x")])), true),
            (own(json!({"depth": 3}), json!([path("/work/x")])), true),
        ] {
            let ruling = boundary.rule(&call, "", "c").unwrap();
            assert_eq!(ruling.is_allowed(), passes, "{policy}: {call:?}");
        }
    }
    let boundary = boundary(policies[0], Profile::Standard);
    let script = call(&json!({"script": {"steps": [step(json!([path("/work/x")]))]}}));
    let ruling = boundary.rule(&script, "", "c").unwrap();
    let codes = ruling.decision.reason_codes();
    assert!(
        codes.contains(&"targets_undeclared".to_owned()),
        "{codes:?}"
    );
}

#[test]
fn a_misspelt_member_of_a_call_is_refused_instead_of_left_out() {
    let fault = decode(Adapter::Mcp, &json!({"name": "t", "targtes": []})).unwrap_err();
    assert!(fault.message().contains("targtes"), "{fault}");
}

#[test]
fn the_way_of_logging_in_is_the_same_wherever_it_is_named() {
    let boundary = boundary("default_verdict: block\n", Profile::OssProd);
    let context = |auth: Value, mode: &str| {
        let mut context =
            json!({"identity": "a", "workspace": "w", "session_id": "s", "auth_context": auth});
        context["auth_mode"] = mode.into();
        call(&json!({"name": "t", "context": context}))
    };
    for (auth, mode, why) in [
        (
            json!({"auth_mode": "oauth"}),
            "",
            "requires context.oauth_evidence",
        ),
        (
            json!({"oauth_mode": "oauth"}),
            "",
            "requires context.oauth_evidence",
        ),
        (json!({"auth_mode": "oauth"}), "token", "two auth modes"),
        (
            json!({"oauth_mode": "oauth_dcr"}),
            "oauth",
            "two auth modes",
        ),
        (json!({"auth_mode": "magic"}), "", "must be one of"),
    ] {
        let fault = boundary
            .rule(&context(auth.clone(), mode), "", "c")
            .err()
            .unwrap();
        assert!(fault.message().contains(why), "{auth} {mode}: {fault}");
    }
}
