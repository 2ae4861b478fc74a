//! The fields of an intent, as written by its author and as written into the digest.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use worldcompute_fault::Result;

use crate::limits::invalid;
use crate::wire_time::WireTime;

/// An intent before normalisation: fill in what applies, then [`IntentDraft::normalise`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct IntentDraft {
    /// Empty or [`crate::intent::SCHEMA_ID`].
    pub schema_id: String,
    /// Empty or [`crate::intent::SCHEMA_VERSION`].
    pub schema_version: String,
    /// When the intent was made; not part of the digest.
    pub created_at: WireTime,
    /// What is to be called, such as `worldcompute.task.run`. Ignored for a script.
    pub tool_name: String,
    /// The arguments of the call.
    pub args: Map<String, Value>,
    /// What the call touches.
    pub targets: Vec<Target>,
    /// Where the arguments come from.
    pub arg_provenance: Vec<ArgProvenance>,
    /// The skill on whose behalf the call is made.
    pub skill_provenance: Option<SkillProvenance>,
    /// On whose authority the caller acts.
    pub delegation: Option<Delegation>,
    /// Several calls to be judged as one.
    pub script: Option<Script>,
    /// Who asks, from where, at what risk.
    pub context: Context,
}

/// One thing that a call touches.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// `path`, `url`, `host`, `repo`, `bucket`, `table`, `queue`, `topic` or `other`.
    pub kind: String,
    /// The path, the address, the name.
    pub value: String,
    /// What is done to it, such as `read` or `delete`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// The data class, such as `public`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sensitivity: String,
    /// `fs.read`, `fs.write`, `fs.delete`, `proc.exec`, `net.http`, `net.dns`, `ui.click`, `ui.type`, `ui.navigate` or
    /// `other`; inferred when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint_class: String,
    /// The host that is reached; inferred when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint_domain: String,
    /// Whether something is lost; inferred when not set.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub destructive: bool,
    /// How the tool was found; `unknown` when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub discovery_method: String,
    /// The tool's own claim to only read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only_hint: bool,
    /// The tool's own admission to destroy.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub destructive_hint: bool,
    /// The tool's own claim to be repeatable.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub idempotent_hint: bool,
    /// The tool's own admission to reach outside.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub open_world_hint: bool,
}

impl Target {
    /// A name that is neither a file nor an address, such as `class:scientific`, with its data class.
    ///
    /// Its endpoint class is fixed to `other`, because a label executes nothing, whatever the tool is called. Its
    /// domain is `<data class>.<name>`, so that an endpoint constraint, which looks at every target, can rule on it.
    pub fn label(name: impl Into<String>, data_class: impl Into<String>) -> Self {
        let (value, sensitivity) = (name.into(), data_class.into());
        Self {
            kind: "other".to_owned(),
            endpoint_class: "other".to_owned(),
            endpoint_domain: format!("{sensitivity}.{value}"),
            value,
            sensitivity,
            ..Self::default()
        }
    }
}

/// Where one argument comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct ArgProvenance {
    /// Which argument.
    pub arg_path: String,
    /// `user`, `tool_output`, `external` or `system`.
    pub source: String,
    /// The source's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source_ref: String,
    /// SHA-256 of the source in hex.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub integrity_digest: String,
}

/// The skill on whose behalf a call is made; its fields are in canonical order, which the trace relies on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SkillProvenance {
    /// SHA-256 of the skill in hex.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// Who published it.
    pub publisher: String,
    /// The key that signed it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub signature_key_id: String,
    /// The skill's name.
    pub skill_name: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub skill_version: String,
    /// Where it was found.
    pub source: String,
}

/// On whose authority the caller acts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delegation {
    /// Who asks: the last delegate of the chain.
    pub requester_identity: String,
    /// What was delegated.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope_class: String,
    /// Tokens that prove it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_refs: Vec<String>,
    /// From the origin of the authority to the requester.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<DelegationLink>,
    /// Since when; the format writes it even when unset.
    pub issued_at: WireTime,
    /// Until when; the format writes it even when unset.
    pub expires_at: WireTime,
}

