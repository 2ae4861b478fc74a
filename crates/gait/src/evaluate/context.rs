//! Which evidence of its context a rule asks a call for.

use serde::Serialize;

use super::breach::Breach;
use crate::evidence::VerifiedContext;

/// What a rule says about context evidence; serialised, it is the rule's part of the policy digest.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ContextClause {
    #[serde(
        rename = "RequireContextEvidence",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub(crate) required: bool,
    /// Whether the evidence has to have been collected in the mode `required`.
    #[serde(
        rename = "RequiredContextEvidenceMode",
        serialize_with = "mode",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub(crate) in_required_mode: bool,
    /// 0 sets no limit.
    #[serde(
        rename = "MaxContextAgeSeconds",
        skip_serializing_if = "super::is_zero"
    )]
    pub(crate) max_age_seconds: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn mode<S: serde::Serializer>(_: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(REQUIRED)
}

const REQUIRED: &str = "required";

impl ContextClause {
    /// Whether any evidence is asked for.
    pub(crate) fn asks(&self) -> bool {
        self.required || self.in_required_mode || self.max_age_seconds > 0
    }

    pub(super) fn breaches(&self, evidence: Option<&VerifiedContext>, found: &mut Vec<Breach<'_>>) {
        if !self.asks() {
            return;
        }
        if evidence.is_none() {
            let missing = ["context_evidence_missing", "context_set_digest_missing"];
            found.extend(missing.map(|reason| {
                Breach::block(
                    "require_context_evidence",
                    reason,
                    "missing_context_evidence",
                )
            }));
        }
        if self.in_required_mode && evidence.is_none_or(|evidence| evidence.mode != REQUIRED) {
            found.push(Breach::block(
                "required_context_evidence_mode",
                "context_evidence_mode_mismatch",
                "context_evidence_mode_violation",
            ));
        }
        let age = evidence.and_then(|evidence| evidence.age_seconds);
        let limit = self.max_age_seconds;
        if limit > 0 && age.is_none_or(|age| age > limit) {
            found.push(Breach::block(
                "max_context_age_seconds",
                "context_freshness_exceeded",
                "context_freshness_violation",
            ));
        }
    }
}
