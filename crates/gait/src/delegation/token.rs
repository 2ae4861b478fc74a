//! The token itself: made, read, checked.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, SigningKey, VerifyingKey};

use super::{SCHEMA_ID, SCHEMA_VERSION};
use crate::VERSION;
use crate::clock::has_ended;
use crate::limits::invalid;
use crate::record;
use crate::text;
use crate::token::{self, Unfit, bounded, first_flaw, required, scope_of};
use crate::trace::short_id;
use crate::wire_time::WireTime;

/// What one agent lends another.
#[derive(Clone, Debug)]
pub struct Mint {
    /// Who lends.
    pub delegator_identity: String,
    /// To whom.
    pub delegate_identity: String,
    /// For which uses.
    pub scope: Vec<String>,
    /// A class of uses, which counts as one more scope.
    pub scope_class: String,
    /// The one intent it is for, if it is for one.
    pub intent_digest: Option<Sha256>,
    /// The one policy it is for, if it is for one.
    pub policy_digest: Option<Sha256>,
    /// For how long.
    pub ttl: SignedDuration,
}

/// What a token is checked against; what is empty or `None` is not asked for.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// Who has to lend.
    pub delegator: &'a str,
    /// To whom.
    pub delegate: &'a str,
    /// Uses of which one has to be lent: lower-case.
    pub scope: &'a [String],
    /// The intent at hand: a token for one intent must be for this one.
    pub intent_digest: Option<Sha256>,
    /// The policy at hand: a token for one policy must be for this one.
    pub policy_digest: Option<Sha256>,
    /// The present.
    pub now: Timestamp,
}

/// A delegation token as it was read; whether it is worth anything is up to [`Token::check`].
pub type Token = token::Token<Fields>;

/// Why a token does not delegate; [`Flaw::code`] is what audits and outputs say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A field is missing or has no valid value.
    Invalid,
    /// Nobody signed it.
    SignatureMissing,
    /// The key did not sign it as it is.
    SignatureInvalid,
    /// Its time is over.
    Expired,
    /// Somebody else lends.
    DelegatorMismatch,
    /// It is lent to somebody else.
    DelegateMismatch,
    /// It is for another intent.
    IntentMismatch,
    /// It is for another policy.
    PolicyMismatch,
    /// It is not for this use.
    ScopeMismatch,
    /// It is valid and belongs to no link that still needs one.
    ChainMismatch,
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
    delegator_identity: String,
    delegate_identity: String,
    scope: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    scope_class: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    intent_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    policy_digest: String,
    expires_at: WireTime,
}

impl token::Fields for Fields {
    const WHAT: &'static str = "delegation token";

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
        let texts = [
            &self.token_id,
            &self.delegator_identity,
            &self.delegate_identity,
        ];
        let digests = [&self.intent_digest, &self.policy_digest];
        record::is_schema(&self.schema_id, SCHEMA_ID)
            && record::is_schema(&self.schema_version, SCHEMA_VERSION)
            && texts.iter().all(|text| !text.trim().is_empty())
            && digests
                .iter()
                .all(|digest| digest.trim().is_empty() || record::is_digest(digest))
            && !text::sorted_set(&self.scope).is_empty()
            && !self.created_at.is_unset()
            && !self.expires_at.is_unset()
    }
}

impl Token {
    /// Makes and signs a token that is valid from `now` on; returns it with the bytes of its file.
    pub fn mint(mint: &Mint, key: &SigningKey, now: Timestamp) -> Result<(Self, Vec<u8>)> {
        Self::issue(&Fields::of(mint, now)?, key)
    }

