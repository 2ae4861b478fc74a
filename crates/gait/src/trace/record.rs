//! The trace as the gate writes it.
//!
//! Every struct here, and every one it refers to, declares its fields in the order of RFC 8785, so that writing one is
//! writing its canonical form: sorting it afterwards would cost more than everything else but the signature.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, SigningKey};

use super::parts::{Brokered, Claimed, DelegationRef};
use super::relationship::Relationship;
use super::{
    Circumstances, Observation, SCHEMA_ID, SCHEMA_VERSION, SignedTrace, Trace, short_id, trace_id,
};
use crate::evaluate::{Evaluation, FreezeDecision, SandboxDecision, StepVerdict};
use crate::intent::{AgentIdentity, Intent, SkillProvenance};
use crate::kill_switch;
use crate::limits::{MAX_TRACE_BYTES, at_most};
use crate::policy::{self, Policy};
use crate::signature::SignatureObject;
use crate::verdict::Verdict;
use crate::wire_time::WireTime;

/// Signs the record of one decision; `trace_too_large` for a record that no verifier would read.
pub(crate) fn issue(
    policy: &Policy,
    intent: &Intent,
    evaluation: &Evaluation,
    observation: &Observation<'_>,
    circumstances: &Circumstances<'_>,
    key: &SigningKey,
) -> Result<SignedTrace> {
    let mut record = Record::new(policy, intent, evaluation, observation, circumstances)?;
    let signature = SignatureObject::sign(&record.signable()?, key);
    let key_id = signature.key_id.clone();
    record.signature = Some(signature);
    let mut bytes = serde_json::to_vec_pretty(&record).map_err(unwritable)?;
    bytes.push(b'\n');
    at_most(
        "trace bytes",
        bytes.len(),
        MAX_TRACE_BYTES,
        "trace_too_large",
    )?;
    Ok(SignedTrace(Trace {
        bytes,
        trace_id: record.trace_id,
        verdict: evaluation.verdict,
        tool_name: intent.tool_name().to_owned(),
        intent_digest: intent.digest(),
        policy_digest: policy.digest(),
        key_id,
        simulated: circumstances.simulated,
        run_id: intent.context().run_id.clone(),
    }))
}

fn unwritable(error: serde_json::Error) -> Fault {
    Fault::new(Category::InternalFailure, "internal_failure", "write trace").caused_by(error)
}

/// The record. What is empty is left out, as every reader of the format expects.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    agent_action_bom_ref: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    agent_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_identity: Option<&'a AgentIdentity>,
    #[serde(skip_serializing_if = "str::is_empty")]
    approval_ref: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    approval_token_ref: &'a str,
    args_digest: Sha256,
    #[serde(flatten)]
    brokered: Brokered<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    composite_risk_class: Option<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    context_evidence_mode: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_ref_count: Option<usize>,
    #[serde(skip_serializing_if = "str::is_empty")]
    context_set_digest: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    context_source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    correlation_id: &'a str,
    created_at: WireTime,
    #[serde(flatten)]
    claimed: Claimed<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delegation_ref: Option<DelegationRef<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    environment: &'a str,
    event_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    freeze_window: Option<&'a FreezeDecision>,
    intent_digest: Sha256,
    #[serde(skip_serializing_if = "Option::is_none")]
    kill_switch: Option<&'a kill_switch::Decision>,
    #[serde(skip_serializing_if = "Milliseconds::is_zero")]
    latency_ms: Milliseconds,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    matched_rule_ids: &'a [String],
    observed_at: WireTime,
    #[serde(skip_serializing_if = "str::is_empty")]
    pattern_id: &'a str,
    policy_digest: Sha256,
    policy_id: &'static str,
    policy_version: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pre_approved: bool,
    producer_version: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    registry_reason: &'static str,
    relationship: Relationship<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    repo: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    run_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<&'a SandboxDecision>,
    schema_id: &'static str,
    schema_version: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    script: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    script_hash: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<SignatureObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skill_provenance: Option<&'a SkillProvenance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step_count: Option<usize>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    step_verdicts: &'a [StepVerdict],
    tool_name: &'a str,
    trace_id: String,
    verdict: Verdict,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    violations: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    workflow_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    wrkr_inventory_ref: &'a str,
}

