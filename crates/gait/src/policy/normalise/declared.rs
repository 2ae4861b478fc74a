//! The normal form of what a rule asks of the declared agent, its credential and its context.

use super::misplaced::{Checked, Under};
use super::value::{known_set, lower_set, seconds, set, word};
use crate::evaluate::{AgentClause, ContextClause, CredentialClause};
use crate::intent::{CREDENTIAL_ACCESS, CREDENTIAL_SOURCES};
use crate::limits::invalid;
use crate::policy::file::RuleFile;
use crate::text;

pub(super) fn agent(name: &str, file: &RuleFile) -> Checked<AgentClause> {
    let manifest_digest = word(file.required_agent_manifest_digest.as_deref())
        .under("required_agent_manifest_digest")?;
    if !manifest_digest.is_empty() && !text::is_sha256_hex(&manifest_digest) {
        let message = format!("required_agent_manifest_digest must be sha256 hex for {name}");
        return Err(invalid(message)).under("required_agent_manifest_digest");
    }
    Ok(AgentClause {
        require_declared_agent: file.require_declared_agent.unwrap_or_default(),
        allowed_ids: set(file.allowed_agent_ids.as_deref())?,
        denied_ids: set(file.denied_agent_ids.as_deref())?,
        manifest_digest,
        publishers: lower_set(file.allowed_agent_manifest_publishers.as_deref())?,
        sources: lower_set(file.allowed_agent_manifest_sources.as_deref())?,
        lifecycle_states: lower_set(file.required_agent_lifecycle_states.as_deref())?,
        require_agent_owner: file.require_agent_owner.unwrap_or_default(),
        require_unexpired_agent: file.require_unexpired_agent.unwrap_or_default(),
    })
}

pub(super) fn credential(name: &str, file: &RuleFile) -> Checked<CredentialClause> {
    Ok(CredentialClause {
        block_standing_credentials: file.block_standing_credentials.unwrap_or_default(),
        sources: known_set(
            &format!("allowed_credential_source for {name}"),
            file.allowed_credential_sources.as_deref(),
            &CREDENTIAL_SOURCES,
        )
        .under("allowed_credential_sources")?,
        issuers: set(file.allowed_credential_issuers.as_deref())?,
        access_types: known_set(
            &format!("allowed_credential_access_type for {name}"),
            file.allowed_credential_access_types.as_deref(),
            &CREDENTIAL_ACCESS,
        )
        .under("allowed_credential_access_types")?,
        max_ttl_seconds: seconds(
            "max_credential_ttl_seconds",
            name,
            file.max_credential_ttl_seconds,
        )
        .under("max_credential_ttl_seconds")?,
        require_jit: file.require_jit_credential.unwrap_or_default(),
    })
}

pub(super) fn context(name: &str, file: &RuleFile) -> Checked<ContextClause> {
    let required = file.require_context_evidence.unwrap_or_default();
    let mode = word(file.required_context_evidence_mode.as_deref())?;
    if !matches!(mode.as_str(), "" | "required") {
        let message = format!("required_context_evidence_mode must be required for {name}");
        return Err(invalid(message)).under("required_context_evidence_mode");
    }
    Ok(ContextClause {
        required,
        in_required_mode: required || !mode.is_empty(),
        max_age_seconds: seconds(
            "max_context_age_seconds",
            name,
            file.max_context_age_seconds,
        )
        .under("max_context_age_seconds")?,
    })
}
