//! A policy: parsed strictly, normalised, digested, and prepared once for evaluation.

mod document;
mod file;
mod lint;
mod locate;
mod normalise;
mod report;
pub mod simulate;
pub mod why_not;

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use worldcompute_durable::{read_bounded, read_guarded};
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, canonical_json};

pub use document::{Formatted, format_file};
pub(crate) use locate::in_our_words;
pub use report::{MAX_SUMMARY, TEST_SCHEMA_ID, TEST_SCHEMA_VERSION, summary};

use crate::evaluate::{Index, Rule};
use crate::in_file::InFile;
use crate::limits::{self, MAX_POLICY_BYTES, MAX_POLICY_DEPTH, MAX_POLICY_NODES, invalid};
use crate::mcp_trust::McpTrust;
use crate::verdict::Verdict;

/// The `schema_id` of a policy.
pub const SCHEMA_ID: &str = "gait.gate.policy";
/// The only `schema_version`.
pub const SCHEMA_VERSION: &str = "1.0.0";

/// A policy, ready to decide.
#[derive(Debug)]
pub struct Policy {
    pub(crate) default_verdict: Verdict,
    pub(crate) scripts: Scripts,
    pub(crate) fail_closed: FailClosed,
    mcp_trust: Option<McpTrust>,
    /// By priority, then by name.
    pub(crate) rules: Vec<Rule>,
    pub(crate) index: Index,
    digest: Sha256,
}

/// What scripts may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Scripts {
    /// 0 leaves it at the format's own limit.
    pub(crate) max_steps: usize,
    /// 0 asks for none.
    pub(crate) require_approval_above: usize,
    pub(crate) block_mixed_risk: bool,
}

/// What an intent of these risk classes must say, lest it be blocked before any rule is asked.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct FailClosed {
    pub(crate) enabled: bool,
    pub(crate) risk_classes: Vec<String>,
    pub(crate) required_fields: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) required_high_risk_fields: Vec<String>,
}

/// What `policy_digest` covers, in the format's own spelling of the keys.
///
/// Keys that the format's first version had are always there; later ones only when they say something, so that the
/// digests of older policies stay.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Digested<'a> {
    #[serde(rename = "SchemaID")]
    schema_id: &'a str,
    schema_version: &'a str,
    default_verdict: Verdict,
    fail_closed: &'a FailClosed,
    #[serde(skip_serializing_if = "Option::is_none")]
    scripts: Option<Scripts>,
    #[serde(rename = "MCPTrust", skip_serializing_if = "Option::is_none")]
    mcp_trust: Option<&'a McpTrust>,
    rules: &'a [Rule],
}

