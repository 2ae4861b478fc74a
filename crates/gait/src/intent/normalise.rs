//! From a draft to the normal form: the rules of the format, each applied once, in the format's order.

use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, canonical_json};

use super::endpoint::{self, CLASSES};
use super::field::{digest, lower, members, one_of, required, too_many, trimmed};
use super::shape::{ArgProvenance, IntentDraft, Script, ScriptStep, SkillProvenance, Target};
use super::{Intent, Normal, SCHEMA_ID, SCHEMA_VERSION, context, delegation};
use crate::limits::{MAX_PROVENANCE, MAX_SCRIPT_STEPS, MAX_TARGETS, invalid};

/// What a target may be.
pub(crate) const KINDS: [&str; 9] = [
    "path", "url", "host", "repo", "bucket", "table", "queue", "topic", "other",
];
/// How a tool may have been found.
pub(crate) const DISCOVERY: [&str; 7] = [
    "webmcp",
    "dynamic_mcp",
    "a2a",
    "mcp",
    "static_mcp",
    "manual",
    "unknown",
];
const PROVENANCE: [&str; 4] = ["user", "tool_output", "external", "system"];

impl IntentDraft {
    /// Brings the draft into normal form and computes its digests.
    ///
    /// The normal form trims every string, so drafts that differ only in surrounding spaces become the same intent.
    /// Where such a difference would change the effect, put a digest of the exact request into `args`.
    ///
    /// Refused as `invalid_input`: missing or unsupported values, contradictions, and raw credential material; as
    /// `intent_too_large` or `intent_too_deep`: anything past [`crate::limits`].
    pub fn normalise(self) -> Result<Intent> {
        known_schema(&self.schema_id, &self.schema_version)?;
        let script = self.script.map(script).transpose()?;
        let tool_name = match &script {
            Some(_) => "script".to_owned(),
            None => required("tool_name", lower("tool_name", &self.tool_name)?)?,
        };
        let args = members("args", self.args)?;
        let (mut step_targets, mut step_provenance) = (Vec::new(), Vec::new());
        for step in script.iter().flat_map(|script| &script.steps) {
            step_targets.extend_from_slice(&step.targets);
            step_provenance.extend_from_slice(&step.arg_provenance);
        }
        let normal = Normal {
            targets: targets(&tool_name, or(self.targets, step_targets))?,
            arg_provenance: provenance(or(self.arg_provenance, step_provenance))?,
            skill_provenance: self.skill_provenance.map(skill).transpose()?,
            context: context::normal(self.context)?,
            delegation: self.delegation.map(delegation::normal).transpose()?,
            script_hash: script.as_ref().map(script_hash).transpose()?,
            tool_name,
            args,
            script,
        };
        Intent::seal(normal, self.created_at)
    }
}

/// `given`, or what the steps say where the script itself says nothing.
fn or<T>(given: Vec<T>, otherwise: Vec<T>) -> Vec<T> {
    if given.is_empty() { otherwise } else { given }
}

fn known_schema(id: &str, version: &str) -> Result<()> {
    if !id.is_empty() && id != SCHEMA_ID {
        return Err(invalid(format!("unsupported intent schema_id: {id}")));
    }
    if !version.is_empty() && version != SCHEMA_VERSION {
        return Err(invalid(format!(
            "unsupported intent schema_version: {version}"
        )));
    }
    Ok(())
}

fn script(script: Script) -> Result<Script> {
    if script.steps.is_empty() {
        return Err(invalid("script.steps must not be empty"));
    }
    if script.steps.len() > MAX_SCRIPT_STEPS {
        let message = format!("script.steps exceeds max supported steps ({MAX_SCRIPT_STEPS})");
        return Err(invalid(message));
    }
    let steps = script.steps.into_iter().enumerate();
    Ok(Script {
        steps: steps
            .map(|(index, step)| script_step(index, step))
            .collect::<Result<_>>()?,
    })
}

fn script_step(index: usize, step: ScriptStep) -> Result<ScriptStep> {
    let path = format!("script.steps[{index}]");
    let tool_name = lower(&path, &step.tool_name)?;
    let tool_name = required(&format!("{path}.tool_name"), tool_name)?;
    Ok(ScriptStep {
        args: members(&format!("{path}.args"), step.args)?,
        targets: targets(&tool_name, step.targets)?,
        arg_provenance: provenance(step.arg_provenance)?,
        tool_name,
    })
}

