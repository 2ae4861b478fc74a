//! The policy file: every key of the language, and nothing else.

use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use worldcompute_fault::{FieldReplacement, Migration, Result};

use crate::limits::{MAX_RULES, invalid};

/// A list; leaving it empty or null means the empty list.
pub(super) type List = Option<Vec<String>>;
/// A key of the draft language, whose presence alone decides.
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
    pub(super) rules: Option<RulesFile>,
    pub(super) mcp_trust: Option<TrustFile>,
    version: Present,
    name: Present,
    boundaries: Present,
    defaults: Present,
    trust_sources: Present,
    unknown_server: Present,
}

/// The rules. Past the limit they are counted and not kept: a rule that says nothing takes a thousand times the memory
/// of its text.
#[derive(Debug, Default)]
pub(super) struct RulesFile {
    pub(super) kept: Vec<RuleFile>,
    pub(super) count: usize,
}

impl<'de> Deserialize<'de> for RulesFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rules;
        impl<'de> Visitor<'de> for Rules {
            type Value = RulesFile;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut rules: A) -> Result<RulesFile, A::Error> {
                let mut file = RulesFile::default();
                while file.count < MAX_RULES {
                    let Some(rule) = rules.next_element()? else {
                        return Ok(file);
                    };
                    file.kept.push(rule);
                    file.count += 1;
                }
                while rules.next_element::<IgnoredAny>()?.is_some() {
                    file.count += 1;
                }
                Ok(file)
            }
        }
        deserializer.deserialize_seq(Rules)
    }
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
    pub(super) require_declared_agent: Option<bool>,
    pub(super) allowed_agent_ids: List,
    pub(super) denied_agent_ids: List,
    pub(super) required_agent_manifest_digest: Option<String>,
    pub(super) allowed_agent_manifest_publishers: List,
    pub(super) allowed_agent_manifest_sources: List,
    pub(super) required_agent_lifecycle_states: List,
    pub(super) require_agent_owner: Option<bool>,
    pub(super) require_unexpired_agent: Option<bool>,
    pub(super) block_standing_credentials: Option<bool>,
    pub(super) allowed_credential_sources: List,
    pub(super) allowed_credential_issuers: List,
    pub(super) allowed_credential_access_types: List,
    pub(super) max_credential_ttl_seconds: Option<i64>,
    pub(super) require_jit_credential: Option<bool>,
    pub(super) require_context_evidence: Option<bool>,
    pub(super) required_context_evidence_mode: Option<String>,
    pub(super) max_context_age_seconds: Option<i64>,
    pub(super) freeze_window: Option<FreezeFile>,
    pub(super) sandbox: Option<SandboxFile>,
    pub(super) dataflow: Option<DataflowFile>,
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
    pub(super) context_autonomy_levels: List,
    pub(super) context_data_classes: List,
    pub(super) context_endpoint_classes: List,
    pub(super) context_tool_names: List,
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

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FreezeFile {
    pub(super) enabled: Option<bool>,
    pub(super) timezone: Option<String>,
    pub(super) effect: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) environments: List,
    pub(super) risk_classes: List,
    pub(super) windows: Option<Vec<FreezeRangeFile>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FreezeRangeFile {
    pub(super) name: Option<String>,
    pub(super) start: Option<String>,
    pub(super) end: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SandboxFile {
    pub(super) enabled: Option<bool>,
    pub(super) allowed_network_modes: List,
    pub(super) allowed_writable_path_prefixes: List,
    pub(super) required_read_only_roots: List,
    pub(super) allowed_env_exposure_modes: List,
    pub(super) max_timeout_seconds: Option<i64>,
    pub(super) allowed_filesystem_isolations: List,
    pub(super) allowed_user_modes: List,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DataflowFile {
    pub(super) enabled: Option<bool>,
    pub(super) tainted_sources: List,
    pub(super) destination_kinds: List,
    pub(super) destination_values: List,
    pub(super) destination_operations: List,
    pub(super) action: Option<String>,
    pub(super) reason_code: Option<String>,
    pub(super) violation: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TrustFile {
    pub(super) enabled: Option<bool>,
    pub(super) snapshot: Option<String>,
    pub(super) action: Option<String>,
    pub(super) required_risk_classes: List,
    pub(super) min_score: Option<f64>,
    pub(super) max_age: Option<String>,
    pub(super) publisher_allowlist: List,
    pub(super) require_registry: Option<bool>,
}

/// What says today what the keys of the draft language said.
const DRAFT: [FieldReplacement; 6] = [
    FieldReplacement {
        field: "version",
        replacement_fields: &["schema_id", "schema_version"],
        note: "set schema_id=gait.gate.policy and schema_version=1.0.0",
    },
    FieldReplacement {
        field: "name",
        replacement_fields: &[],
        note: "leave it out: rules have names, a policy has none",
    },
    FieldReplacement {
        field: "boundaries",
        replacement_fields: &["rules", "mcp_trust"],
        note: "",
    },
    FieldReplacement {
        field: "defaults",
        replacement_fields: &["default_verdict", "fail_closed"],
        note: "",
    },
    FieldReplacement {
        field: "trust_sources",
        replacement_fields: &["mcp_trust.snapshot"],
        note: "write what is known of the servers into a local snapshot",
    },
    FieldReplacement {
        field: "unknown_server",
        replacement_fields: &["mcp_trust.action"],
        note: "a server that the snapshot does not list gets the action",
    },
];

impl PolicyFile {
    /// Refuses the keys of the draft language.
    pub(super) fn refuse_legacy(&self) -> Result<()> {
        let present = [
            &self.version,
            &self.name,
            &self.boundaries,
            &self.defaults,
            &self.trust_sources,
            &self.unknown_server,
        ];
        let found = present.iter().zip(DRAFT).filter(|(key, _)| key.is_some());
        let replacements: Vec<FieldReplacement> = found.map(|(_, draft)| draft).collect();
        if replacements.is_empty() {
            return Ok(());
        }
        let fields: Vec<_> = replacements.iter().map(|draft| draft.field).collect();
        let ways: Vec<_> = replacements.iter().map(way).collect();
        let message = format!(
            "parse policy yaml: legacy policy proposal fields are not supported [{}]: {}",
            fields.join(", "),
            ways.join("; ")
        );
        let fault = invalid(message)
            .because(
                "legacy_policy",
                "rewrite the policy with the keys named in the message",
            )
            .hint("write the policy with schema_id, schema_version, default_verdict, fail_closed, mcp_trust and rules")
            .migrated(Migration::PolicyFields {
                deprecated_fields: fields,
                field_replacements: replacements,
            });
        Err(fault)
    }
}

fn way(draft: &FieldReplacement) -> String {
    let keys = draft.replacement_fields.join("|");
    match (&*keys, draft.note) {
        ("", note) => format!("{}->{note}", draft.field),
        (keys, "") => format!("{}->{keys}", draft.field),
        (keys, note) => format!("{}->{keys} ({note})", draft.field),
    }
}
