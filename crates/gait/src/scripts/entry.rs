//! One approved script.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, SigningKey, VerifyingKey, canonical_json};

use super::{SCHEMA_ID, SCHEMA_VERSION};
use crate::VERSION;
use crate::clock::has_ended;
use crate::intent::{Intent, Target};
use crate::limits::{MAX_FIELD, MAX_SCOPE, MAX_SCRIPT_STEPS, at_most, invalid};
use crate::record::{self, Record, Unsigned};
use crate::signature::SignatureObject;
use crate::text;
use crate::wire_time::WireTime;

/// The kind of use that is a folder with all below it.
const WORKSPACE_PREFIX: &str = "workspace_prefix";

/// What a person approves.
#[derive(Clone, Debug)]
pub struct Mint<'a> {
    /// The script.
    pub intent: &'a Intent,
    /// The one policy under which it is approved.
    pub policy_digest: Sha256,
    /// The name of the entry; derived from the script when empty.
    pub pattern_id: String,
    /// Who approves.
    pub approver_identity: String,
    /// For which uses: `risk:`, `tool:`, `workspace_prefix:`, `endpoint:`; empty for all.
    pub scope: Vec<String>,
    /// For how long.
    pub ttl: SignedDuration,
}

/// An entry as it was read; whether it is worth anything is up to [`Entry::verify`].
#[derive(Clone, Debug)]
pub struct Entry {
    record: Record,
    value: Value,
    fields: Fields,
}

/// The record, in the order in which the format writes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Fields {
    schema_id: String,
    schema_version: String,
    created_at: WireTime,
    producer_version: String,
    pattern_id: String,
    policy_digest: String,
    script_hash: String,
    tool_sequence: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scope: Vec<String>,
    approver_identity: String,
    expires_at: WireTime,
}

impl Entry {
    /// Makes and signs an entry that is valid from `now` on.
    ///
    /// `invalid_input` when the intent is no script.
    pub fn mint(mint: &Mint<'_>, key: &SigningKey, now: Timestamp) -> Result<Self> {
        let fields = Fields::of(mint, now)?;
        let signature = SignatureObject::sign(&canonical_json(&fields)?, key);
        let mut value = serde_json::to_value(&fields)
            .map_err(|error| invalid("write an approved script").caused_by(error))?;
        if let (Value::Object(members), Ok(signature)) =
            (&mut value, serde_json::to_value(&signature))
        {
            members.insert("signature".to_owned(), signature);
        }
        Self::of(value)
    }

    pub(super) fn of(value: Value) -> Result<Self> {
        let record = Record::of("approved script", value.clone())?;
        let fields: Fields = record.read("approved script")?;
        fields.check()?;
        Ok(Self {
            record,
            value,
            fields,
        })
    }

    /// The entry as files have it.
    pub(super) const fn value(&self) -> &Value {
        &self.value
    }

    /// Checks that `key` signed the entry as it is and that its time is not over; says what is wrong otherwise.
    pub fn verify(&self, key: &VerifyingKey, now: Timestamp) -> Result<(), &'static str> {
        self.check_expiry(now)?;
        self.record.verify(key).map_err(|unsigned| match unsigned {
            Unsigned::Missing => "signature is required",
            Unsigned::Invalid => "approved script signature did not verify",
        })
    }

    /// That its time is not over.
    pub(super) fn check_expiry(&self, now: Timestamp) -> Result<(), &'static str> {
        match self.is_expired(now) {
            true => Err("approved script entry is expired"),
            false => Ok(()),
        }
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        has_ended(self.fields.expires_at, now)
    }

    /// Whether it is about this script, in the order of its steps, under this policy, for this use.
    pub fn fits(&self, intent: &Intent, policy_digest: Sha256) -> bool {
        let Some((script, hash)) = intent.script() else {
            return false;
        };
        let steps = script.steps.iter().map(|step| step.tool_name.as_str());
        text::lower(&self.fields.policy_digest) == policy_digest.to_string()
            && text::lower(&self.fields.script_hash) == hash.to_string()
            && steps.eq(self.fields.tool_sequence.iter().map(String::as_str))
            && self.scope().iter().all(|scope| is_within(scope, intent))
    }

    /// What names the entry.
    pub fn pattern_id(&self) -> &str {
        self.fields.pattern_id.trim()
    }

    /// Who approved.
    pub fn approver_identity(&self) -> &str {
        self.fields.approver_identity.trim()
    }

    /// The policy it is for.
    pub fn policy_digest(&self) -> &str {
        &self.fields.policy_digest
    }

    /// The script it is for.
    pub fn script_hash(&self) -> &str {
        &self.fields.script_hash
    }

    /// The tools of the script, in the order of its steps.
    pub fn tool_sequence(&self) -> &[String] {
        &self.fields.tool_sequence
    }

    /// For which uses: sorted, and lower-case but for paths.
    pub fn scope(&self) -> Vec<String> {
        normal_scope(&self.fields.scope)
    }

    /// Since when.
    pub const fn created_at(&self) -> WireTime {
        self.fields.created_at
    }

    /// Until when.
    pub const fn expires_at(&self) -> WireTime {
        self.fields.expires_at
    }
}