    /// Checks, in the format's order, that this token lends what is expected and `key` says so.
    pub fn check(&self, key: &VerifyingKey, expected: &Expected<'_>) -> Result<(), Flaw> {
        let fields = self.verified(key)?;
        let is = |have: &str, wanted: &str| wanted.is_empty() || have == wanted.trim();
        first_flaw([
            (!has_ended(fields.expires_at, expected.now), Flaw::Expired),
            (
                is(self.delegator_identity(), expected.delegator),
                Flaw::DelegatorMismatch,
            ),
            (
                is(self.delegate_identity(), expected.delegate),
                Flaw::DelegateMismatch,
            ),
            (
                is_for(&fields.intent_digest, expected.intent_digest),
                Flaw::IntentMismatch,
            ),
            (
                is_for(&fields.policy_digest, expected.policy_digest),
                Flaw::PolicyMismatch,
            ),
            (fields.covers(expected.scope), Flaw::ScopeMismatch),
        ])
    }

    /// Who lends.
    pub fn delegator_identity(&self) -> &str {
        self.unverified().delegator_identity.trim()
    }

    /// To whom.
    pub fn delegate_identity(&self) -> &str {
        self.unverified().delegate_identity.trim()
    }

    /// The class of uses; empty when it has none.
    pub fn scope_class(&self) -> String {
        text::trim_lower(&self.unverified().scope_class)
    }
}

/// Whether a token that names `bound`, or nothing, is good for `wanted`.
fn is_for(bound: &str, wanted: Option<Sha256>) -> bool {
    let bound = bound.trim();
    bound.is_empty() || wanted.is_none_or(|wanted| text::lower(bound) == wanted.to_string())
}

impl Fields {
    fn of(mint: &Mint, now: Timestamp) -> Result<Self> {
        let hex = |digest: Option<Sha256>| digest.map(|digest| digest.to_string());
        let mut fields = Self {
            schema_id: SCHEMA_ID.to_owned(),
            schema_version: SCHEMA_VERSION.to_owned(),
            created_at: WireTime::at(now),
            producer_version: VERSION.to_owned(),
            token_id: String::new(),
            delegator_identity: required("delegator identity", &mint.delegator_identity)?,
            delegate_identity: required("delegate identity", &mint.delegate_identity)?,
            scope: scope_of(&mint.scope)?,
            scope_class: text::lower(bounded("scope class", &mint.scope_class)?),
            intent_digest: hex(mint.intent_digest).unwrap_or_default(),
            policy_digest: hex(mint.policy_digest).unwrap_or_default(),
            expires_at: record::expiry(now, mint.ttl)?,
        };
        if fields.delegator_identity == fields.delegate_identity {
            return Err(invalid(
                "nobody delegates to themselves: delegator and delegate are one",
            ));
        }
        fields.token_id = fields.derive_id();
        Ok(fields)
    }

    fn derive_id(&self) -> String {
        short_id(&format!(
            "{}:{}:{}:{}:{}:{}:{}",
            self.delegator_identity,
            self.delegate_identity,
            self.scope.join(","),
            self.scope_class,
            self.intent_digest,
            self.policy_digest,
            self.expires_at
        ))
    }

    /// Whether one of the required scopes is there, or `*`; the class counts as a scope.
    fn covers(&self, required: &[String]) -> bool {
        let mut scope = text::sorted_set_lower(&self.scope);
        scope.push(text::trim_lower(&self.scope_class));
        let has = |one: &str| scope.iter().any(|scope| scope == one);
        required.is_empty() || has("*") || required.iter().any(|one| has(one))
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
            Self::Invalid => "delegation_token_invalid",
            Self::SignatureMissing => "delegation_token_signature_missing",
            Self::SignatureInvalid => "delegation_token_signature_invalid",
            Self::Expired => "delegation_token_expired",
            Self::DelegatorMismatch => "delegation_token_delegator_mismatch",
            Self::DelegateMismatch => "delegation_token_delegate_mismatch",
            Self::IntentMismatch => "delegation_token_intent_mismatch",
            Self::PolicyMismatch => "delegation_token_policy_mismatch",
            Self::ScopeMismatch => "delegation_token_scope_mismatch",
            Self::ChainMismatch => "delegation_token_chain_mismatch",
        }
    }
}
