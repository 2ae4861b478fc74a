//! From a draft to the normal form: the rules of the format, each applied once, in the format's order.

use serde_json::{Map, Number, Value};
use worldcompute_fault::Result;
use worldcompute_proof::{MAX_SAFE_INTEGER, Sha256, canonical_json};

use super::endpoint::{self, CLASSES};
use super::secrets::{self, is_sha256_hex, looks_like_credential};
use super::shape::{
    AgentIdentity, ArgProvenance, Context, Delegation, DelegationLink, IntentDraft, Sandbox,
    Script, ScriptStep, SkillProvenance, Target,
};
use super::{Intent, Normal, SCHEMA_ID, SCHEMA_VERSION};
use crate::limits::{
    MAX_ARGS_DEPTH, MAX_ARGS_STRING, MAX_DELEGATION_CHAIN, MAX_FIELD, MAX_INTENT_LIST,
    MAX_PROVENANCE, MAX_SCRIPT_STEPS, MAX_TARGETS, at_most, invalid,
};
use crate::text;
use crate::wire_time::WireTime;

/// What a target may be.
const KINDS: [&str; 9] = [
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
const CREDENTIAL_SOURCES: [&str; 12] = [
    "aws_iam_user",
    "aws_sts",
    "azure_federated",
    "command",
    "env",
    "gcp_sts",
    "github_oidc",
    "github_pat",
    "kubernetes_service_account",
    "stub",
    "unknown",
    "vault_dynamic",
];
const CREDENTIAL_ACCESS: [&str; 6] = [
    "cloud_admin",
    "inherited",
    "jit",
    "standing",
    "static",
    "unknown",
];
/// Beginnings that mark a sandbox evidence reference as a reference.
const EVIDENCE_POINTERS: [&str; 5] = ["ref:", "receipt:", "proof:", "sandbox:", "sha256:"];

impl IntentDraft {
    /// Brings the draft into normal form and computes its digests.
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
            context: context(self.context)?,
            delegation: self.delegation.map(delegation).transpose()?,
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

fn delegation(given: Delegation) -> Result<Delegation> {
    too_many("delegation.chain", given.chain.len(), MAX_DELEGATION_CHAIN)?;
    let requester = trimmed("delegation.requester_identity", &given.requester_identity)?;
    let requester_identity = required("delegation.requester_identity", requester)?;
    let chain = given.chain.iter().enumerate();
    let chain: Vec<DelegationLink> = chain
        .map(|(index, link)| delegation_link(index, link))
        .collect::<Result<_>>()?;
    chain_is_whole(&chain, &requester_identity)?;
    in_order("delegation.expires_at", given.issued_at, given.expires_at)?;
    Ok(Delegation {
        scope_class: lower("delegation.scope_class", &given.scope_class)?,
        token_refs: set("delegation.token_refs", &given.token_refs)?,
        issued_at: given.issued_at,
        expires_at: given.expires_at,
        requester_identity,
        chain,
    })
}

fn delegation_link(index: usize, given: &DelegationLink) -> Result<DelegationLink> {
    let path = format!("delegation.chain[{index}]");
    let delegator_identity = trimmed(&path, &given.delegator_identity)?;
    let delegate_identity = trimmed(&path, &given.delegate_identity)?;
    if delegator_identity.is_empty() || delegate_identity.is_empty() {
        let message = format!("{path} requires delegator_identity and delegate_identity");
        return Err(invalid(message));
    }
    in_order(
        &format!("{path}.expires_at"),
        given.issued_at,
        given.expires_at,
    )?;
    Ok(DelegationLink {
        scope_class: lower(&path, &given.scope_class)?,
        token_ref: trimmed(&path, &given.token_ref)?,
        issued_at: given.issued_at,
        expires_at: given.expires_at,
        delegator_identity,
        delegate_identity,
    })
}

fn chain_is_whole(chain: &[DelegationLink], requester: &str) -> Result<()> {
    let mut delegators = chain.iter().skip(1).map(|link| &link.delegator_identity);
    if chain.iter().any(|link| {
        delegators
            .next()
            .is_some_and(|next| *next != link.delegate_identity)
    }) {
        return Err(invalid(
            "delegation.chain: each delegator_identity must match the delegate_identity before it",
        ));
    }
    match chain.last() {
        Some(last) if last.delegate_identity != requester => Err(invalid(
            "delegation.chain last delegate_identity must match delegation.requester_identity",
        )),
        _ => Ok(()),
    }
}

fn context(given: Context) -> Result<Context> {
    let identity = required(
        "context.identity",
        trimmed("context.identity", &given.identity)?,
    )?;
    let workspace = trimmed("context.workspace", &given.workspace)?;
    let workspace = required("context.workspace", workspace)?.replace('\\', "/");
    let risk_class = required(
        "context.risk_class",
        lower("context.risk_class", &given.risk_class)?,
    )?;
    if given.credential_ttl_seconds < 0 {
        return Err(invalid("context.credential_ttl_seconds must be >= 0"));
    }
    Ok(Context {
        phase: choice("context.phase", &given.phase, &["plan", "apply"])?
            .unwrap_or_else(|| "apply".to_owned()),
        agent_identity: given.agent_identity.map(agent_identity).transpose()?,
        sandbox: given.sandbox.map(sandbox).transpose()?.flatten(),
        auth_context: members("context.auth_context", given.auth_context)?,
        context_evidence_mode: choice(
            "context.context_evidence_mode",
            &given.context_evidence_mode,
            &["best_effort", "required"],
        )?
        .unwrap_or_default(),
        credential_source: choice(
            "context.credential_source",
            &given.credential_source,
            &CREDENTIAL_SOURCES,
        )?
        .unwrap_or_default(),
        credential_access_type: choice(
            "context.credential_access_type",
            &given.credential_access_type,
            &CREDENTIAL_ACCESS,
        )?
        .unwrap_or_default(),
        context_set_digest: digest("context.context_set_digest", &given.context_set_digest)?,
        credential_scopes: set("context.credential_scopes", &given.credential_scopes)?,
        context_refs: set("context.context_refs", &given.context_refs)?,
        credential_ttl_seconds: given.credential_ttl_seconds,
        agent_id: trimmed("context.agent_id", &given.agent_id)?,
        run_id: trimmed("context.run_id", &given.run_id)?,
        workflow_id: trimmed("context.workflow_id", &given.workflow_id)?,
        repo: trimmed("context.repo", &given.repo)?,
        environment: trimmed("context.environment", &given.environment)?,
        job_id: trimmed("context.job_id", &given.job_id)?,
        session_id: trimmed("context.session_id", &given.session_id)?,
        request_id: trimmed("context.request_id", &given.request_id)?,
        credential_ref: trimmed("context.credential_ref", &given.credential_ref)?,
        credential_issuer: trimmed("context.credential_issuer", &given.credential_issuer)?,
        credential_subject: trimmed("context.credential_subject", &given.credential_subject)?,
        credential_owner: trimmed("context.credential_owner", &given.credential_owner)?,
        credential_target_binding: trimmed(
            "context.credential_target_binding",
            &given.credential_target_binding,
        )?,
        credential_run_binding: trimmed(
            "context.credential_run_binding",
            &given.credential_run_binding,
        )?,
        credential_job_binding: trimmed(
            "context.credential_job_binding",
            &given.credential_job_binding,
        )?,
        approval_ref: trimmed("context.approval_ref", &given.approval_ref)?,
        wrkr_inventory_ref: trimmed("context.wrkr_inventory_ref", &given.wrkr_inventory_ref)?,
        agent_action_bom_ref: trimmed("context.agent_action_bom_ref", &given.agent_action_bom_ref)?,
        environment_fingerprint: trimmed(
            "context.environment_fingerprint",
            &given.environment_fingerprint,
        )?,
        identity,
        workspace,
        risk_class,
    })
}

fn agent_identity(given: AgentIdentity) -> Result<AgentIdentity> {
    let (issued, approved, expires) = (given.issued_at, given.approved_at, given.expires_at);
    if issued
        .get()
        .zip(approved.get())
        .is_some_and(|(issued, approved)| approved < issued)
    {
        return Err(invalid(
            "context.agent_identity.approved_at must be on or after issued_at",
        ));
    }
    in_order("context.agent_identity.expires_at", issued, expires)?;
    in_order("context.agent_identity.expires_at", approved, expires)?;
    Ok(AgentIdentity {
        lifecycle_states: set(
            "context.agent_identity.lifecycle_states",
            &given.lifecycle_states,
        )?,
        owner: trimmed("context.agent_identity.owner", &given.owner)?,
        manifest_digest: digest(
            "context.agent_identity.manifest_digest",
            &given.manifest_digest,
        )?,
        publisher: trimmed("context.agent_identity.publisher", &given.publisher)?,
        source: lower("context.agent_identity.source", &given.source)?,
        issued_at: issued,
        approved_at: approved,
        expires_at: expires,
        revoked: given.revoked,
    })
}

fn sandbox(given: Sandbox) -> Result<Option<Sandbox>> {
    if given.timeout_seconds < 0 {
        return Err(invalid("context.sandbox.timeout_seconds must be >= 0"));
    }
    let evidence_ref = trimmed("context.sandbox.evidence_ref", &given.evidence_ref)?;
    sandbox_string("context.sandbox.evidence_ref", &evidence_ref)?;
    let reference = evidence_ref.to_ascii_lowercase();
    if !EVIDENCE_POINTERS
        .iter()
        .any(|pointer| reference.starts_with(pointer))
        && looks_like_credential(&evidence_ref)
    {
        return Err(invalid(
            "context.sandbox.evidence_ref must not contain secret-like sandbox material; use sandbox evidence refs or digests instead",
        ));
    }
    let normal = Sandbox {
        network_mode: sandbox_choice(
            "network_mode",
            &given.network_mode,
            &["disabled", "egress_allowlist", "full"],
        )?,
        writable_paths: sandbox_paths("writable_paths", &given.writable_paths)?,
        read_only_roots: sandbox_paths("read_only_roots", &given.read_only_roots)?,
        env_exposure_mode: sandbox_choice(
            "env_exposure_mode",
            &given.env_exposure_mode,
            &["allowlist", "full", "none"],
        )?,
        timeout_seconds: given.timeout_seconds,
        filesystem_isolation: sandbox_choice(
            "filesystem_isolation",
            &given.filesystem_isolation,
            &["container", "none", "workspace"],
        )?,
        user_mode: sandbox_choice(
            "user_mode",
            &given.user_mode,
            &["default", "root", "unprivileged"],
        )?,
        evidence_digest: digest("context.sandbox.evidence_digest", &given.evidence_digest)?,
        evidence_ref,
    };
    Ok((normal != Sandbox::default()).then_some(normal))
}

fn sandbox_choice(name: &str, value: &str, known: &[&str]) -> Result<String> {
    Ok(choice(&format!("context.sandbox.{name}"), value, known)?.unwrap_or_default())
}

fn sandbox_paths(name: &str, paths: &[String]) -> Result<Vec<String>> {
    let name = format!("context.sandbox.{name}");
    too_many(&name, paths.len(), MAX_INTENT_LIST)?;
    let mut cleaned = Vec::with_capacity(paths.len());
    for path in paths {
        let path = text::clean_path(&trimmed(&name, path)?);
        sandbox_string(&name, &path)?;
        if path != "." {
            cleaned.push(path);
        }
    }
    Ok(text::sorted_set(&cleaned))
}

/// Refuses `NAME=value`: an environment variable's value in a place for paths and references.
fn sandbox_string(path: &str, value: &str) -> Result<()> {
    let is_assignment = value.split_once('=').is_some_and(|(name, _)| {
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    });
    if is_assignment {
        let message = format!("{path} must not contain raw environment variable assignments");
        return Err(invalid(message));
    }
    Ok(())
}

/// Free-form members: trimmed, numbers as IEEE doubles, nothing that looks like a credential.
fn members(path: &str, given: Map<String, Value>) -> Result<Map<String, Value>> {
    let normal = normal_members(path, given, 1)?;
    secrets::refuse(path, &normal)?;
    Ok(normal)
}

fn normal_members(
    path: &str,
    given: Map<String, Value>,
    depth: usize,
) -> Result<Map<String, Value>> {
    at_most(
        &format!("{path} nesting"),
        depth,
        MAX_ARGS_DEPTH,
        "intent_too_deep",
    )?;
    let mut normal = Map::new();
    for (key, value) in given {
        let key = trimmed(path, &key)?;
        if key.is_empty() {
            return Err(invalid(format!("{path} contains empty key")));
        }
        let value = normal_value(path, value, depth)?;
        if normal.insert(key, value).is_some() {
            return Err(invalid(format!(
                "{path} contains a key twice once spaces are trimmed"
            )));
        }
    }
    Ok(normal)
}

fn normal_value(path: &str, value: Value, depth: usize) -> Result<Value> {
    Ok(match value {
        Value::Null | Value::Bool(_) => value,
        Value::Number(number) => Value::Number(double(path, &number)?),
        Value::String(text) => {
            at_most(path, text.len(), MAX_ARGS_STRING, "intent_too_large")?;
            Value::String(text.trim().to_owned())
        }
        Value::Array(items) => {
            at_most(
                &format!("{path} nesting"),
                depth + 1,
                MAX_ARGS_DEPTH,
                "intent_too_deep",
            )?;
            let items = items
                .into_iter()
                .map(|item| normal_value(path, item, depth + 1));
            Value::Array(items.collect::<Result<_>>()?)
        }
        Value::Object(members) => Value::Object(normal_members(path, members, depth + 1)?),
    })
}

/// The number as the format keeps it; an integer that would be rounded could stand for another one.
fn double(path: &str, number: &Number) -> Result<Number> {
    let exact = match (number.as_u64(), number.as_i64()) {
        (Some(whole), _) => whole <= MAX_SAFE_INTEGER,
        (None, Some(whole)) => whole.unsigned_abs() <= MAX_SAFE_INTEGER,
        (None, None) => true,
    };
    if !exact {
        return Err(invalid(format!(
            "{path}: {number} is beyond 2^53 - 1; write it as a string"
        )));
    }
    number
        .as_f64()
        .and_then(Number::from_f64)
        .ok_or_else(|| invalid(format!("{path}: {number} is not a finite number")))
}

fn trimmed(name: &str, value: &str) -> Result<String> {
    at_most(name, value.len(), MAX_FIELD, "intent_too_large")?;
    Ok(value.trim().to_owned())
}

fn lower(name: &str, value: &str) -> Result<String> {
    Ok(text::lower(&trimmed(name, value)?))
}

fn required(name: &str, value: String) -> Result<String> {
    if value.is_empty() {
        return Err(invalid(format!("{name} is required")));
    }
    Ok(value)
}

/// The lower-case value if it is one of `known`; `None` if it is empty.
fn choice(name: &str, value: &str, known: &[&str]) -> Result<Option<String>> {
    let value = lower(name, value)?;
    if value.is_empty() {
        return Ok(None);
    }
    if !known.contains(&value.as_str()) {
        return Err(invalid(format!(
            "{name} must be one of {}, not {value:?}",
            known.join(", ")
        )));
    }
    Ok(Some(value))
}

fn one_of(what: &str, value: &str, known: &[&str]) -> Result<()> {
    if known.contains(&value) {
        return Ok(());
    }
    Err(invalid(format!("unsupported {what}: {value}")))
}

fn digest(name: &str, value: &str) -> Result<String> {
    let value = lower(name, value)?;
    if value.is_empty() || is_sha256_hex(&value) {
        return Ok(value);
    }
    Err(invalid(format!("{name} must be sha256 hex")))
}

fn set(name: &str, values: &[String]) -> Result<Vec<String>> {
    too_many(name, values.len(), MAX_INTENT_LIST)?;
    for value in values {
        trimmed(name, value)?;
    }
    Ok(text::sorted_set(values))
}

fn too_many(name: &str, count: usize, limit: usize) -> Result<()> {
    at_most(&format!("{name} entries"), count, limit, "intent_too_large")
}

fn in_order(name: &str, earlier: WireTime, later: WireTime) -> Result<()> {
    let both = earlier.get().zip(later.get());
    if both.is_some_and(|(earlier, later)| later <= earlier) {
        return Err(invalid(format!("{name} must be after what it ends")));
    }
    Ok(())
}
