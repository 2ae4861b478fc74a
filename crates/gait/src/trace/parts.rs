//! Parts of the record that stand together in its order: credentials, and the delegation.

use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, canonical_json};

use super::Circumstances;
use crate::broker::Credential;
use crate::intent::{Context, Delegation, Normal};

/// The credential that the broker handed out; its fields stand together in the record's order.
#[derive(Default, Serialize)]
pub(super) struct Brokered<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    broker_credential_access_type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    broker_credential_issuer: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    broker_credential_ref: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    broker_credential_source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    broker_job_binding: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker_request_digest: Option<Sha256>,
    #[serde(skip_serializing_if = "str::is_empty")]
    broker_run_binding: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    broker_target_binding: &'a str,
}

/// The credential that the intent says it has; its fields stand together in the record's order.
#[derive(Serialize)]
pub(super) struct Claimed<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_access_type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_issuer: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_job_binding: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_owner: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_ref: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_run_binding: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_source: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_subject: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    credential_target_binding: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_ttl_seconds: Option<i64>,
}

/// On whose authority the call was made, by reference.
#[derive(Serialize)]
pub(super) struct DelegationRef<'a> {
    chain_digest: Sha256,
    #[serde(skip_serializing_if = "Option::is_none")]
    delegation_depth: Option<usize>,
    #[serde(skip_serializing_if = "str::is_empty")]
    delegation_token_ref: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    reason_codes: &'a [&'static str],
    requester_identity: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope_class: &'a str,
}

impl<'a> Brokered<'a> {
    pub(super) fn of(credential: &'a Credential) -> Self {
        Self {
            broker_credential_access_type: &credential.access_type,
            broker_credential_issuer: credential.issuer(),
            broker_credential_ref: &credential.credential_ref,
            broker_credential_source: &credential.source,
            broker_job_binding: &credential.job_binding,
            broker_request_digest: credential.request_digest,
            broker_run_binding: &credential.run_binding,
            broker_target_binding: &credential.target_binding,
        }
    }
}

impl<'a> Claimed<'a> {
    pub(super) fn of(context: &'a Context) -> Self {
        Self {
            credential_access_type: &context.credential_access_type,
            credential_issuer: &context.credential_issuer,
            credential_job_binding: &context.credential_job_binding,
            credential_owner: &context.credential_owner,
            credential_ref: &context.credential_ref,
            credential_run_binding: &context.credential_run_binding,
            credential_source: &context.credential_source,
            credential_subject: &context.credential_subject,
            credential_target_binding: &context.credential_target_binding,
            credential_ttl_seconds: Some(context.credential_ttl_seconds).filter(|ttl| *ttl > 0),
        }
    }
}

impl<'a> DelegationRef<'a> {
    pub(super) fn of(
        normal: &'a Normal,
        circumstances: &'a Circumstances<'_>,
    ) -> Result<Option<Self>> {
        let delegation = normal.delegation.as_ref();
        let reference = |delegation| Self::new(delegation, circumstances);
        delegation.map(reference).transpose()
    }

    fn new(delegation: &'a Delegation, circumstances: &'a Circumstances<'_>) -> Result<Self> {
        let claimed = delegation.token_refs.first().map_or("", String::as_str);
        let proven = circumstances.delegation_token_ref.as_str();
        Ok(Self {
            chain_digest: Sha256::of(canonical_json(delegation)?),
            delegation_depth: Some(delegation.chain.len()).filter(|depth| *depth > 0),
            delegation_token_ref: if proven.is_empty() { claimed } else { proven },
            reason_codes: &circumstances.delegation_codes,
            requester_identity: &delegation.requester_identity,
            scope_class: &delegation.scope_class,
        })
    }
}
