//! `gait gate eval --explain --json`: why, instead of what (`gait.gate.policy_explain` 1.0.0).

use gait::{Decision, Gate, Intent, VERSION, WireTime};
use serde_json::{Map, Value, json};

use super::output::Fields;
use crate::cli::command::Context;

/// The fields; what says nothing is left out.
pub fn fields(
    gate: &Gate,
    intent: &Intent,
    decision: &Decision,
    context: &Context,
) -> Map<String, Value> {
    let mut fields = Fields::default();
    let evaluation = decision.evaluation();
    let account = decision.account();
    let reasons = decision.reason_codes();
    let fail_closed = reasons
        .iter()
        .filter(|code| code.starts_with("fail_closed_"));
    fields.put("ok", json!(true));
    fields.put("schema_id", json!("gait.gate.policy_explain"));
    fields.put("schema_version", json!("1.0.0"));
    fields.put("created_at", json!(WireTime::at(context.clock.now())));
    fields.put("producer_version", json!(VERSION));
    fields.put("verdict", json!(decision.verdict()));
    fields.put("matched_rule", json!(decision.matched_rule()));
    let rules = gate.policy().rules_named(&evaluation.matched_rules);
    let rules = rules.map(
        |(name, priority, effect)| json!({"name": name, "priority": priority, "effect": effect}),
    );
    fields.put("matched_rules", rules.collect());
    fields.put("reason_codes", json!(reasons));
    fields.put("violations", json!(decision.violations()));
    fields.put("missing_fields", json!(missing(reasons)));
    fields.put(
        "fail_closed_reason_codes",
        json!(fail_closed.collect::<Vec<_>>()),
    );
    let waits = decision.verdict() == gait::Verdict::RequireApproval;
    fields.put("approval_required", json!(waits));
    fields.put("required_approvals", json!(evaluation.required_approvals));
    let valid = account
        .approvals
        .as_ref()
        .map(gait::approval::Approvals::valid);
    fields.put("valid_approvals", json!(valid));
    fields.put(
        "require_broker_credential",
        json!(evaluation.broker.required),
    );
    fields.put("broker_reference", json!(evaluation.broker.reference()));
    fields.put("broker_scopes", json!(evaluation.broker.scopes));
    fields.put("require_delegation", json!(evaluation.require_delegation));
    fields.put(
        "required_delegation_scopes",
        json!(evaluation.delegation_scopes),
    );
    fields.put("credential_posture", posture(intent));
    fields.put("context_evidence_status", json!(evidence_status(decision)));
    fields.put("freeze_window", json!(evaluation.freeze_window));
    fields.put("kill_switch", json!(account.kill_switch));
    fields.put("sandbox", json!(evaluation.sandbox));
    fields.put("proof_refs", proof_refs(decision));
    fields.0
}

/// What the intent leaves out, by the codes that say so.
fn missing(reasons: &[String]) -> Vec<&str> {
    let field = |code: &'static str| match code {
        "credential_evidence_missing" => "credential_evidence",
        "sandbox_metadata_missing" => "sandbox",
        "sandbox_evidence_missing" => "sandbox_evidence",
        "kill_switch_state_unavailable" => "kill_switch_state",
        _ => "broker_credential",
    };
    const NAMED: [&str; 5] = [
        "credential_evidence_missing",
        "sandbox_metadata_missing",
        "sandbox_evidence_missing",
        "kill_switch_state_unavailable",
        "broker_credential_missing",
    ];
    let prefixed = reasons
        .iter()
        .filter_map(|code| code.strip_prefix("fail_closed_missing_"));
    let named = NAMED
        .into_iter()
        .filter(|code| reasons.iter().any(|have| have == code));
    let mut missing: Vec<&str> = prefixed.chain(named.map(field)).collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

fn posture(intent: &Intent) -> Value {
    let context = intent.context();
    let mut posture = Fields::default();
    posture.put("source", json!(context.credential_source));
    posture.put("access_type", json!(context.credential_access_type));
    posture.put("issuer", json!(context.credential_issuer));
    posture.put("ttl_seconds", json!(context.credential_ttl_seconds));
    posture.put("credential_ref", json!(context.credential_ref));
    let present = !context.credential_ref.is_empty();
    posture.0.insert("present".to_owned(), json!(present));
    Value::Object(posture.0)
}

fn evidence_status(decision: &Decision) -> &'static str {
    let context = &decision.account().context;
    match (context.mode.as_str(), context.set_digest.is_empty()) {
        ("required", true) => "missing",
        ("required", false) => "verified",
        (_, false) => "present",
        (_, true) => "not_required",
    }
}

fn proof_refs(decision: &Decision) -> Value {
    let written = &decision.account().written;
    let mut refs = Fields::default();
    refs.put("trace_id", json!(decision.trace().trace_id()));
    refs.path("trace_path", written.trace.as_deref());
    refs.path("approval_audit_path", written.approval_audit.as_deref());
    refs.path("delegation_audit_path", written.delegation_audit.as_deref());
    refs.path(
        "credential_evidence_path",
        written.credential_evidence.as_deref(),
    );
    Value::Object(refs.0)
}
