use super::*;
use crate::evidence::Evidence;
use crate::intent::Intent;
use serde_json::{Value, json};

fn policy(yaml: &str) -> Policy {
    Policy::parse(yaml.as_bytes()).unwrap()
}

fn intent(changes: Value) -> Intent {
    let mut intent = json!({
        "tool_name": "tool.x",
        "context": {"identity": "alice", "workspace": "/w", "risk_class": "high"}
    });
    merge(&mut intent, changes);
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (name, value) in changes {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, changes) => *into = changes,
    }
}

fn prepared(intent: &Intent) -> Prepared<'_> {
    let at = "2026-02-05T00:00:00Z".parse().unwrap();
    intent.prepare(&Evidence::at(at)).unwrap()
}

fn explain(policy: &Policy, intent: &Intent) -> WhyNot {
    why_not(policy, &prepared(intent)).unwrap()
}

/// The change, shown; it is applied through the file format, and has to bring what it promises.
fn change(policy: &Policy, intent: &Intent) -> Vec<String> {
    let why = explain(policy, intent);
    let mut changed = Policy::parse(policy.to_yaml().unwrap().as_bytes()).unwrap();
    for edit in &why.change {
        let edited = edit.apply(&changed).unwrap();
        changed = Policy::parse(edited.to_yaml().unwrap().as_bytes()).unwrap();
    }
    assert_eq!(changed.evaluate(&prepared(intent)).verdict, why.attainable);
    why.change.iter().map(Edit::to_string).collect()
}

fn path(value: &str, operation: &str) -> Value {
    json!({"targets": [{"kind": "path", "value": value, "operation": operation}]})
}

#[test]
fn what_is_allowed_needs_no_reason() {
    let asked = intent(json!({}));
    assert!(why_not(&policy("default_verdict: allow"), &prepared(&asked)).is_none());
}

