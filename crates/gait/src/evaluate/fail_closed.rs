//! What an intent of a risky class must say before any rule is asked.

use super::{Call, Evaluation};
use crate::intent::Context;
use crate::policy::FailClosed;
use crate::verdict::Verdict;

/// The block, if `call` is of a class that fails closed and leaves something out.
pub(super) fn check(policy: &FailClosed, call: &Call<'_>) -> Option<Evaluation> {
    if !policy.enabled || !policy.risk_classes.contains(&call.context.risk_class) {
        return None;
    }
    let mut outcome = Evaluation::of(Verdict::Block);
    let unknown_class = call
        .targets
        .iter()
        .any(|target| target.endpoint_class == "other");
    if unknown_class {
        outcome.add(
            "fail_closed_endpoint_class_unknown",
            "endpoint_class_unknown",
        );
    }
    for field in &policy.required_fields {
        if !has_field(call, field, unknown_class) {
            note_missing(&mut outcome, field);
        }
    }
    for field in &policy.required_high_risk_fields {
        if !has_high_risk_field(call.context, field) {
            note_missing(&mut outcome, field);
        }
    }
    (!outcome.reason_codes.is_empty()).then_some(outcome)
}

fn note_missing(outcome: &mut Evaluation, field: &str) {
    if field == "context_evidence" {
        outcome.add("context_evidence_missing", "missing_context_evidence");
        return;
    }
    outcome.add(
        &format!("fail_closed_missing_{field}"),
        &format!("missing_{field}"),
    );
}

fn has_field(call: &Call<'_>, field: &str, unknown_class: bool) -> bool {
    match field {
        "targets" => !call.targets.is_empty(),
        "arg_provenance" => !call.arg_provenance.is_empty(),
        "endpoint_class" => !unknown_class,
        "delegation" => call.delegation.is_some(),
        "context_evidence" => call.evidence.is_some(),
        _ => false,
    }
}

fn has_high_risk_field(context: &Context, field: &str) -> bool {
    let text = match field {
        "agent_identity" => return context.agent_identity.is_some(),
        "credential_ttl_seconds" => return context.credential_ttl_seconds > 0,
        "agent_id" => &context.agent_id,
        "run_id" => &context.run_id,
        "workflow_id" => &context.workflow_id,
        "repo" => &context.repo,
        "environment" => &context.environment,
        "credential_ref" => &context.credential_ref,
        "credential_source" => &context.credential_source,
        "credential_access_type" => &context.credential_access_type,
        "credential_issuer" => &context.credential_issuer,
        "approval_ref" => &context.approval_ref,
        "wrkr_inventory_ref" => &context.wrkr_inventory_ref,
        "agent_action_bom_ref" => &context.agent_action_bom_ref,
        _ => return false,
    };
    !text.is_empty()
}
