//! The policy file: every key of the language, and nothing else.

use serde::Deserialize;
use serde::de::IgnoredAny;
use worldcompute_fault::{Category, Fault, Result};

use crate::limits::invalid;

/// A list; leaving it empty or null means the empty list.
pub(super) type List = Option<Vec<String>>;
/// A key whose value this gate does not look at, because its presence alone decides.
type Present = Option<IgnoredAny>;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PolicyFile {
    pub(super) schema_id: Option<String>,
    pub(super) schema_version: Option<String>,
    pub(super) default_verdict: Option<String>,
    pub(super) default_action: Option<String>,
    pub(super) scripts: Option<ScriptsFile>,
    pub(super) fail_closed: Option<FailClosedFile>,
    pub(super) rules: Option<Vec<RuleFile>>,
    mcp_trust: Present,
    version: Present,
    name: Present,
    boundaries: Present,
    defaults: Present,
    trust_sources: Present,
    unknown_server: Present,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ScriptsFile {
    pub(super) max_steps: Option<i64>,
    pub(super) require_approval_above: Option<i64>,
    pub(super) block_mixed_risk: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FailClosedFile {
    pub(super) enabled: Option<bool>,
    pub(super) risk_classes: List,
    pub(super) required_fields: List,
    pub(super) required_high_risk_fields: List,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RuleFile {
    pub(super) name: Option<String>,
    pub(super) priority: Option<i64>,
    pub(super) effect: Option<String>,
    pub(super) action: Option<String>,
    #[serde(rename = "match")]
    pub(super) matches: Option<MatchFile>,
    pub(super) endpoint: Option<EndpointFile>,
    pub(super) reason_codes: List,
    pub(super) violations: List,
    pub(super) min_approvals: Option<i64>,
    pub(super) require_distinct_approvers: Option<bool>,
    pub(super) require_broker_credential: Option<bool>,
    pub(super) broker_reference: Option<String>,
    pub(super) broker_scopes: List,
    pub(super) rate_limit: Option<LimitFile>,
    pub(super) destructive_budget: Option<LimitFile>,
    allowed_agent_ids: Present,
    allowed_agent_manifest_publishers: Present,
    allowed_agent_manifest_sources: Present,
    allowed_credential_access_types: Present,
    allowed_credential_issuers: Present,
    allowed_credential_sources: Present,
    block_standing_credentials: Present,
    dataflow: Present,
    denied_agent_ids: Present,
    freeze_window: Present,
    max_context_age_seconds: Present,
    max_credential_ttl_seconds: Present,
    require_agent_owner: Present,
    require_context_evidence: Present,
    require_declared_agent: Present,
    require_jit_credential: Present,
    require_unexpired_agent: Present,
    required_agent_lifecycle_states: Present,
    required_agent_manifest_digest: Present,
    required_context_evidence_mode: Present,
    sandbox: Present,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MatchFile {
    pub(super) tool_name: Option<String>,
    pub(super) tool_names: List,
    pub(super) risk_classes: List,
    pub(super) target_kinds: List,
    pub(super) target_values: List,
    pub(super) endpoint_class: List,
    pub(super) endpoint_classes: List,
    pub(super) discovery_method: List,
    pub(super) tool_annotations: Option<AnnotationsFile>,
    pub(super) skill_publishers: List,
    pub(super) skill_sources: List,
    pub(super) data_classes: List,
    pub(super) destination_kinds: List,
    pub(super) destination_values: List,
    pub(super) destination_operations: List,
    pub(super) provenance_sources: List,
    pub(super) identities: List,
    pub(super) workspace_prefixes: List,
    pub(super) require_delegation: Option<bool>,
    pub(super) allowed_delegator_identities: List,
    pub(super) allowed_delegate_identities: List,
    pub(super) delegation_scopes: List,
    pub(super) max_delegation_depth: Option<i64>,
    context_autonomy_levels: Present,
    context_data_classes: Present,
    context_endpoint_classes: Present,
    context_tool_names: Present,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AnnotationsFile {
    pub(super) read_only_hint: Option<bool>,
    pub(super) destructive_hint: Option<bool>,
    pub(super) idempotent_hint: Option<bool>,
    pub(super) open_world_hint: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EndpointFile {
    pub(super) enabled: Option<bool>,
    pub(super) path_allowlist: List,
    pub(super) path_denylist: List,
    pub(super) domain_allowlist: List,
    pub(super) domain_denylist: List,
    pub(super) egress_classes: List,
    pub(super) action: Option<String>,
    pub(super) destructive_action: Option<String>,
    pub(super) reason_code: Option<String>,
    pub(super) violation: Option<String>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitFile {
    pub(super) requests: Option<i64>,
    pub(super) window: Option<String>,
    pub(super) scope: Option<String>,
}

impl PolicyFile {
    /// Refuses keys that this gate knows of but does not evaluate, and those of the draft language.
    pub(super) fn refuse_unsupported(&self) -> Result<()> {
        self.refuse_legacy()?;
        refuse("mcp_trust", self.mcp_trust.is_some())?;
        self.rules
            .iter()
            .flatten()
            .try_for_each(RuleFile::refuse_unsupported)
    }

    fn refuse_legacy(&self) -> Result<()> {
        let keys = [
            (
                "version",
                self.version.is_some(),
                "schema_id|schema_version (set schema_id=gait.gate.policy and schema_version=1.0.0)",
            ),
            ("name", self.name.is_some(), "rules[].name"),
            (
                "boundaries",
                self.boundaries.is_some(),
                "rules[].match|rules[].endpoint",
            ),
            (
                "defaults",
                self.defaults.is_some(),
                "default_verdict|fail_closed",
            ),
            ("trust_sources", self.trust_sources.is_some(), "mcp_trust"),
            ("unknown_server", self.unknown_server.is_some(), "mcp_trust"),
        ];
        let found: Vec<_> = keys
            .into_iter()
            .filter(|(_, present, _)| *present)
            .collect();
        if found.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = found.iter().map(|(name, ..)| *name).collect();
        let ways: Vec<_> = found
            .iter()
            .map(|(name, _, way)| format!("{name}->{way}"))
            .collect();
        let message = format!(
            "parse policy yaml: legacy policy proposal fields are not supported [{}]: {}",
            names.join(", "),
            ways.join("; ")
        );
        Err(invalid(message).hint("rewrite the policy with the keys named in the message"))
    }
}

impl RuleFile {
    fn refuse_unsupported(&self) -> Result<()> {
        if let Some(matches) = &self.matches {
            matches.refuse_unsupported()?;
        }
        let keys = [
            ("allowed_agent_ids", &self.allowed_agent_ids),
            (
                "allowed_agent_manifest_publishers",
                &self.allowed_agent_manifest_publishers,
            ),
            (
                "allowed_agent_manifest_sources",
                &self.allowed_agent_manifest_sources,
            ),
            (
                "allowed_credential_access_types",
                &self.allowed_credential_access_types,
            ),
            (
                "allowed_credential_issuers",
                &self.allowed_credential_issuers,
            ),
            (
                "allowed_credential_sources",
                &self.allowed_credential_sources,
            ),
            (
                "block_standing_credentials",
                &self.block_standing_credentials,
            ),
            ("dataflow", &self.dataflow),
            ("denied_agent_ids", &self.denied_agent_ids),
            ("freeze_window", &self.freeze_window),
            ("max_context_age_seconds", &self.max_context_age_seconds),
            (
                "max_credential_ttl_seconds",
                &self.max_credential_ttl_seconds,
            ),
            ("require_agent_owner", &self.require_agent_owner),
            ("require_context_evidence", &self.require_context_evidence),
            ("require_declared_agent", &self.require_declared_agent),
            ("require_jit_credential", &self.require_jit_credential),
            ("require_unexpired_agent", &self.require_unexpired_agent),
            (
                "required_agent_lifecycle_states",
                &self.required_agent_lifecycle_states,
            ),
            (
                "required_agent_manifest_digest",
                &self.required_agent_manifest_digest,
            ),
            (
                "required_context_evidence_mode",
                &self.required_context_evidence_mode,
            ),
            ("sandbox", &self.sandbox),
        ];
        keys.into_iter()
            .try_for_each(|(name, key)| refuse(&format!("rules[].{name}"), key.is_some()))
    }
}

impl MatchFile {
    fn refuse_unsupported(&self) -> Result<()> {
        let keys = [
            ("context_autonomy_levels", &self.context_autonomy_levels),
            ("context_data_classes", &self.context_data_classes),
            ("context_endpoint_classes", &self.context_endpoint_classes),
            ("context_tool_names", &self.context_tool_names),
        ];
        keys.into_iter()
            .try_for_each(|(name, key)| refuse(&format!("rules[].match.{name}"), key.is_some()))
    }
}

fn refuse(key: &str, present: bool) -> Result<()> {
    if !present {
        return Ok(());
    }
    let message =
        format!("this gate does not evaluate the policy key {key}, so it denies the whole policy");
    Err(Fault::new(
        Category::InvalidInput,
        "unsupported_policy_feature",
        message,
    )
    .hint(format!(
        "remove {key}, or decide with a gate that evaluates it"
    )))
}