/// One step of a delegation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DelegationLink {
    /// Who gives the authority.
    pub delegator_identity: String,
    /// Who gets it.
    pub delegate_identity: String,
    /// What was delegated.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope_class: String,
    /// The token that proves it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub token_ref: String,
    /// Since when; the format writes it even when unset.
    pub issued_at: WireTime,
    /// Until when; the format writes it even when unset.
    pub expires_at: WireTime,
}

/// Several calls to be judged as one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Script {
    /// 1 to 64 calls, in order.
    pub steps: Vec<ScriptStep>,
}

/// One call of a script.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScriptStep {
    /// What is to be called.
    pub tool_name: String,
    /// The arguments of the call.
    pub args: Map<String, Value>,
    /// What the call touches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
    /// Where the arguments come from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arg_provenance: Vec<ArgProvenance>,
}

/// Who asks, from where, at what risk; the first three fields are required.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    pub identity: String,
    pub workspace: String,
    pub risk_class: String,
    /// `plan` or `apply`; `apply` when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_identity: Option<AgentIdentity>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub run_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workflow_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repo: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub environment: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub job_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credential_ref: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credential_source: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credential_access_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credential_issuer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credential_subject: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credential_owner: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credential_target_binding: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credential_run_binding: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credential_job_binding: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub credential_ttl_seconds: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub approval_ref: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wrkr_inventory_ref: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent_action_bom_ref: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Sandbox>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub auth_context: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credential_scopes: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub environment_fingerprint: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub context_set_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub context_evidence_mode: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub context_refs: Vec<String>,
}

/// What is declared about the calling agent; its fields are in canonical order, which the trace relies on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentIdentity {
    pub approved_at: WireTime,
    pub expires_at: WireTime,
    pub issued_at: WireTime,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lifecycle_states: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub manifest_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub publisher: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// What is declared about the sandbox that the call runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub writable_paths: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_only_roots: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub env_exposure_mode: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout_seconds: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filesystem_isolation: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_mode: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub evidence_ref: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub evidence_digest: String,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The members whose contents are the author's own and not the format's.
const FREE_FORM: [&str; 2] = ["args", "auth_context"];

/// The members that are objects, wherever they stand.
const OBJECTS: [&str; 6] = [
    "agent_identity",
    "context",
    "delegation",
    "sandbox",
    "script",
    "skill_provenance",
];

/// The members that are lists of objects, wherever they stand.
const LISTS: [&str; 4] = ["arg_provenance", "chain", "steps", "targets"];

/// Makes `null` mean "left out", and refuses field names that a lenient reader could take for known ones.
pub(super) fn tidy(value: &mut Value) -> Result<()> {
    match value {
        Value::Object(members) => tidy_members(members),
        Value::Array(items) => items.iter_mut().try_for_each(tidy),
        _ => Ok(()),
    }
}

fn tidy_members(members: &mut Map<String, Value>) -> Result<()> {
    members.retain(|_, value| !value.is_null());
    for (name, value) in members {
        if name
            .bytes()
            .any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii())
        {
            return Err(invalid(format!("field names are lower-case: {name:?}")));
        }
        refuse_nameless(name, value)?;
        if !FREE_FORM.contains(&name.as_str()) {
            tidy(value)?;
        }
    }
    Ok(())
}

/// Refuses a list where an object belongs: its entries could pass for the object's members, by their order.
fn refuse_nameless(name: &str, value: &Value) -> Result<()> {
    let is_list = OBJECTS.contains(&name) && value.is_array();
    let entries = value.as_array().filter(|_| LISTS.contains(&name));
    if is_list || entries.is_some_and(|entries| entries.iter().any(Value::is_array)) {
        let message = format!("{name}: a list stands where an object belongs");
        return Err(invalid(message));
    }
    Ok(())
}
