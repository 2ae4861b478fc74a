//! The trace as the gate writes it.

use jiff::Timestamp;
use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, SigningKey, canonical_json};

use super::relationship::Relationship;
use super::{Observation, SCHEMA_ID, SCHEMA_VERSION, SignedTrace, Trace, short_id, trace_id};
use crate::evaluate::{Evaluation, StepVerdict};
use crate::intent::{AgentIdentity, Delegation, Intent, SkillProvenance};
use crate::policy::{self, Policy};
use crate::signature::SignatureObject;
use crate::verdict::Verdict;
use crate::wire_time::WireTime;

/// 1980-01-01, the time of an intent that does not say when it was made.
const UNDATED: Timestamp = Timestamp::constant(315_532_800, 0);

/// Signs the record of one decision.
pub(crate) fn issue(
    policy: &Policy,
    intent: &Intent,
    evaluation: &Evaluation,
    observation: Observation<'_>,
    key: &SigningKey,
) -> Result<SignedTrace> {
    let mut record = Record::new(policy, intent, evaluation, &observation)?;
    let signature = SignatureObject::sign(&canonical_json(&record)?, key);
    let key_id = signature.key_id.clone();
    record.signature = Some(signature);
    let mut bytes = serde_json::to_vec_pretty(&record).map_err(unwritable)?;
    bytes.push(b'\n');
    Ok(SignedTrace(Trace {
        bytes,
        trace_id: record.trace_id,
        verdict: evaluation.verdict,
        tool_name: intent.tool_name().to_owned(),
        intent_digest: intent.digest(),
        policy_digest: policy.digest(),
        key_id,
    }))
}

fn unwritable(error: serde_json::Error) -> Fault {
    Fault::new(Category::InternalFailure, "internal_failure", "write trace").caused_by(error)
}

/// The fields in the order of the format; what is empty is left out, as every reader expects.
#[derive(Serialize)]
struct Record<'a> {
    schema_id: &'static str,
    schema_version: &'static str,
    created_at: WireTime,
    observed_at: WireTime,
    producer_version: &'static str,
    trace_id: String,
    event_id: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    correlation_id: &'a str,
    tool_name: &'a str,
    args_digest: Sha256,
    intent_digest: Sha256,
    policy_digest: Sha256,
    #[serde(flatten)]
    echo: Echo<'a>,
    policy_id: &'static str,
    policy_version: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    matched_rule_ids: &'a [String],
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script_hash: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    composite_risk_class: Option<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    step_verdicts: &'a [StepVerdict],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    violations: &'a [String],
    #[serde(skip_serializing_if = "is_zero")]
    latency_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    delegation_ref: Option<DelegationRef<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skill_provenance: Option<&'a SkillProvenance>,
    relationship: Relationship<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<SignatureObject>,
}

/// What the trace repeats of the intent's context.
#[derive(Serialize)]
struct Echo<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    agent_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_identity: Option<&'a AgentIdentity>,
    #[serde(skip_serializing_if = "str::is_empty")]
    run_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    workflow_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    repo: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    environment: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_ref: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_access_type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_issuer: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_subject: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_owner: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_target_binding: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_run_binding: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_job_binding: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_ttl_seconds: Option<i64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    approval_ref: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    wrkr_inventory_ref: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    agent_action_bom_ref: &'a str,
}

/// On whose authority the call was made, by reference.
#[derive(Serialize)]
struct DelegationRef<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    delegation_token_ref: &'a str,
    requester_identity: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    delegation_depth: Option<usize>,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope_class: &'a str,
    chain_digest: Sha256,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl<'a> Record<'a> {
    fn new(
        policy: &Policy,
        intent: &'a Intent,
        evaluation: &'a Evaluation,
        observation: &Observation<'a>,
    ) -> Result<Self> {
        let normal = intent.normal();
        let script = evaluation.script.as_ref();
        let trace_id = trace_id(policy.digest(), intent.digest(), evaluation.verdict);
        let observed_at = WireTime::at(observation.observed_at);
        let delegation_ref = normal
            .delegation
            .as_ref()
            .map(DelegationRef::new)
            .transpose()?;
        Ok(Self {
            schema_id: SCHEMA_ID,
            schema_version: SCHEMA_VERSION,
            created_at: WireTime::at(intent.created_at().get().unwrap_or(UNDATED)),
            observed_at,
            producer_version: env!("CARGO_PKG_VERSION"),
            event_id: short_id(&format!("{trace_id}:{observed_at}")),
            correlation_id: observation.correlation_id,
            tool_name: &normal.tool_name,
            args_digest: intent.args_digest(),
            intent_digest: intent.digest(),
            policy_digest: policy.digest(),
            echo: Echo::new(intent),
            policy_id: policy::SCHEMA_ID,
            policy_version: policy::SCHEMA_VERSION,
            matched_rule_ids: &evaluation.matched_rules,
            verdict: evaluation.verdict,
            script: script.map(|_| true),
            step_count: script.map(|script| script.steps.len()),
            script_hash: normal.script_hash,
            composite_risk_class: script.map(|script| script.composite_risk_class),
            step_verdicts: script.map_or(&[], |script| &script.steps),
            violations: &evaluation.violations,
            latency_ms: observation.latency_ms,
            delegation_ref,
            skill_provenance: normal.skill_provenance.as_ref(),
            relationship: Relationship::new(
                normal,
                &trace_id,
                policy.digest(),
                &evaluation.matched_rules,
            ),
            trace_id,
            signature: None,
        })
    }
}

impl<'a> Echo<'a> {
    fn new(intent: &'a Intent) -> Self {
        let context = intent.context();
        Self {
            agent_id: &context.agent_id,
            agent_identity: context.agent_identity.as_ref(),
            run_id: &context.run_id,
            workflow_id: &context.workflow_id,
            repo: &context.repo,
            environment: &context.environment,
            credential_ref: &context.credential_ref,
            credential_source: &context.credential_source,
            credential_access_type: &context.credential_access_type,
            credential_issuer: &context.credential_issuer,
            credential_subject: &context.credential_subject,
            credential_owner: &context.credential_owner,
            credential_target_binding: &context.credential_target_binding,
            credential_run_binding: &context.credential_run_binding,
            credential_job_binding: &context.credential_job_binding,
            credential_ttl_seconds: Some(context.credential_ttl_seconds).filter(|ttl| *ttl > 0),
            approval_ref: &context.approval_ref,
            wrkr_inventory_ref: &context.wrkr_inventory_ref,
            agent_action_bom_ref: &context.agent_action_bom_ref,
        }
    }
}

impl<'a> DelegationRef<'a> {
    fn new(delegation: &'a Delegation) -> Result<Self> {
        Ok(Self {
            delegation_token_ref: delegation.token_refs.first().map_or("", String::as_str),
            requester_identity: &delegation.requester_identity,
            delegation_depth: Some(delegation.chain.len()).filter(|depth| *depth > 0),
            scope_class: &delegation.scope_class,
            chain_digest: Sha256::of(canonical_json(delegation)?),
        })
    }
}
