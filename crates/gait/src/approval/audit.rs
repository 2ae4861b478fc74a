//! The audit record of the approvals of one decision.

use serde::Serialize;
use worldcompute_fault::Result;

use super::weigh::{Approvals, Entry};
use crate::VERSION;
use crate::record::json_file;
use crate::trace::{Relationship, Subject};
use crate::wire_time::WireTime;

/// Who approved what with which token, and whether that was enough (`gait.gate.approval_audit_record` 1.0.0).
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
    required_approvals: usize,
    valid_approvals: usize,
    /// Whether the decision counted them as enough.
    approved: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    approvers: Vec<&'a str>,
    relationship: Relationship<'a>,
    entries: &'a [Entry],
}

impl<'a> AuditRecord<'a> {
    /// The record of `approvals` for the decision on `subject`.
    pub fn new(subject: &Subject<'a>, approvals: &'a Approvals) -> Self {
        let approvers: Vec<_> = approvals.approvers().into_iter().collect();
        Self {
            schema_id: "gait.gate.approval_audit_record",
            schema_version: "1.0.0",
            created_at: subject.created_at,
            producer_version: VERSION,
            trace_id: subject.trace_id,
            tool_name: subject.tool_name,
            intent_digest: subject.intent_digest.to_string(),
            policy_digest: subject.policy_digest.to_string(),
            required_approvals: approvals.required(),
            valid_approvals: approvals.valid(),
            approved: approvals.granted(),
            relationship: Relationship::of_approvers(subject, &approvers),
            approvers,
            entries: approvals.entries(),
        }
    }

    /// The file: JSON with a final line break.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        json_file(self)
    }
}
