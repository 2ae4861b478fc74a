//! The token itself: made, read, checked.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, SigningKey, VerifyingKey};

use super::weigh::Expected;
use super::{SCHEMA_ID, SCHEMA_VERSION};
use crate::VERSION;
use crate::clock::has_ended;
use crate::limits::invalid;
use crate::record;
use crate::text;
use crate::token::{self, Unfit, first_flaw, required, scope_of};
use crate::trace::short_id;
use crate::wire_time::WireTime;

/// The scope value of a token that is good for one decision only.
pub const SINGLE_USE: &str = "use:once";

/// What a person approves.
#[derive(Clone, Debug)]
pub struct Mint {
    /// Who approves.
    pub approver_identity: String,
    /// Why, as a code of the approver's own.
    pub reason_code: String,
    /// The one intent that is approved.
    pub intent_digest: Sha256,
    /// The one policy under which it is approved.
    pub policy_digest: Sha256,
    /// The delegation under which the intent must act, if it acts under one.
    pub delegation_binding_digest: Option<Sha256>,
    /// For which uses, such as `tool:tool.write`.
    pub scope: Vec<String>,
    /// At most this many targets; 0 for any number.
    pub max_targets: i64,
    /// At most this many operations; 0 for any number.
    pub max_ops: i64,
    /// For how long.
    pub ttl: SignedDuration,
}

/// An approval token as it was read; whether it is worth anything is up to [`Token::check`].
pub type Token = token::Token<Fields>;

/// Why a token does not approve; [`Flaw::code`] is what audits and outputs say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A field is missing or has no valid value.
    Invalid,
    /// Nobody signed it.
    SignatureMissing,
    /// The approver's key did not sign it as it is.
    SignatureInvalid,
    /// It is for another intent.
    IntentMismatch,
    /// It is for another policy.
    PolicyMismatch,
    /// It is for another delegation, or for none where there is one.
    DelegationBindingMismatch,
    /// Its time is over.
    Expired,
    /// It is not for this use.
    ScopeMismatch,
    /// It is for fewer targets.
    MaxTargetsExceeded,
    /// It is for fewer operations.
    MaxOpsExceeded,
    /// It was good for one decision, which was made.
    AlreadyRedeemed,
    /// It is good for one decision, and nothing remembers whether that was made.
    RedemptionUnavailable,
}

/// The record, in the order in which the format writes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Fields {
    schema_id: String,
    schema_version: String,
    created_at: WireTime,
    producer_version: String,
    token_id: String,
    approver_identity: String,
    reason_code: String,
    intent_digest: String,
    policy_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    delegation_binding_digest: String,
    scope: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    max_targets: i64,
    #[serde(skip_serializing_if = "is_zero")]
    max_ops: i64,
    expires_at: WireTime,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl token::Fields for Fields {
    const WHAT: &'static str = "approval token";

    fn token_id(&self) -> &str {
        &self.token_id
    }

    fn scope(&self) -> &[String] {
        &self.scope
    }

    fn expires_at(&self) -> WireTime {
        self.expires_at
    }

    fn is_complete(&self) -> bool {
        let texts = [&self.token_id, &self.approver_identity, &self.reason_code];
        let binding = &self.delegation_binding_digest;
        record::is_schema(&self.schema_id, SCHEMA_ID)
            && record::is_schema(&self.schema_version, SCHEMA_VERSION)
            && texts.iter().all(|text| !text.trim().is_empty())
            && record::is_digest(&self.intent_digest)
            && record::is_digest(&self.policy_digest)
            && (binding.is_empty() || record::is_digest(binding))
            && !text::sorted_set(&self.scope).is_empty()
            && self.max_targets >= 0
            && self.max_ops >= 0
            && !self.created_at.is_unset()
            && !self.expires_at.is_unset()
    }
}

impl Token {
    /// Makes and signs a token that is valid from `now` on; returns it with the bytes of its file.
    pub fn mint(mint: &Mint, key: &SigningKey, now: Timestamp) -> Result<(Self, Vec<u8>)> {
        Self::issue(&Fields::of(mint, now)?, key)
    }

