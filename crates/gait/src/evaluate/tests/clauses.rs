//! The clauses that raise what a rule says, each at its limit and past it.

use super::*;
use crate::context_envelope::ContextEnvelope;
use crate::evidence::Evidence;
use crate::inventory::Inventory;
use jiff::Timestamp;

fn context(changes: Value) -> Intent {
    let mut context =
        json!({"identity": "alice", "workspace": "w", "risk_class": "high", "environment": "prod"});
    for (name, value) in changes.as_object().unwrap() {
        context[name] = value.clone();
    }
    intent(json!({ "context": context }))
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn ask_at(policy: &Policy, intent: &Intent, time: &str) -> Evaluation {
    policy.evaluate(&intent.prepare(&Evidence::at(at(time))).unwrap())
}

/// The codes of the only breach that `clause` has against `intent`; `None` when it allows.
fn breach(clause: &str, intent: &Intent) -> Option<(String, String)> {
    let outcome = allowing(&format!("  {clause}")).ask(intent);
    let mut reasons = outcome.reason_codes;
    reasons.retain(|code| code != "matched_rule_r");
    match outcome.verdict {
        Verdict::Allow => {
            assert!(reasons.is_empty() && outcome.violations.is_empty());
            None
        }
        _ => Some((reasons.join(","), outcome.violations.join(","))),
    }
}

fn same(code: &str) -> Option<(String, String)> {
    Some((code.to_owned(), code.to_owned()))
}

#[test]
fn a_flow_of_tainted_data_never_relaxes_a_block() {
    let tainted = intent(json!({
        "targets": [{"kind": "url", "value": "https://x.example/"}],
        "arg_provenance": [{"arg_path": "a", "source": "external"}]
    }));
    for (effect, expected) in [
        ("allow", Verdict::RequireApproval),
        ("dry_run", Verdict::RequireApproval),
        ("require_approval", Verdict::RequireApproval),
        ("block", Verdict::Block),
    ] {
        let policy = policy(&format!(
            "rules: [{{name: r, effect: {effect}, dataflow: {{enabled: true}}}}]"
        ));
        let outcome = policy.ask(&tainted);
        assert_eq!(outcome.verdict, expected, "{effect}");
        assert!(outcome.violations.contains(&"tainted_dataflow".to_owned()));
    }
}

#[test]
fn data_flows_from_its_sources_to_its_destinations_only() {
    let flow = |source: &str, kind: &str, operation: &str| {
        intent(json!({
            "targets": [{"kind": kind, "value": "v", "operation": operation, "endpoint_class": "other"}],
            "arg_provenance": [{"arg_path": "a", "source": source}]
        }))
    };
    let hit = |clause: &str, intent: Intent| breach(clause, &intent).is_some();
    let default = "dataflow: {enabled: true}";
    for kind in ["host", "url", "bucket", "queue", "topic"] {
        assert!(hit(default, flow("tool_output", kind, "")), "{kind}");
    }
    for kind in ["path", "table", "repo", "other"] {
        assert!(!hit(default, flow("external", kind, "")), "{kind}");
    }
    assert!(!hit(default, flow("user", "url", "")));
    let narrow = "dataflow: {tainted_sources: [user], destination_kinds: [table], destination_operations: [write]}";
    assert!(hit(narrow, flow("user", "table", "write")));
    assert!(!hit(narrow, flow("user", "table", "read")));
    assert!(!hit(narrow, flow("user", "url", "write")));
    assert!(!hit(narrow, flow("external", "table", "write")));
}

const FREEZE: &str = "freeze_window: {timezone: America/New_York, environments: [Prod], risk_classes: [high], \
    windows: [{name: spring, start: '2026-03-08T01:30:00', end: '2026-03-08T03:30:00'}]}";

#[test]
fn a_freeze_window_holds_from_its_start_until_before_its_end_across_a_change_of_the_clock() {
    let policy = allowing(&format!("  {FREEZE}"));
    let asked = context(json!({}));
    for (time, verdict) in [
        ("2026-03-08T06:29:59.999999999Z", Verdict::Allow),
        ("2026-03-08T06:30:00Z", Verdict::Block),
        // New York skips from 02:00 to 03:00, so 03:30 comes one hour after 01:30.
        ("2026-03-08T07:29:59Z", Verdict::Block),
        ("2026-03-08T07:30:00Z", Verdict::Allow),
    ] {
        assert_eq!(ask_at(&policy, &asked, time).verdict, verdict, "{time}");
    }
    let outcome = ask_at(&policy, &asked, "2026-03-08T07:00:00Z");
    let freeze = outcome.freeze_window.unwrap();
    assert_eq!(freeze.status, FreezeStatus::Active);
    assert_eq!(freeze.window_start.to_string(), "2026-03-08T06:30:00Z");
    assert_eq!(freeze.window_end.to_string(), "2026-03-08T07:30:00Z");
    assert_eq!(freeze.reason, "spring");
    assert_eq!(outcome.violations, ["freeze_window_active_block"]);
}

#[test]
fn a_freeze_window_is_about_its_environments_and_risks_only() {
    let policy = allowing(&format!("  {FREEZE}"));
    let inside = "2026-03-08T07:00:00Z";
    for (change, expected) in [
        (json!({"environment": " PROD "}), Verdict::Block),
        (json!({"environment": "staging"}), Verdict::Allow),
        (json!({"environment": ""}), Verdict::Allow),
        (json!({"risk_class": "low"}), Verdict::Allow),
    ] {
        let outcome = ask_at(&policy, &context(change.clone()), inside);
        assert_eq!(outcome.verdict, expected, "{change}");
    }
}

#[test]
fn a_freeze_window_that_nobody_understands_blocks() {
    let freeze = |zone: &str, start: &str, end: &str| {
        format!(
            "freeze_window: {{timezone: {zone}, windows: [{{start: '{start}', end: '{end}'}}]}}"
        )
    };
    let (good, later) = ("2026-03-08T01:00:00", "2026-03-08T02:00:00");
    for (zone, start, end, code) in [
        (
            "Mars/Olympus",
            good,
            later,
            "freeze_window_invalid_timezone",
        ),
        ("UTC", later, good, "freeze_window_invalid_window"),
        ("UTC", good, good, "freeze_window_invalid_window"),
        ("UTC", "2026-03-08", later, "freeze_window_invalid_window"),
        (
            "UTC",
            good,
            "2026-03-08T02:00:60",
            "freeze_window_invalid_window",
        ),
        (
            "UTC",
            good,
            "2026-13-08T02:00:00",
            "freeze_window_invalid_window",
        ),
        (
            "UTC",
            good,
            "2026-03-08T02:00:00Z",
            "freeze_window_invalid_window",
        ),
        (
            "UTC",
            "20260308T010000.000",
            later,
            "freeze_window_invalid_window",
        ),
    ] {
        let clause = freeze(zone, start, end);
        assert_eq!(breach(&clause, &context(json!({}))), same(code), "{clause}");
    }
}

#[test]
fn time_zones_come_with_the_program() {
    for zone in [
        "UTC",
        "Europe/Berlin",
        "Asia/Kathmandu",
        "America/Toronto",
        "Pacific/Chatham",
    ] {
        let clause = format!(
            "freeze_window: {{timezone: {zone}, windows: [{{start: '2020-01-01T00:00:00', end: '2020-01-02T00:00:00'}}]}}"
        );
        assert_eq!(breach(&clause, &context(json!({}))), None, "{zone}");
    }
}

fn sandbox(changes: Value) -> Intent {
    let mut sandbox = json!({
        "network_mode": "disabled", "writable_paths": ["/work/a"], "read_only_roots": ["/"],
        "env_exposure_mode": "allowlist", "timeout_seconds": 60, "filesystem_isolation": "container",
        "user_mode": "unprivileged", "evidence_ref": "ref:1", "evidence_digest": "c".repeat(64)
    });
    for (name, value) in changes.as_object().unwrap() {
        sandbox[name] = value.clone();
    }
    let mut asked = json!({
        "targets": [{"kind": "other", "value": "sh", "operation": "exec"}],
        "context": {"identity": "a", "workspace": "w", "risk_class": "high"}
    });
    asked["context"]["sandbox"] = sandbox;
    intent(asked)
}

const SANDBOX: &str = "sandbox: {allowed_network_modes: [disabled], allowed_writable_path_prefixes: [/work], \
    required_read_only_roots: [/], allowed_env_exposure_modes: [allowlist], max_timeout_seconds: 60, \
    allowed_filesystem_isolations: [container], allowed_user_modes: [unprivileged]}";

#[test]
fn each_fault_of_a_sandbox_blocks_under_its_own_code() {
    let none: [&str; 0] = [];
    for (change, code) in [
        (
            json!({"network_mode": "full"}),
            "sandbox_network_mode_disallowed",
        ),
        (json!({"network_mode": ""}), "sandbox_network_mode_missing"),
        (
            json!({"env_exposure_mode": "full"}),
            "sandbox_env_exposure_mode_disallowed",
        ),
        (json!({"timeout_seconds": 61}), "sandbox_timeout_exceeded"),
        (json!({"timeout_seconds": 0}), "sandbox_timeout_missing"),
        (
            json!({"filesystem_isolation": "none"}),
            "sandbox_filesystem_isolation_disallowed",
        ),
        (json!({"user_mode": "root"}), "sandbox_user_mode_disallowed"),
        (
            json!({"writable_paths": ["/work/../etc"]}),
            "sandbox_writable_path_disallowed",
        ),
        (
            json!({"writable_paths": ["/workspace"]}),
            "sandbox_writable_path_disallowed",
        ),
        (
            json!({"read_only_roots": ["/usr"]}),
            "sandbox_read_only_root_missing",
        ),
        (
            json!({"read_only_roots": none}),
            "sandbox_read_only_root_missing",
        ),
        (json!({"evidence_digest": ""}), "sandbox_evidence_missing"),
    ] {
        let outcome = allowing(&format!("  {SANDBOX}")).ask(&sandbox(change.clone()));
        assert_eq!(outcome.verdict, Verdict::Block, "{change}");
        assert_eq!(outcome.violations, [code], "{change}");
        assert_eq!(outcome.sandbox.unwrap().reason_codes, [code]);
    }
    assert_eq!(
        breach("sandbox: {enabled: true}", &context(json!({}))),
        same("sandbox_metadata_missing")
    );
}

#[test]
fn a_trusted_sandbox_spares_executions_the_approval_and_nothing_else() {
    let policy = allowing(&format!("  {SANDBOX}"));
    let outcome = policy.ask(&sandbox(json!({})));
    assert_eq!(outcome.verdict, Verdict::Allow);
    assert_eq!(outcome.sandbox.unwrap().status, SandboxStatus::Valid);
    let mut deletes = serde_json::to_value(sandbox(json!({})).normal()).unwrap();
    deletes["targets"]
        .as_array_mut()
        .unwrap()
        .push(json!({"kind": "path", "value": "/work/x", "operation": "delete"}));
    let deletes = Intent::parse(deletes.to_string().as_bytes()).unwrap();
    assert_eq!(policy.ask(&deletes).verdict, Verdict::RequireApproval);
}

#[test]
fn each_fault_of_an_agent_blocks_under_its_own_codes() {
    let digest = "e".repeat(64);
    let agent = |changes: Value| {
        let mut identity = json!({
            "owner": "o", "manifest_digest": digest, "publisher": "Acme", "source": "git",
            "lifecycle_states": ["approved", "active"], "expires_at": "2026-02-05T00:00:01Z"
        });
        for (name, value) in changes.as_object().unwrap() {
            identity[name] = value.clone();
        }
        context(json!({"agent_id": "bot", "agent_identity": identity}))
    };
    let sound = agent(json!({}));
    let nobody = context(json!({}));
    let manifest = format!("required_agent_manifest_digest: {}", digest.to_uppercase());
    for (clause, broken, reason, violation) in [
        (
            "require_declared_agent: true",
            nobody.clone(),
            "agent_unknown",
            "agent_identity_missing",
        ),
        (
            "allowed_agent_ids: [bot]",
            nobody.clone(),
            "agent_unknown",
            "agent_not_declared",
        ),
        (
            "denied_agent_ids: [other]",
            agent(json!({"revoked": true})),
            "agent_revoked",
            "agent_revoked",
        ),
        (
            "require_agent_owner: true",
            agent(json!({"owner": ""})),
            "agent_owner_missing",
            "agent_owner_missing",
        ),
        (
            "required_agent_lifecycle_states: [Active]",
            agent(json!({"lifecycle_states": ["retired"]})),
            "agent_lifecycle_state_invalid",
            "agent_lifecycle_state_invalid",
        ),
        (
            "require_unexpired_agent: true",
            agent(json!({"expires_at": "2026-02-05T00:00:00Z"})),
            "agent_expired",
            "agent_expired",
        ),
        (
            "require_unexpired_agent: true",
            nobody.clone(),
            "agent_expired",
            "agent_expired",
        ),
        (
            manifest.as_str(),
            agent(json!({"manifest_digest": "f".repeat(64)})),
            "agent_manifest_mismatch",
            "agent_manifest_mismatch",
        ),
        (
            "allowed_agent_manifest_publishers: [ACME]",
            agent(json!({"publisher": "else"})),
            "agent_manifest_mismatch",
            "agent_manifest_mismatch",
        ),
        (
            "allowed_agent_manifest_sources: [git]",
            nobody.clone(),
            "agent_manifest_mismatch",
            "agent_manifest_mismatch",
        ),
    ] {
        assert_eq!(breach(clause, &sound), None, "{clause}");
        let expected = Some((reason.to_owned(), violation.to_owned()));
        assert_eq!(breach(clause, &broken), expected, "{clause}");
    }
    assert_eq!(
        breach("denied_agent_ids: [bot]", &sound),
        same("agent_revoked")
    );
}

#[test]
fn each_fault_of_a_credential_blocks_under_its_own_code() {
    let credential = |changes: Value| {
        let mut declared = json!({
            "credential_ref": "ref:1", "credential_source": "vault_dynamic", "credential_access_type": "jit",
            "credential_issuer": "Vault", "credential_ttl_seconds": 60, "run_id": "run", "job_id": "job"
        });
        for (name, value) in changes.as_object().unwrap() {
            declared[name] = value.clone();
        }
        context(declared)
    };
    let sound = credential(json!({}));
    for (clause, change, codes) in [
        (
            "require_jit_credential: true",
            json!({"credential_access_type": "standing"}),
            "credential_not_jit",
        ),
        (
            "require_jit_credential: true",
            json!({"credential_access_type": ""}),
            "credential_access_type_unknown,credential_evidence_missing",
        ),
        (
            "block_standing_credentials: true",
            json!({"credential_access_type": "cloud_admin"}),
            "standing_credential_disallowed",
        ),
        (
            "allowed_credential_sources: [Vault_Dynamic]",
            json!({"credential_source": "env"}),
            "credential_source_disallowed",
        ),
        (
            "allowed_credential_issuers: [Vault]",
            json!({"credential_issuer": "vault"}),
            "credential_issuer_disallowed",
        ),
        (
            "allowed_credential_access_types: [jit]",
            json!({"credential_access_type": "static"}),
            "credential_access_type_disallowed",
        ),
        (
            "max_credential_ttl_seconds: 60",
            json!({"credential_ttl_seconds": 61}),
            "credential_ttl_exceeded",
        ),
        (
            "max_credential_ttl_seconds: 60",
            json!({"credential_ttl_seconds": 0}),
            "credential_evidence_missing",
        ),
        (
            "require_jit_credential: true",
            json!({"credential_ref": ""}),
            "credential_evidence_missing",
        ),
        (
            "require_jit_credential: true",
            json!({"credential_source": ""}),
            "credential_source_unknown",
        ),
        (
            "require_jit_credential: true",
            json!({"credential_run_binding": "other"}),
            "credential_run_binding_mismatch",
        ),
        (
            "require_jit_credential: true",
            json!({"credential_job_binding": "other"}),
            "credential_job_binding_mismatch",
        ),
        (
            "require_jit_credential: true",
            json!({"credential_target_binding": "d".repeat(64)}),
            "credential_target_binding_mismatch",
        ),
    ] {
        assert_eq!(breach(clause, &sound), None, "{clause}");
        assert_eq!(breach(clause, &credential(change)), same(codes), "{clause}");
    }
    let empty = worldcompute_proof::Sha256::of("[]").to_string();
    let bound = credential(json!({"credential_target_binding": empty}));
    assert_eq!(breach("require_jit_credential: true", &bound), None);
}

fn envelope(mode: &str, retrieved_at: &str) -> ContextEnvelope {
    let envelope = json!({
        "context_set_id": "s", "evidence_mode": mode, "records": [{
            "ref_id": "doc", "source_type": "store", "source_locator": "x", "redaction_mode": "none",
            "query_digest": "1".repeat(64), "content_digest": "2".repeat(64), "retrieved_at": retrieved_at
        }]
    });
    ContextEnvelope::parse(envelope.to_string().as_bytes()).unwrap()
}

#[test]
fn context_evidence_is_an_envelope_and_never_a_claim() {
    let claims = context(json!({
        "context_set_digest": "d".repeat(64),
        "context_evidence_mode": "required",
        "auth_context": {"context_age_seconds": 0}
    }));
    let codes =
        "context_evidence_missing,context_evidence_mode_mismatch,context_set_digest_missing";
    let (reasons, _) = breach("require_context_evidence: true", &claims).unwrap();
    assert_eq!(reasons, codes);
    let policy = allowing("  require_context_evidence: true\n  max_context_age_seconds: 60");
    let now = at("2026-02-05T00:01:00Z");
    for (mode, retrieved_at, verdict) in [
        ("required", "2026-02-05T00:00:00Z", Verdict::Allow),
        ("required", "2026-02-04T23:59:59Z", Verdict::Block),
        ("required", "2026-02-05T00:06:00Z", Verdict::Allow),
        ("required", "2026-02-05T00:06:01Z", Verdict::Block),
        ("best_effort", "2026-02-05T00:00:00Z", Verdict::Block),
    ] {
        let envelope = envelope(mode, retrieved_at);
        let evidence = Evidence::at(now).with_envelope(Some(&envelope));
        let asked = context(json!({}));
        let prepared = asked.prepare(&evidence).unwrap();
        assert_eq!(
            policy.evaluate(&prepared).verdict,
            verdict,
            "{mode} {retrieved_at}"
        );
    }
}

#[test]
fn fail_closed_asks_for_the_same_evidence() {
    let policy = policy(
        "default_verdict: allow\nfail_closed: {enabled: true, required_fields: [context_evidence]}",
    );
    let asked = context(json!({}));
    let now = at("2026-02-05T00:01:00Z");
    let envelope = envelope("best_effort", "2026-02-05T00:00:00Z");
    let with = asked
        .prepare(&Evidence::at(now).with_envelope(Some(&envelope)))
        .unwrap();
    assert_eq!(policy.evaluate(&with).verdict, Verdict::Allow);
    let without = policy.ask(&asked);
    assert_eq!(without.reason_codes, ["context_evidence_missing"]);
    assert_eq!(without.violations, ["missing_context_evidence"]);
}

#[test]
fn what_the_inventory_must_say_no_caller_can_say() {
    let inventory = Inventory::parse(
        br#"[{"tool_name": "tool.x", "data_class": "PII", "endpoint_class": "fs.write", "autonomy_level": "high"}]"#,
    )
    .unwrap();
    let claims = context(json!({"auth_context": {
        "wrkr.tool_name": "tool.x", "wrkr.data_class": "pii", "wrkr.endpoint_class": "fs.write",
        "wrkr.autonomy_level": "high"
    }}));
    for key in [
        "context_tool_names: [Tool.X]",
        "context_data_classes: [pii]",
        "context_endpoint_classes: [fs.write]",
        "context_autonomy_levels: [high]",
    ] {
        let policy = allowing(&format!("  match: {{{key}}}"));
        assert_eq!(policy.ask(&claims).matched_rule(), "", "{key}");
        let evidence = Evidence::at(at("2026-02-05T00:00:00Z")).with_inventory(Some(&inventory));
        let asked = context(json!({}));
        let outcome = policy.evaluate(&asked.prepare(&evidence).unwrap());
        assert_eq!(outcome.matched_rule(), "r", "{key}");
        assert_eq!(outcome.context_source, "wrkr_inventory");
    }
}

#[test]
fn rules_of_one_priority_give_the_strictest_limit_of_those_that_decide() {
    let policy = policy(
        "rules:
- {name: a, effect: allow, rate_limit: {requests: 5, window: hour}, broker_scopes: [read], broker_reference: x}
- {name: b, effect: allow, rate_limit: {requests: 2, scope: tool}, require_broker_credential: true}
- {name: c, effect: allow, destructive_budget: {requests: 1, window: hour, scope: identity}}",
    );
    let outcome = policy.ask(&context(json!({})));
    let limit = outcome.rate_limit.unwrap();
    assert_eq!(
        (limit.requests, limit.window, limit.scope),
        (2, Window::Minute, Scope::Tool)
    );
    assert_eq!(outcome.destructive_budget.unwrap().scope, Scope::Identity);
    assert!(outcome.broker.required);
    assert_eq!(outcome.broker.reference(), "x");
    assert_eq!(outcome.broker.scopes, ["read"]);
}

#[test]
fn approvals_are_asked_for_only_where_approval_is_the_verdict() {
    let policy = policy("rules: [{name: r, effect: allow, min_approvals: 2}]");
    let outcome = policy.ask(&context(json!({})));
    assert_eq!(
        (outcome.required_approvals, outcome.distinct_approvers),
        (0, false)
    );
}