#[test]
fn the_causes_name_rule_and_clause() {
    let policy = policy(
        "rules:
- {name: reads, effect: allow, match: {tool_name: tool.x}, endpoint: {path_allowlist: [/tmp/**]}}
- {name: stops, effect: block, match: {tool_name: tool.x}, reason_codes: [because]}
- {name: asks, effect: require_approval}",
    );
    let why = explain(&policy, &intent(path("/etc/x", "read")));
    assert_eq!(why.verdict, Verdict::Block);
    let named: Vec<_> = why
        .causes
        .iter()
        .map(|cause| {
            (
                cause.rule.as_str(),
                cause.clause.as_str(),
                cause.reason_code.as_str(),
            )
        })
        .collect();
    assert_eq!(
        named,
        [
            (
                "reads",
                "endpoint.path_allowlist",
                "endpoint_path_not_allowlisted"
            ),
            (
                "reads",
                "endpoint.path_allowlist",
                "endpoint_constraint_violation"
            ),
            ("stops", "effect", "because"),
        ]
    );
}

#[test]
fn a_default_that_refuses_needs_one_narrow_rule() {
    let edits = change(
        &policy("default_verdict: block"),
        &intent(path("/w/a", "read")),
    );
    assert_eq!(
        edits,
        [
            r#"add the rule {"effect":"allow","match":{"identities":["alice"],"risk_classes":["high"],"target_values":["/w/a"],"tool_names":["tool.x"]},"name":"allow-tool.x-for-alice","priority":0}"#
        ]
    );
}

/// A rule that `clause` keeps from allowing `asked` is widened by `edit` alone.
fn is_widened(clause: &str, asked: Value, edit: &str) {
    let policy = policy(&format!("rules: [{{name: r, effect: allow, {clause}}}]"));
    let edits = change(&policy, &intent(asked));
    assert_eq!(edits.len(), 1, "{edits:?}");
    assert!(
        edits[0].starts_with(edit) && edits[0].contains("of rule r"),
        "{edits:?}, not {edit}"
    );
}

#[test]
fn an_endpoint_is_widened_by_what_is_asked() {
    let url = json!({"targets": [{"kind": "url", "value": "https://a.example/x"}]});
    for (clause, asked, edit) in [
        (
            "endpoint: {path_allowlist: [/tmp/**]}",
            path("/a/../b*", "read"),
            r#"add "/b\\*" to endpoint.path_allowlist"#,
        ),
        (
            "endpoint: {path_denylist: [/b/**, /c]}",
            path("/b/x", "read"),
            r#"remove "/b/**" from endpoint.path_denylist"#,
        ),
        (
            "endpoint: {domain_allowlist: [b.example]}",
            url.clone(),
            r#"add "a.example" to endpoint.domain_allowlist"#,
        ),
        (
            "endpoint: {domain_denylist: ['*.example']}",
            url.clone(),
            r#"remove "*.example" from endpoint.domain_denylist"#,
        ),
        (
            "endpoint: {egress_classes: [net.dns]}",
            url,
            r#"add "net.http" to endpoint.egress_classes"#,
        ),
    ] {
        is_widened(clause, asked, edit);
    }
}

#[test]
fn the_agents_that_are_let_through_are_widened_by_the_one_that_asks() {
    let agent = json!({"agent_id": "bot", "agent_identity": {"publisher": "P", "source": "git"}});
    for (clause, asked, edit) in [
        (
            "allowed_agent_ids: [a]",
            json!({"context": agent}),
            r#"add "bot" to allowed_agent_ids"#,
        ),
        (
            "denied_agent_ids: [bot]",
            json!({"context": agent}),
            r#"remove "bot" from denied_agent_ids"#,
        ),
        (
            "allowed_agent_manifest_publishers: [a]",
            json!({"context": agent}),
            r#"add "p" to allowed_agent_manifest_publishers"#,
        ),
        (
            "required_agent_lifecycle_states: [on]",
            json!({"context": agent}),
            r#"remove "on" from required_agent_lifecycle_states"#,
        ),
    ] {
        is_widened(clause, asked, edit);
    }
}

#[test]
fn the_credentials_that_are_let_through_are_widened_by_what_is_asked() {
    let credential = json!({
        "credential_ref": "ref:1", "credential_source": "env", "credential_access_type": "jit",
        "credential_issuer": "I", "credential_ttl_seconds": 90
    });
    for (clause, asked, edit) in [
        (
            "allowed_credential_sources: [aws_sts]",
            json!({"context": credential}),
            r#"add "env" to allowed_credential_sources"#,
        ),
        (
            "allowed_credential_issuers: [a]",
            json!({"context": credential}),
            r#"add "I" to allowed_credential_issuers"#,
        ),
        (
            "allowed_credential_access_types: [static]",
            json!({"context": credential}),
            r#"add "jit" to allowed_credential_access_types"#,
        ),
        (
            "max_credential_ttl_seconds: 60",
            json!({"context": credential}),
            "set max_credential_ttl_seconds",
        ),
    ] {
        is_widened(clause, asked, edit);
    }
}

#[test]
fn a_sandbox_is_widened_by_what_is_asked() {
    let digest = "c".repeat(64);
    let sandbox = json!({
        "network_mode": "full", "env_exposure_mode": "none", "timeout_seconds": 9, "filesystem_isolation": "workspace",
        "user_mode": "root", "evidence_ref": "ref:1", "evidence_digest": digest, "writable_paths": ["/w"]
    });
    for (clause, asked, edit) in [
        (
            "sandbox: {allowed_user_modes: [default]}",
            json!({"context": {"sandbox": sandbox}}),
            r#"add "root" to sandbox.allowed_user_modes"#,
        ),
        (
            "sandbox: {max_timeout_seconds: 8}",
            json!({"context": {"sandbox": sandbox}}),
            "set sandbox.max_timeout_seconds",
        ),
        (
            "sandbox: {allowed_writable_path_prefixes: [/tmp]}",
            json!({"context": {"sandbox": sandbox}}),
            r#"add "/w" to sandbox.allowed_writable_path_prefixes"#,
        ),
        (
            "sandbox: {required_read_only_roots: [/]}",
            json!({"context": {"sandbox": sandbox}}),
            r#"remove "/" from sandbox.required_read_only_roots"#,
        ),
    ] {
        is_widened(clause, asked, edit);
    }
}

#[test]
fn a_clause_that_cannot_be_widened_is_passed_by_a_narrow_rule() {
    for clause in [
        "effect: block",
        "effect: dry_run, priority: 7",
        "effect: allow, require_declared_agent: true",
        "effect: allow, require_context_evidence: true",
        "effect: allow, require_jit_credential: true",
        "effect: allow, sandbox: {enabled: true}",
        "effect: allow, freeze_window: {timezone: UTC, windows: [{start: '2026-01-01T00:00:00', end: '2027-01-01T00:00:00'}]}",
        "effect: allow, freeze_window: {timezone: Nowhere, windows: [{start: '2026-01-01T00:00:00', end: '2027-01-01T00:00:00'}]}",
        "effect: allow, endpoint: {domain_allowlist: [a]}",
    ] {
        let policy = policy(&format!("rules: [{{name: r, {clause}}}]"));
        let asked = intent(json!({"targets": [{"kind": "url", "value": "no address"}]}));
        let edits = change(&policy, &asked);
        assert_eq!(edits.len(), 1, "{clause}: {edits:?}");
        assert!(edits[0].starts_with("add the rule"), "{clause}: {edits:?}");
    }
}

#[test]
fn destruction_is_never_simply_allowed() {
    let deletes = intent(path("/w/x", "delete"));
    let why = explain(&policy("default_verdict: block"), &deletes);
    assert_eq!(why.attainable, Verdict::RequireApproval);
    assert!(why.advice.unwrap().contains("approval"));
    assert_eq!(change(&policy("default_verdict: block"), &deletes).len(), 1);
    let asks = policy("rules: [{name: r, effect: allow}]");
    let why = explain(&asks, &deletes);
    assert_eq!(
        (why.verdict, why.change.len()),
        (Verdict::RequireApproval, 0)
    );
    assert_eq!(why.causes[0].clause, "context.phase");
    let mut plans = path("/w/x", "delete");
    plans["context"] = json!({"phase": "plan"});
    assert_eq!(
        explain(&policy("default_verdict: block"), &intent(plans)).attainable,
        Verdict::DryRun
    );
}

#[test]
fn running_something_can_be_allowed_in_a_declared_sandbox() {
    let mut asked = json!({
        "targets": [{"kind": "other", "value": "sh", "operation": "exec"}],
        "context": {"sandbox": {
            "network_mode": "disabled", "env_exposure_mode": "none", "timeout_seconds": 9, "user_mode": "root",
            "filesystem_isolation": "container", "evidence_ref": "ref:1", "evidence_digest": "c".repeat(64)
        }}
    });
    let block = policy("default_verdict: block");
    assert_eq!(
        explain(&block, &intent(asked.clone())).attainable,
        Verdict::Allow
    );
    assert_eq!(change(&block, &intent(asked.clone())).len(), 1);
    asked["context"]["sandbox"]["evidence_ref"] = json!("");
    assert_eq!(
        explain(&block, &intent(asked)).attainable,
        Verdict::RequireApproval
    );
}

#[test]
fn what_fails_closed_gives_up_what_is_missing_and_nothing_else() {
    let policy = policy(
        "default_verdict: allow
fail_closed: {enabled: true, required_fields: [targets, delegation], required_high_risk_fields: [run_id]}",
    );
    let edits = change(&policy, &intent(path("/w", "read")));
    assert_eq!(
        edits,
        [
            r#"remove "delegation" from fail_closed.required_fields"#,
            r#"remove "run_id" from fail_closed.required_high_risk_fields"#
        ]
    );
    let unknown =
        intent(json!({"targets": [{"kind": "table", "value": "t"}], "context": {"run_id": "r"}}));
    let edits = change(&policy, &unknown);
    assert_eq!(edits[0], r#"remove "high" from fail_closed.risk_classes"#);
    let why = explain(&policy, &unknown);
    assert_eq!(why.causes[0].clause, "fail_closed");
}

#[test]
fn a_script_is_let_through_step_by_step() {
    let script = json!({"script": {"steps": [
        {"tool_name": "a", "args": {}, "targets": [{"kind": "path", "value": "/w", "operation": "write"}]},
        {"tool_name": "b", "args": {}},
        {"tool_name": "a", "args": {}, "targets": [{"kind": "path", "value": "/w", "operation": "write"}]}
    ]}});
    let policy = policy(
        "default_verdict: block
scripts: {max_steps: 2, require_approval_above: 1, block_mixed_risk: true}
rules: [{name: b, effect: require_approval, match: {tool_name: b}}]",
    );
    let asked = intent(script);
    let why = explain(&policy, &asked);
    let clauses: Vec<_> = why
        .causes
        .iter()
        .map(|cause| (cause.step, cause.clause.as_str()))
        .collect();
    assert_eq!(
        clauses,
        [
            (Some(0), "default_verdict"),
            (Some(1), "effect"),
            (Some(2), "default_verdict"),
            (None, "scripts.max_steps"),
            (None, "scripts.block_mixed_risk"),
            (None, "scripts.require_approval_above"),
        ]
    );
    let edits = change(&policy, &asked);
    assert_eq!(edits.len(), 5, "{edits:#?}");
}

#[test]
fn a_priority_that_cannot_be_undercut_leaves_no_change() {
    let least = -(1_i64 << 53) + 1;
    let policy = policy(&format!(
        "rules: [{{name: r, effect: block, priority: {least}}}]"
    ));
    let why = explain(&policy, &intent(json!({})));
    assert!(why.change.is_empty());
    assert!(why.advice.unwrap().contains("no edit"));
}

#[test]
fn an_edit_survives_being_written_down() {
    let why = explain(&policy("default_verdict: block"), &intent(json!({})));
    let text = serde_json::to_string(&why.change).unwrap();
    let read: Vec<Edit> = serde_json::from_str(&text).unwrap();
    assert_eq!(read, why.change);
}