fn script_hash(script: &Script) -> Result<Sha256> {
    Ok(Sha256::of(&canonical_json(script)?))
}

fn targets(tool_name: &str, targets: Vec<Target>) -> Result<Vec<Target>> {
    too_many("targets", targets.len(), MAX_TARGETS)?;
    let normal = targets.into_iter().map(|given| target(tool_name, &given));
    let mut normal: Vec<Target> = normal.collect::<Result<_>>()?;
    normal.sort_unstable();
    normal.dedup();
    Ok(normal)
}

fn target(tool_name: &str, given: &Target) -> Result<Target> {
    let kind = lower("targets.kind", &given.kind)?;
    let value = trimmed("targets.value", &given.value)?;
    if kind.is_empty() || value.is_empty() {
        return Err(invalid("targets require kind and value"));
    }
    one_of("target kind", &kind, &KINDS)?;
    let operation = lower("targets.operation", &given.operation)?;
    let mut endpoint_class = lower("targets.endpoint_class", &given.endpoint_class)?;
    if endpoint_class.is_empty() {
        endpoint_class = endpoint::infer_class(&kind, &operation, tool_name).to_owned();
    }
    one_of("endpoint class", &endpoint_class, &CLASSES)?;
    let mut endpoint_domain = lower("targets.endpoint_domain", &given.endpoint_domain)?;
    if endpoint_domain.is_empty() {
        endpoint_domain = endpoint::infer_domain(&kind, &value);
    }
    Ok(Target {
        sensitivity: lower("targets.sensitivity", &given.sensitivity)?,
        destructive: given.destructive
            || given.destructive_hint
            || endpoint::infer_destructive(&endpoint_class, &operation),
        discovery_method: discovery(&given.discovery_method)?,
        kind,
        value,
        operation,
        endpoint_class,
        endpoint_domain,
        ..*given
    })
}

fn discovery(given: &str) -> Result<String> {
    let method = lower("targets.discovery_method", given)?.replace(['-', ' '], "_");
    if method.is_empty() {
        return Ok("unknown".to_owned());
    }
    one_of("discovery method", &method, &DISCOVERY)?;
    Ok(method)
}

fn provenance(entries: Vec<ArgProvenance>) -> Result<Vec<ArgProvenance>> {
    too_many("arg_provenance", entries.len(), MAX_PROVENANCE)?;
    let normal = entries.iter().map(provenance_entry);
    let mut normal: Vec<ArgProvenance> = normal.collect::<Result<_>>()?;
    normal.sort_unstable();
    normal.dedup();
    Ok(normal)
}

fn provenance_entry(given: &ArgProvenance) -> Result<ArgProvenance> {
    let arg_path = trimmed("arg_provenance.arg_path", &given.arg_path)?;
    let source = lower("arg_provenance.source", &given.source)?;
    if arg_path.is_empty() || source.is_empty() {
        return Err(invalid("arg provenance requires arg_path and source"));
    }
    one_of("provenance source", &source, &PROVENANCE)?;
    Ok(ArgProvenance {
        source_ref: trimmed("arg_provenance.source_ref", &given.source_ref)?,
        integrity_digest: digest("provenance integrity_digest", &given.integrity_digest)?,
        arg_path,
        source,
    })
}

fn skill(given: SkillProvenance) -> Result<SkillProvenance> {
    let skill_name = trimmed("skill_provenance.skill_name", &given.skill_name)?;
    let source = lower("skill_provenance.source", &given.source)?;
    let publisher = trimmed("skill_provenance.publisher", &given.publisher)?;
    if skill_name.is_empty() || source.is_empty() || publisher.is_empty() {
        return Err(invalid(
            "skill provenance requires skill_name, source, and publisher",
        ));
    }
    Ok(SkillProvenance {
        skill_version: trimmed("skill_provenance.skill_version", &given.skill_version)?,
        digest: digest("skill provenance digest", &given.digest)?,
        signature_key_id: trimmed("skill_provenance.signature_key_id", &given.signature_key_id)?,
        skill_name,
        source,
        publisher,
    })
}