    /// Checks, in the format's order, that this token approves what is expected and `key` says so.
    pub fn check(&self, key: &VerifyingKey, expected: &Expected) -> Result<(), Flaw> {
        let fields = self.verified(key)?;
        let binding = expected.delegation_binding.map(|digest| digest.to_string());
        first_flaw([
            (
                text::lower(&fields.intent_digest) == expected.intent_digest.to_string(),
                Flaw::IntentMismatch,
            ),
            (
                text::lower(&fields.policy_digest) == expected.policy_digest.to_string(),
                Flaw::PolicyMismatch,
            ),
            (
                binding
                    .is_none_or(|digest| text::lower(&fields.delegation_binding_digest) == digest),
                Flaw::DelegationBindingMismatch,
            ),
            (!has_ended(fields.expires_at, expected.now), Flaw::Expired),
            (fields.covers(&expected.scope), Flaw::ScopeMismatch),
            (
                fields.max_targets == 0 || expected.targets <= fields.max_targets,
                Flaw::MaxTargetsExceeded,
            ),
            (
                fields.max_ops == 0 || expected.operations <= fields.max_ops,
                Flaw::MaxOpsExceeded,
            ),
        ])
    }

    /// Who approved.
    pub fn approver_identity(&self) -> &str {
        self.unverified().approver_identity.trim()
    }

    /// Why.
    pub fn reason_code(&self) -> &str {
        self.unverified().reason_code.trim()
    }

    /// Whether it is good for one decision only.
    pub fn is_single_use(&self) -> bool {
        self.scope().iter().any(|scope| scope == SINGLE_USE)
    }
}

impl Fields {
    fn of(mint: &Mint, now: Timestamp) -> Result<Self> {
        let approver_identity = required("approver identity", &mint.approver_identity)?;
        let reason_code = required("reason code", &mint.reason_code)?;
        if mint.max_targets < 0 || mint.max_ops < 0 {
            return Err(invalid("max_targets and max_ops must be >= 0"));
        }
        let mut fields = Self {
            schema_id: SCHEMA_ID.to_owned(),
            schema_version: SCHEMA_VERSION.to_owned(),
            created_at: WireTime::at(now),
            producer_version: VERSION.to_owned(),
            token_id: String::new(),
            approver_identity,
            reason_code,
            intent_digest: mint.intent_digest.to_string(),
            policy_digest: mint.policy_digest.to_string(),
            delegation_binding_digest: mint
                .delegation_binding_digest
                .map(|digest| digest.to_string())
                .unwrap_or_default(),
            scope: scope_of(&mint.scope)?,
            max_targets: mint.max_targets,
            max_ops: mint.max_ops,
            expires_at: record::expiry(now, mint.ttl)?,
        };
        fields.token_id = fields.derive_id();
        Ok(fields)
    }

    fn derive_id(&self) -> String {
        short_id(&format!(
            "{}:{}:{}:{}:{}:{}:{}:{}",
            self.intent_digest,
            self.policy_digest,
            self.approver_identity,
            self.reason_code,
            self.scope.join(","),
            self.max_targets,
            self.max_ops,
            self.expires_at
        ))
    }

    /// Whether every required scope is there, or `*`.
    fn covers(&self, required: &[String]) -> bool {
        let scope = text::sorted_set_lower(&self.scope);
        scope.iter().any(|scope| scope == "*") || required.iter().all(|one| scope.contains(one))
    }
}

impl From<Unfit> for Flaw {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Incomplete => Self::Invalid,
            Unfit::Unsigned => Self::SignatureMissing,
            Unfit::Forged => Self::SignatureInvalid,
        }
    }
}

impl Flaw {
    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Invalid => "approval_token_invalid",
            Self::SignatureMissing => "approval_token_signature_missing",
            Self::SignatureInvalid => "approval_token_signature_invalid",
            Self::IntentMismatch => "approval_token_intent_mismatch",
            Self::PolicyMismatch => "approval_token_policy_mismatch",
            Self::DelegationBindingMismatch => "approval_token_delegation_binding_mismatch",
            Self::Expired => "approval_token_expired",
            Self::ScopeMismatch => "approval_token_scope_mismatch",
            Self::MaxTargetsExceeded => "approval_token_max_targets_exceeded",
            Self::MaxOpsExceeded => "approval_token_max_ops_exceeded",
            Self::AlreadyRedeemed => "approval_token_already_redeemed",
            Self::RedemptionUnavailable => "approval_token_redemption_unavailable",
        }
    }
}
