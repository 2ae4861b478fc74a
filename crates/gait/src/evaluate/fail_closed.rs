//! What an intent of a risky class must say before any rule is asked.

use super::{Call, Evaluation};
use crate::intent::Context;
use crate::policy::FailClosed;
use crate::verdict::Verdict;

/// What an intent leaves out that its class must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MissingField {
    /// A class of endpoint that is known, for every target.
    EndpointClass,
    /// One of `required_fields`.
    Required(String),
    /// One of `required_high_risk_fields`.
    HighRisk(String),
}

/// The block, if the intent is of a class that fails closed and leaves something out.
///
/// `calls` are the whole intent and, if it is a script, its steps: what a step reaches is not known because the script
/// names something else.
pub(super) fn check(policy: &FailClosed, calls: &[Call<'_>]) -> Option<Evaluation> {
    let missing = missing(policy, calls);
    if missing.is_empty() {
        return None;
    }
    let mut outcome = Evaluation::of(Verdict::Block);
    for field in &missing {
        match field {
            MissingField::EndpointClass => outcome.add(
                "fail_closed_endpoint_class_unknown",
                "endpoint_class_unknown",
            ),
            MissingField::Required(field) | MissingField::HighRisk(field) => {
                note_missing(&mut outcome, field);
            }
        }
    }
    Some(outcome)
}

/// Everything that the intent leaves out although its class fails closed; see [`check`].
pub(super) fn missing(policy: &FailClosed, calls: &[Call<'_>]) -> Vec<MissingField> {
    let Some(call) = calls
        .first()
        .filter(|whole| policy.enabled && policy.risk_classes.contains(&whole.context.risk_class))
    else {
        return Vec::new();
    };
    let mut targets = calls.iter().flat_map(|call| call.targets);
    let unknown_class = targets.any(|target| target.endpoint_class == "other");
    let class = unknown_class.then_some(MissingField::EndpointClass);
    let required = policy.required_fields.iter();
    let all_have = |field: &String| {
        calls
            .iter()
            .all(|call| has_field(call, field, unknown_class))
    };
    let required = required.filter(|field| !all_have(field));
    let high_risk = policy.required_high_risk_fields.iter();
    let high_risk = high_risk.filter(|field| !has_high_risk_field(call.context, field));
    class
        .into_iter()
        .chain(required.cloned().map(MissingField::Required))
        .chain(high_risk.cloned().map(MissingField::HighRisk))
        .collect()
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