impl Fields {
    fn of(mint: &Mint<'_>, now: Timestamp) -> Result<Self> {
        let Some((script, hash)) = mint.intent.script() else {
            return Err(invalid("intent must include script.steps"));
        };
        let script_hash = hash.to_string();
        let pattern_id = match mint.pattern_id.trim() {
            "" => format!("pattern_{}", script_hash.get(..12).unwrap_or(&script_hash)),
            given => given.to_owned(),
        };
        let steps = script.steps.iter();
        let fields = Self {
            schema_id: SCHEMA_ID.to_owned(),
            schema_version: SCHEMA_VERSION.to_owned(),
            created_at: WireTime::at(now),
            producer_version: VERSION.to_owned(),
            pattern_id,
            policy_digest: mint.policy_digest.to_string(),
            script_hash,
            tool_sequence: steps.map(|step| step.tool_name.clone()).collect(),
            scope: normal_scope(&mint.scope),
            approver_identity: mint.approver_identity.trim().to_owned(),
            expires_at: record::expiry(now, mint.ttl)?,
        };
        fields.check()?;
        Ok(fields)
    }

    fn check(&self) -> Result<()> {
        let known = record::is_schema(&self.schema_id, SCHEMA_ID)
            && record::is_schema(&self.schema_version, SCHEMA_VERSION);
        let times = self.created_at.get().zip(self.expires_at.get());
        let needs = [
            (known, "unsupported approved script schema"),
            (!self.pattern_id.trim().is_empty(), "pattern_id is required"),
            (
                record::is_digest(&self.policy_digest),
                "policy_digest must be sha256 hex",
            ),
            (
                record::is_digest(&self.script_hash),
                "script_hash must be sha256 hex",
            ),
            (!self.tool_sequence.is_empty(), "tool_sequence is required"),
            (
                !self.approver_identity.trim().is_empty(),
                "approver_identity is required",
            ),
            (
                times.is_some_and(|(from, to)| from < to),
                "expires_at must be after created_at",
            ),
        ];
        if let Some((_, missing)) = needs.into_iter().find(|(holds, _)| !holds) {
            return Err(invalid(missing));
        }
        let code = "approved_script_too_large";
        at_most(
            "tool_sequence",
            self.tool_sequence.len(),
            MAX_SCRIPT_STEPS,
            code,
        )?;
        at_most("scope", self.scope.len(), MAX_SCOPE, code)?;
        at_most("pattern_id", self.pattern_id.len(), MAX_FIELD, code)?;
        at_most(
            "approver_identity",
            self.approver_identity.len(),
            MAX_FIELD,
            code,
        )
    }
}

/// A set of uses as it is written: a folder is another one in another case.
fn normal_scope(scope: &[String]) -> Vec<String> {
    let normal = scope
        .iter()
        .map(|given| match given.trim().split_once(':') {
            Some((kind, prefix)) if text::trim_lower(kind) == WORKSPACE_PREFIX => {
                format!("{WORKSPACE_PREFIX}:{}", prefix.trim())
            }
            _ => text::trim_lower(given),
        });
    let normal: Vec<String> = normal.collect();
    text::sorted_set(&normal)
}

/// Whether the intent is a use of this kind; a kind that is not known allows nothing.
fn is_within(scope: &str, intent: &Intent) -> bool {
    let context = intent.context();
    match scope.split_once(':') {
        Some(("risk", class)) => context.risk_class == class,
        Some(("tool", tool)) => intent.tool_name() == tool,
        Some((WORKSPACE_PREFIX, prefix)) => {
            let workspace = text::clean_path(&context.workspace);
            let prefix = text::clean_path(prefix);
            let rest = workspace.strip_prefix(&prefix);
            rest.is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/')
            })
        }
        Some(("endpoint", class)) => {
            let is = |target: &Target| target.endpoint_class == class;
            intent.all_targets().any(is)
        }
        _ => false,
    }
}
