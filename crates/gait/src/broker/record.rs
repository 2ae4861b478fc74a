//! The evidence that a credential was handed out.

use serde::Serialize;
use worldcompute_fault::Result;

use super::{Credential, Request};
use crate::VERSION;
use crate::intent::Intent;
use crate::record::json_file;
use crate::trace::Subject;
use crate::wire_time::WireTime;

/// Which credential was handed out for which decision (`gait.gate.broker_credential_record` 1.0.0).
#[derive(Serialize)]
pub struct EvidenceRecord<'a> {
    schema_id: &'static str,
    schema_version: &'static str,
    created_at: WireTime,
    producer_version: &'static str,
    trace_id: &'a str,
    tool_name: &'a str,
    identity: &'a str,
    broker: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reference: &'a str,
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
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    scope: &'a [String],
    credential_ref: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    target_binding: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    run_binding: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    job_binding: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    request_digest: String,
    issued_at: WireTime,
    expires_at: WireTime,
    #[serde(skip_serializing_if = "is_zero")]
    ttl_seconds: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl<'a> EvidenceRecord<'a> {
    /// The record of `credential`, handed out on `request`.
    pub fn new(
        subject: &Subject<'a>,
        intent: &'a Intent,
        request: &'a Request<'_>,
        credential: &'a Credential,
    ) -> Self {
        let digest = credential.request_digest;
        Self {
            schema_id: "gait.gate.broker_credential_record",
            schema_version: "1.0.0",
            created_at: subject.created_at,
            producer_version: VERSION,
            trace_id: subject.trace_id,
            tool_name: subject.tool_name,
            identity: &intent.context().identity,
            broker: &credential.issued_by,
            reference: request.reference(),
            credential_source: &credential.source,
            credential_access_type: &credential.access_type,
            credential_issuer: credential.issuer(),
            credential_subject: &credential.subject,
            credential_owner: &credential.owner,
            scope: request.scope(),
            credential_ref: &credential.credential_ref,
            target_binding: &credential.target_binding,
            run_binding: &credential.run_binding,
            job_binding: &credential.job_binding,
            request_digest: digest.map(|digest| digest.to_string()).unwrap_or_default(),
            issued_at: credential.issued_at,
            expires_at: credential.expires_at,
            ttl_seconds: credential.ttl_seconds,
        }
    }

    /// The file: JSON with a final line break.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        json_file(self)
    }
}
