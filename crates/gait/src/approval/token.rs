//! The token itself: made, read, checked.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, SigningKey, VerifyingKey};

use super::weigh::Expected;
use super::{SCHEMA_ID, SCHEMA_VERSION};
use crate::VERSION;
use crate::clock::has_ended;
use crate::limits::{MAX_FIELD, MAX_SCOPE, at_most, invalid};
use crate::record::{self, Record, Unsigned};
use crate::text;
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
#[derive(Clone, Debug)]
pub struct Token {
    record: Record,
    fields: Fields,
}

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
pub(super) struct Fields {
    pub(super) schema_id: String,
    pub(super) schema_version: String,
    pub(super) created_at: WireTime,
    pub(super) producer_version: String,
    pub(super) token_id: String,
    pub(super) approver_identity: String,
    pub(super) reason_code: String,
    pub(super) intent_digest: String,
    pub(super) policy_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) delegation_binding_digest: String,
    pub(super) scope: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) max_targets: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) max_ops: i64,
    pub(super) expires_at: WireTime,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Token {
    /// Makes and signs a token that is valid from `now` on; returns it with the bytes of its file.
    pub fn mint(mint: &Mint, key: &SigningKey, now: Timestamp) -> Result<(Self, Vec<u8>)> {
        let fields = Fields::of(mint, now)?;
        let bytes = record::signed_file(&fields, key)?;
        Ok((Self::parse(&bytes)?, bytes))
    }

    /// Reads a token file.
    ///
    /// Errors: those of reading the file; `invalid_input` for what is no JSON object of this shape.
    pub fn load(path: &Path) -> Result<Self> {
        Self::read(Record::load("approval token", path)?)
    }

    /// Reads a token.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::read(Record::parse("approval token", bytes)?)
    }

    fn read(record: Record) -> Result<Self> {
        let fields: Fields = record.read("approval token")?;
        at_most(
            "approval token scopes",
            fields.scope.len(),
            MAX_SCOPE,
            "token_too_large",
        )?;
        Ok(Self { record, fields })
    }

    /// Checks, in the format's order, that this token approves what is expected and `key` says so.
    pub fn check(&self, key: &VerifyingKey, expected: &Expected) -> Result<(), Flaw> {
        let fields = &self.fields;
        if !fields.is_complete() {
            return Err(Flaw::Invalid);
        }
        self.record.verify(key).map_err(|unsigned| match unsigned {
            Unsigned::Missing => Flaw::SignatureMissing,
            Unsigned::Invalid => Flaw::SignatureInvalid,
        })?;
        let binding = expected.delegation_binding.map(|digest| digest.to_string());
        let checks = [
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
        ];
        let failed = checks.into_iter().find(|(holds, _)| !holds);
        failed.map_or(Ok(()), |(_, flaw)| Err(flaw))
    }

    /// What names the token.
    pub fn token_id(&self) -> &str {
        self.fields.token_id.trim()
    }

    /// Who approved.
    pub fn approver_identity(&self) -> &str {
        self.fields.approver_identity.trim()
    }

    /// Why.
    pub fn reason_code(&self) -> &str {
        self.fields.reason_code.trim()
    }

    /// For which uses: lower-case, sorted.
    pub fn scope(&self) -> Vec<String> {
        text::sorted_set_lower(&self.fields.scope)
    }

    /// Until when; unset when it does not say, and then it is invalid.
    pub const fn expires_at(&self) -> WireTime {
        self.fields.expires_at
    }

    /// Whether it is good for one decision only.
    pub fn is_single_use(&self) -> bool {
        self.scope().iter().any(|scope| scope == SINGLE_USE)
    }

    /// The hex SHA-256 of the public key that claims to have signed.
    pub fn key_id(&self) -> &str {
        self.record.key_id()
    }
}

impl Fields {
    fn of(mint: &Mint, now: Timestamp) -> Result<Self> {
        let approver_identity = required("approver identity", &mint.approver_identity)?;
        let reason_code = required("reason code", &mint.reason_code)?;
        let scope = text::sorted_set_lower(&mint.scope);
        if scope.is_empty() {
            return Err(invalid("scope must include at least one value"));
        }
        at_most("scopes", scope.len(), MAX_SCOPE, "token_too_large")?;
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
            scope,
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

    /// Whether every required scope is there, or `*`.
    fn covers(&self, required: &[String]) -> bool {
        let scope = text::sorted_set_lower(&self.scope);
        scope.iter().any(|scope| scope == "*") || required.iter().all(|one| scope.contains(one))
    }
}

fn required(what: &str, text: &str) -> Result<String> {
    at_most(what, text.len(), MAX_FIELD, "token_too_large")?;
    match text.trim() {
        "" => Err(invalid(format!("{what} is required"))),
        text => Ok(text.to_owned()),
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
