//! The audit record of the delegations of one decision.

use serde::Serialize;
use worldcompute_fault::Result;

use super::chain::{Chain, Entry};
use crate::VERSION;
use crate::record::json_file;
use crate::trace::{Relationship, Subject};
use crate::wire_time::WireTime;

/// Who lent what to whom with which token, and whether that was enough (`gait.gate.delegation_audit_record` 1.0.0).
#[derive(Serialize)]
pub struct AuditRecord<'a> {
    schema_id: &'static str,
    schema_version: &'static str,
    created_at: WireTime,
    producer_version: &'static str,
    trace_id: &'a str,
    tool_name: &'a str,
    intent_digest: String,
    policy_digest: String,
    delegation_required: bool,
    valid_delegations: usize,
    /// Whether the decision counted the chain as complete.
    delegated: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    delegation_ref: String,
    relationship: Relationship<'a>,
    entries: &'a [Entry],
}

impl<'a> AuditRecord<'a> {
    /// The record of `chain` for the decision on `subject`, which needed it if `required`.
    pub fn new(subject: &Subject<'a>, chain: &'a Chain, required: bool) -> Self {
        let entries = chain.entries();
        let links: Vec<_> = entries
            .iter()
            .map(|entry| {
                (
                    entry.delegator_identity.as_str(),
                    entry.delegate_identity.as_str(),
                )
            })
            .collect();
        Self {
            schema_id: "gait.gate.delegation_audit_record",
            schema_version: "1.0.0",
            created_at: subject.created_at,
            producer_version: VERSION,
            trace_id: subject.trace_id,
            tool_name: subject.tool_name,
            intent_digest: subject.intent_digest.to_string(),
            policy_digest: subject.policy_digest.to_string(),
            delegation_required: required,
            valid_delegations: chain.valid(),
            delegated: chain.granted(),
            delegation_ref: chain.reference(),
            relationship: Relationship::of_delegations(subject, &links),
            entries,
        }
    }

    /// The file: JSON with a final line break.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        json_file(self)
    }
}
