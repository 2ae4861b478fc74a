//! What somebody wants to do, in the one normal form that digests and policies are about.
//!
//! An [`Intent`] can only be had by normalising an [`IntentDraft`] or by [`Intent::parse`]; equal digests mean that
//! every policy answers the same.

mod context;
mod delegation;
mod endpoint;
mod field;
mod normalise;
mod secrets;
mod shape;

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::{Sha256, canonical_json, parse_json_strict};

pub(crate) use context::{CREDENTIAL_ACCESS, CREDENTIAL_SOURCES, sandbox_modes, sandbox_paths};
pub(crate) use endpoint::{CLASSES, infer_domain};
pub(crate) use normalise::{DISCOVERY, KINDS};
pub use shape::{
    AgentIdentity, ArgProvenance, Context, Delegation, DelegationLink, IntentDraft, Sandbox,
    Script, ScriptStep, SkillProvenance, Target,
};

use crate::evidence::AGE;
use crate::in_file::InFile;
use crate::limits::{self, MAX_INTENT_BYTES, invalid};
use crate::wire_time::WireTime;

/// The `schema_id` of an intent on the wire.
pub const SCHEMA_ID: &str = "gait.gate.intent_request";
/// The only `schema_version`.
pub const SCHEMA_VERSION: &str = "1.0.0";

/// A normalised intent; immutable, and named by its digest.
#[derive(Clone, Debug)]
pub struct Intent {
    normal: Normal,
    created_at: WireTime,
    args_digest: Sha256,
    digest: Sha256,
}

/// The fields that the digest covers, in normal form.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Normal {
    pub(crate) tool_name: String,
    pub(crate) args: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) script_hash: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) script: Option<Script>,
    pub(crate) targets: Vec<Target>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) arg_provenance: Vec<ArgProvenance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) skill_provenance: Option<SkillProvenance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delegation: Option<Delegation>,
    pub(crate) context: Context,
}

impl Intent {
    /// Reads the intent in the file at `path`; see [`Intent::parse`].
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&read_bounded(path, MAX_INTENT_BYTES as u64)?).in_file(path)
    }

    /// Reads an intent from JSON and normalises it.
    ///
    /// Unknown fields are ignored, as the digest and every policy ignore them. Refused as `invalid_input`: anything
    /// but strict JSON, a field name that is not lower-case (it could pass for a known one), a wrong type, a missing
    /// or unsupported value, and raw credential material. Past a limit: `intent_too_large` or `intent_too_deep`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        limits::at_most(
            "intent bytes",
            bytes.len(),
            MAX_INTENT_BYTES,
            "intent_too_large",
        )?;
        let mut value =
            parse_json_strict(bytes).map_err(|fault| invalid(format!("parse intent: {fault}")))?;
        if !value.is_object() {
            return Err(invalid("parse intent: not an object"));
        }
        shape::tidy(&mut value)?;
        let draft: IntentDraft = limits::from_value("parse intent", value)?;
        draft.normalise()
    }

    fn seal(normal: Normal, created_at: WireTime) -> Result<Self> {
        let bytes = canonical_json(&normal)?;
        limits::at_most(
            "normalised intent bytes",
            bytes.len(),
            MAX_INTENT_BYTES,
            "intent_too_large",
        )?;
        Ok(Self {
            args_digest: Sha256::of(&canonical_json(&normal.args)?),
            digest: Sha256::of(&bytes),
            normal,
            created_at,
        })
    }

    /// The SHA-256 of the canonical JSON of the normal form: `intent_digest`.
    pub const fn digest(&self) -> Sha256 {
        self.digest
    }

    /// The SHA-256 of the canonical JSON of the normalised `args`.
    pub const fn args_digest(&self) -> Sha256 {
        self.args_digest
    }

    /// The lower-case tool name; `script` when the intent is a script.
    pub fn tool_name(&self) -> &str {
        &self.normal.tool_name
    }

    /// The normalised arguments.
    pub const fn args(&self) -> &Map<String, Value> {
        &self.normal.args
    }

    /// The targets, sorted, each once, with their endpoint classes.
    pub fn targets(&self) -> &[Target] {
        &self.normal.targets
    }

    /// Who asks, from where, at what risk.
    pub const fn context(&self) -> &Context {
        &self.normal.context
    }

    /// The steps of a script with its hash.
    pub fn script(&self) -> Option<(&Script, Sha256)> {
        self.normal.script.as_ref().zip(self.normal.script_hash)
    }

    /// On whose authority the caller acts.
    pub const fn delegation(&self) -> Option<&Delegation> {
        self.normal.delegation.as_ref()
    }

    /// The SHA-256 of the canonical JSON of the delegation, which tokens are bound to.
    pub fn delegation_digest(&self) -> Result<Option<Sha256>> {
        let digest = |delegation| Ok(Sha256::of(canonical_json(delegation)?));
        self.delegation().map(digest).transpose()
    }

    /// Every target, those of a script's steps included; some twice.
    pub fn all_targets(&self) -> impl Iterator<Item = &Target> {
        self.targets().iter().chain(self.step_targets())
    }

    fn step_targets(&self) -> impl Iterator<Item = &Target> {
        let steps = self.normal.script.iter().flat_map(|script| &script.steps);
        steps.flat_map(|step| &step.targets)
    }

    /// Whether any target is lost or changed for good.
    pub fn is_destructive(&self) -> bool {
        self.all_targets().any(|target| target.destructive)
    }

    /// How many targets and how many operations an approval of this intent covers, as the format counts them.
    pub(crate) fn extent(&self) -> (i64, i64) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let targets = match self.step_targets().count() {
            0 => self.targets().len(),
            of_steps => of_steps,
        };
        let operations = match &self.normal.script {
            Some(script) => script.steps.len(),
            None => self.targets().len().max(1),
        };
        (count(targets), count(operations))
    }

    /// When the intent says it was made; unset when it does not say.
    pub const fn created_at(&self) -> WireTime {
        self.created_at
    }

    /// The canonical JSON whose SHA-256 is the digest.
    pub fn canonical_bytes(&self) -> Result<Vec<u8>> {
        canonical_json(&self.normal)
    }

    pub(crate) const fn normal(&self) -> &Normal {
        &self.normal
    }

    /// The intent without what it claims about its own context evidence, with what `verified` puts in its place.
    pub(crate) fn reclaimed(&self, verified: impl FnOnce(&mut Context)) -> Result<Self> {
        let mut normal = self.normal.clone();
        normal.context.context_set_digest.clear();
        normal.context.context_evidence_mode.clear();
        normal.context.context_refs.clear();
        normal.context.auth_context.remove(AGE);
        verified(&mut normal.context);
        Self::seal(normal, self.created_at)
    }

    /// Whether the intent claims anything about its own context evidence.
    pub(crate) fn has_context_claims(&self) -> bool {
        let context = &self.normal.context;
        !(context.context_set_digest.is_empty()
            && context.context_evidence_mode.is_empty()
            && context.context_refs.is_empty()
            && !context.auth_context.contains_key(AGE))
    }
}

impl TryFrom<IntentDraft> for Intent {
    type Error = Fault;

    fn try_from(draft: IntentDraft) -> Result<Self> {
        draft.normalise()
    }
}

#[cfg(test)]
mod tests;