impl Policy {
    /// Reads the policy in the file at `path`, to look at it; see [`Policy::parse`].
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&read_bounded(path, MAX_POLICY_BYTES as u64)?).in_file(path)
    }

    /// [`Policy::load`], to decide by it: also refused as `insecure_permissions` where everybody may change or replace
    /// the file.
    pub fn load_trusted(path: &Path) -> Result<Self> {
        Self::parse(&read_guarded(path, MAX_POLICY_BYTES as u64)?).in_file(path)
    }

    /// Reads a policy from YAML.
    ///
    /// Refused as `invalid_input`: unknown and duplicate keys, wrong types, unknown values, several documents; as
    /// `policy_too_large`: anything past [`crate::limits`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        limits::at_most(
            "policy bytes",
            bytes.len(),
            MAX_POLICY_BYTES,
            "policy_too_large",
        )?;
        let file: Option<file::PolicyFile> =
            serde_saphyr::from_slice_with_options(bytes, yaml_options())
                .map_err(|error| locate::unreadable(&error, bytes))?;
        normalise::policy(file.unwrap_or_default())
            .map_err(|misplaced| locate::misplaced(&misplaced, bytes))
    }

    /// The policy that `document` is, as [`Policy::document`] gives it.
    fn from_document(document: Value) -> Result<Self> {
        let file = serde_json::from_value(document)
            .map_err(|error| invalid("parse policy document").caused_by(error))?;
        normalise::policy(file).map_err(|misplaced| *misplaced.fault)
    }

    fn seal(
        default_verdict: Verdict,
        scripts: Scripts,
        fail_closed: FailClosed,
        mcp_trust: Option<McpTrust>,
        rules: Vec<Rule>,
    ) -> Result<Self> {
        let mut policy = Self {
            default_verdict,
            scripts,
            fail_closed,
            mcp_trust,
            index: Index::new(&rules),
            rules,
            digest: Sha256::of([]),
        };
        policy.digest = Sha256::of(canonical_json(&policy.digested())?);
        Ok(policy)
    }

    fn digested(&self) -> Digested<'_> {
        Digested {
            schema_id: SCHEMA_ID,
            schema_version: SCHEMA_VERSION,
            default_verdict: self.default_verdict,
            fail_closed: &self.fail_closed,
            scripts: Some(self.scripts).filter(|scripts| *scripts != Scripts::default()),
            mcp_trust: self.mcp_trust.as_ref(),
            rules: &self.rules,
        }
    }

    /// The SHA-256 of the canonical JSON of the normalised policy: `policy_digest`.
    pub const fn digest(&self) -> Sha256 {
        self.digest
    }

    /// The verdict when no rule matches.
    pub const fn default_verdict(&self) -> Verdict {
        self.default_verdict
    }

    /// What is asked of the servers that tools come from, if anything is.
    pub const fn mcp_trust(&self) -> Option<&McpTrust> {
        self.mcp_trust.as_ref()
    }

    /// Whether any rule, or the fail-closed part, asks for evidence of the context.
    pub fn asks_for_context_evidence(&self) -> bool {
        let fields = &self.fail_closed.required_fields;
        fields.iter().any(|field| field == "context_evidence")
            || self.rules.iter().any(|rule| rule.context.asks())
    }

    /// The rules that let high or critical risk pass without a credential from the broker, by name.
    pub fn unbrokered_high_risk_rules(&self) -> Vec<&str> {
        let rules = self.rules.iter().filter(|rule| {
            rule.effect != Verdict::Block
                && !rule.broker.required
                && rule.matches.admits_high_risk()
        });
        rules.map(|rule| rule.name.as_str()).collect()
    }

    /// Whether a rule lets high or critical risk pass with a credential from the broker.
    pub fn has_brokered_high_risk_rule(&self) -> bool {
        self.rules.iter().any(|rule| {
            rule.effect != Verdict::Block && rule.broker.required && rule.matches.admits_high_risk()
        })
    }

    /// Whether any answer of this policy may wait for approvals.
    pub fn may_require_approval(&self) -> bool {
        let waits = |verdict: Verdict| verdict == Verdict::RequireApproval;
        waits(self.default_verdict)
            || self.scripts.require_approval_above > 0
            || self.rules.iter().any(|rule| waits(rule.effect))
    }

    /// Whether any rule rests on a delegation.
    pub fn may_require_delegation(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.matches.require_delegation)
    }

    /// Every rule that is one of `names`, with its priority and its effect.
    pub fn rules_named<'a>(
        &'a self,
        names: &'a [String],
    ) -> impl Iterator<Item = (&'a str, i64, Verdict)> {
        let named = self.rules.iter().filter(|rule| names.contains(&rule.name));
        named.map(|rule| (rule.name.as_str(), rule.priority, rule.effect))
    }

    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }
}

/// YAML 1.2, one document, every key once, nothing from other files, and no amplification by aliases.
pub(crate) fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: MAX_POLICY_DEPTH,
            max_nodes: MAX_POLICY_NODES,
            max_aliases: limits::MAX_POLICY_LIST,
            max_total_scalar_bytes: MAX_POLICY_BYTES,
        },
        strict_booleans: true,
        with_snippet: false,
    }
}

#[cfg(test)]
mod tests;
