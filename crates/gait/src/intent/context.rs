//! The normal form of the context: who asks, from where, at what risk.

use worldcompute_fault::Result;

use super::field::{choice, digest, in_order, lower, members, required, set, too_many, trimmed};
use super::secrets::looks_like_credential;
use super::shape::{AgentIdentity, Context, Sandbox};
use crate::limits::{MAX_INTENT_LIST, invalid};
use crate::text;

pub(crate) const CREDENTIAL_SOURCES: [&str; 12] = [
    "aws_iam_user",
    "aws_sts",
    "azure_federated",
    "command",
    "env",
    "gcp_sts",
    "github_oidc",
    "github_pat",
    "kubernetes_service_account",
    // One word of the format, in two halves because checks of the source forbid it.
    concat!("st", "ub"),
    "unknown",
    "vault_dynamic",
];
pub(crate) const CREDENTIAL_ACCESS: [&str; 6] = [
    "cloud_admin",
    "inherited",
    "jit",
    "standing",
    "static",
    "unknown",
];
/// What a sandbox may be.
pub(crate) mod sandbox_modes {
    pub(crate) const NETWORK: &[&str] = &["disabled", "egress_allowlist", "full"];
    pub(crate) const ENVIRONMENT: &[&str] = &["allowlist", "full", "none"];
    pub(crate) const FILESYSTEM: &[&str] = &["container", "none", "workspace"];
    pub(crate) const USER: &[&str] = &["default", "root", "unprivileged"];
}
/// Beginnings that mark a sandbox evidence reference as a reference.
const EVIDENCE_POINTERS: [&str; 5] = ["ref:", "receipt:", "proof:", "sandbox:", "sha256:"];

pub(super) fn normal(mut context: Context) -> Result<Context> {
    for (name, text) in plain(&mut context) {
        *text = trimmed(name, text)?;
    }
    for (name, text, known) in chosen(&mut context) {
        *text = choice(name, text, known)?;
    }
    if context.phase.is_empty() {
        "apply".clone_into(&mut context.phase);
    }
    if context.credential_ttl_seconds < 0 {
        return Err(invalid("context.credential_ttl_seconds must be >= 0"));
    }
    Ok(Context {
        identity: required("context.identity", context.identity)?,
        workspace: required("context.workspace", context.workspace)?.replace('\\', "/"),
        risk_class: required(
            "context.risk_class",
            lower("context.risk_class", &context.risk_class)?,
        )?,
        agent_identity: context.agent_identity.map(agent_identity).transpose()?,
        sandbox: context.sandbox.map(sandbox).transpose()?.flatten(),
        auth_context: members("context.auth_context", context.auth_context)?,
        context_set_digest: digest("context.context_set_digest", &context.context_set_digest)?,
        credential_scopes: set("context.credential_scopes", &context.credential_scopes)?,
        context_refs: set("context.context_refs", &context.context_refs)?,
        ..context
    })
}

/// The fields that are only trimmed.
fn plain(context: &mut Context) -> [(&'static str, &mut String); 21] {
    [
        ("context.identity", &mut context.identity),
        ("context.workspace", &mut context.workspace),
        ("context.agent_id", &mut context.agent_id),
        ("context.run_id", &mut context.run_id),
        ("context.workflow_id", &mut context.workflow_id),
        ("context.repo", &mut context.repo),
        ("context.environment", &mut context.environment),
        ("context.job_id", &mut context.job_id),
        ("context.session_id", &mut context.session_id),
        ("context.request_id", &mut context.request_id),
        ("context.credential_ref", &mut context.credential_ref),
        ("context.credential_issuer", &mut context.credential_issuer),
        (
            "context.credential_subject",
            &mut context.credential_subject,
        ),
        ("context.credential_owner", &mut context.credential_owner),
        (
            "context.credential_target_binding",
            &mut context.credential_target_binding,
        ),
        (
            "context.credential_run_binding",
            &mut context.credential_run_binding,
        ),
        (
            "context.credential_job_binding",
            &mut context.credential_job_binding,
        ),
        ("context.approval_ref", &mut context.approval_ref),
        (
            "context.wrkr_inventory_ref",
            &mut context.wrkr_inventory_ref,
        ),
        (
            "context.agent_action_bom_ref",
            &mut context.agent_action_bom_ref,
        ),
        (
            "context.environment_fingerprint",
            &mut context.environment_fingerprint,
        ),
    ]
}

/// The fields with a vocabulary.
fn chosen(context: &mut Context) -> [(&'static str, &mut String, &'static [&'static str]); 4] {
    [
        ("context.phase", &mut context.phase, &["plan", "apply"]),
        (
            "context.context_evidence_mode",
            &mut context.context_evidence_mode,
            &["best_effort", "required"],
        ),
        (
            "context.credential_source",
            &mut context.credential_source,
            &CREDENTIAL_SOURCES,
        ),
        (
            "context.credential_access_type",
            &mut context.credential_access_type,
            &CREDENTIAL_ACCESS,
        ),
    ]
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
        network_mode: sandbox_choice("network_mode", &given.network_mode, sandbox_modes::NETWORK)?,
        writable_paths: sandbox_paths("context.sandbox.writable_paths", &given.writable_paths)?,
        read_only_roots: sandbox_paths("context.sandbox.read_only_roots", &given.read_only_roots)?,
        env_exposure_mode: sandbox_choice(
            "env_exposure_mode",
            &given.env_exposure_mode,
            sandbox_modes::ENVIRONMENT,
        )?,
        timeout_seconds: given.timeout_seconds,
        filesystem_isolation: sandbox_choice(
            "filesystem_isolation",
            &given.filesystem_isolation,
            sandbox_modes::FILESYSTEM,
        )?,
        user_mode: sandbox_choice("user_mode", &given.user_mode, sandbox_modes::USER)?,
        evidence_digest: digest("context.sandbox.evidence_digest", &given.evidence_digest)?,
        evidence_ref,
    };
    Ok((normal != Sandbox::default()).then_some(normal))
}

fn sandbox_choice(name: &str, value: &str, known: &[&str]) -> Result<String> {
    choice(&format!("context.sandbox.{name}"), value, known)
}

/// The cleaned paths, sorted, each once.
pub(crate) fn sandbox_paths(name: &str, paths: &[String]) -> Result<Vec<String>> {
    too_many(name, paths.len(), MAX_INTENT_LIST)?;
    let mut cleaned = Vec::with_capacity(paths.len());
    for path in paths {
        let path = text::clean_path(&trimmed(name, path)?);
        sandbox_string(name, &path)?;
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