/// A span of time, kept in nanoseconds and written in milliseconds.
struct Milliseconds(u64);

impl Milliseconds {
    const NANOS: u64 = 1_000_000;
    /// The span from which the canonical form of the number needs no exponent.
    const SHORTEST: u64 = 10;

    fn between(start: Timestamp, end: Timestamp) -> Self {
        let nanos = u64::try_from(end.duration_since(start).as_nanos()).unwrap_or_default();
        Self(if nanos < Self::SHORTEST { 0 } else { nanos })
    }

    const fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl Serialize for Milliseconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Self(nanos) = *self;
        if nanos % Self::NANOS == 0 {
            return serializer.serialize_u64(nanos / Self::NANOS);
        }
        serializer.serialize_f64(std::time::Duration::from_nanos(nanos).as_secs_f64() * 1e3)
    }
}

impl<'a> Record<'a> {
    pub(super) fn new(
        policy: &Policy,
        intent: &'a Intent,
        evaluation: &'a Evaluation,
        observation: &Observation<'a>,
        circumstances: &'a Circumstances<'a>,
    ) -> Result<Self> {
        let normal = intent.normal();
        let context = &normal.context;
        let script = evaluation.script.as_ref();
        let trace_id = trace_id(policy.digest(), intent.digest(), evaluation.verdict);
        let observed_at = WireTime::at(observation.ended_at);
        let rules = &evaluation.matched_rules;
        Ok(Self {
            agent_action_bom_ref: &context.agent_action_bom_ref,
            agent_id: &context.agent_id,
            agent_identity: context.agent_identity.as_ref(),
            approval_ref: &context.approval_ref,
            approval_token_ref: &circumstances.approval_token_ref,
            args_digest: intent.args_digest(),
            brokered: circumstances
                .credential
                .map(Brokered::of)
                .unwrap_or_default(),
            composite_risk_class: script.map(|script| script.composite_risk_class),
            context_evidence_mode: &context.context_evidence_mode,
            context_ref_count: Some(context.context_refs.len()).filter(|count| *count > 0),
            context_set_digest: &context.context_set_digest,
            context_source: &evaluation.context_source,
            correlation_id: observation.correlation_id,
            created_at: WireTime::at(intent.created_at().get().unwrap_or(WireTime::UNDATED)),
            claimed: Claimed::of(context),
            delegation_ref: DelegationRef::of(normal, circumstances)?,
            environment: &context.environment,
            event_id: short_id(&format!("{trace_id}:{observed_at}")),
            freeze_window: evaluation.freeze_window.as_ref(),
            intent_digest: intent.digest(),
            kill_switch: circumstances.kill_switch,
            latency_ms: Milliseconds::between(observation.started_at, observation.ended_at),
            matched_rule_ids: rules,
            observed_at,
            pattern_id: circumstances.approved_script.unwrap_or_default(),
            policy_digest: policy.digest(),
            policy_id: policy::SCHEMA_ID,
            policy_version: policy::SCHEMA_VERSION,
            pre_approved: circumstances.approved_script.is_some(),
            producer_version: crate::VERSION,
            registry_reason: circumstances.registry_reason,
            relationship: Relationship::new(normal, &trace_id, policy.digest(), rules)
                .linked(circumstances.link.as_ref())
                .simulated(circumstances.simulated),
            repo: &context.repo,
            run_id: &context.run_id,
            sandbox: evaluation.sandbox.as_ref(),
            schema_id: SCHEMA_ID,
            schema_version: SCHEMA_VERSION,
            script: script.is_some(),
            script_hash: normal.script_hash,
            signature: None,
            skill_provenance: normal.skill_provenance.as_ref(),
            step_count: script.map(|script| script.steps.len()),
            step_verdicts: script.map_or(&[], |script| &script.steps),
            tool_name: &normal.tool_name,
            trace_id,
            verdict: evaluation.verdict,
            violations: &evaluation.violations,
            workflow_id: &context.workflow_id,
            wrkr_inventory_ref: &context.wrkr_inventory_ref,
        })
    }

    /// The canonical JSON that the signature covers.
    pub(super) fn signable(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(unwritable)
    }
}
