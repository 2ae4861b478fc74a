//! A policy as a document: the normal form in the policy language itself, which parses back to the same digest.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use worldcompute_durable::{Mode, read_bounded, write_atomic};
use worldcompute_fault::{Category, Fault, Result};

use super::Policy;
use crate::in_file::InFile;
use crate::limits::MAX_POLICY_BYTES;

impl Policy {
    /// The normal form of this policy, as a document of the policy language.
    pub fn document(&self) -> Result<Value> {
        let digested = serde_json::to_value(self.digested()).map_err(unwritable)?;
        let mut document = spell(digested);
        if let Value::Object(members) = &mut document {
            members.retain(|key, value| key != "fail_closed" || says_something(value));
        }
        Ok(document)
    }

    /// The normal form as YAML: every key in one order, defaults written out, comments gone.
    pub fn to_yaml(&self) -> Result<String> {
        let options = serde_saphyr::ser_options! { compact_list_indent: false };
        serde_saphyr::to_string_with_options(&Ordered(&self.document()?), options).map_err(
            |error| {
                Fault::new(
                    Category::InternalFailure,
                    "internal_failure",
                    "write policy yaml",
                )
                .caused_by(error)
            },
        )
    }
}

/// A policy file in its normal form.
#[derive(Debug)]
pub struct Formatted {
    /// The policy.
    pub policy: Policy,
    /// The file as it should be.
    pub yaml: String,
    /// Whether it was not.
    pub changed: bool,
}

/// Reads the policy file at `path`, and writes its normal form back if `write` says so and it differs.
///
/// The file stays as readable for others as it was; a crash leaves the old file or the new one.
pub fn format_file(path: &Path, write: bool) -> Result<Formatted> {
    let before = read_bounded(path, MAX_POLICY_BYTES as u64)?;
    let policy = Policy::parse(&before).in_file(path)?;
    let yaml = policy.to_yaml()?;
    let changed = before != yaml.as_bytes();
    if write && changed {
        write_atomic(path, yaml.as_bytes(), mode(path)?)?;
    }
    Ok(Formatted {
        policy,
        yaml,
        changed,
    })
}

fn mode(path: &Path) -> Result<Mode> {
    let metadata = fs::metadata(path)
        .map_err(|error| Fault::io(format_args!("read {}", path.display()), &error))?;
    Ok(match metadata.permissions().mode() & 0o044 {
        0 => Mode::Private,
        _ => Mode::Public,
    })
}

fn unwritable(error: serde_json::Error) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "internal_failure",
        "write policy",
    )
    .caused_by(error)
}

fn says_something(fail_closed: &Value) -> bool {
    let members = fail_closed.as_object().into_iter().flatten();
    members
        .into_iter()
        .any(|(_, value)| *value != Value::Bool(false))
}

/// The members that the digest spells otherwise than the file, beyond upper case.
const SPELLINGS: [(&str, &str); 11] = [
    ("AllowedAgentIDs", "allowed_agent_ids"),
    ("DeniedAgentIDs", "denied_agent_ids"),
    ("DestinationOps", "destination_operations"),
    ("DestructiveHint", "destructiveHint"),
    ("DiscoveryMethods", "discovery_method"),
    ("IdempotentHint", "idempotentHint"),
    ("MCPTrust", "mcp_trust"),
    ("OpenWorldHint", "openWorldHint"),
    ("ReadOnlyHint", "readOnlyHint"),
    ("SchemaID", "schema_id"),
    ("SnapshotPath", "snapshot"),
];

/// The digested form in the spelling of the file; what is empty is left out, as it says nothing.
fn spell(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let spelled = members
                .into_iter()
                .map(|(name, value)| (key(&name), spell(value)))
                .filter(|(_, value)| !is_empty(value));
            Value::Object(spelled.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(spell).collect()),
        value => value,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// `MaxCredentialTTLSeconds` as `max_credential_ttl_seconds`.
fn key(name: &str) -> String {
    if let Some((_, key)) = SPELLINGS.iter().find(|(digested, _)| *digested == name) {
        return (*key).to_owned();
    }
    let mut key = String::new();
    let mut rest = name.chars().peekable();
    let mut after_lower = false;
    let mut after_any = false;
    while let Some(letter) = rest.next() {
        let before_lower = rest.peek().is_some_and(char::is_ascii_lowercase);
        if letter.is_ascii_uppercase() && after_any && (after_lower || before_lower) {
            key.push('_');
        }
        let _ = write!(key, "{}", letter.to_ascii_lowercase());
        after_lower = letter.is_ascii_lowercase();
        after_any = true;
    }
    key
}

/// The keys that a reader looks for first, in that order; all others follow by name.
const FIRST: [&str; 17] = [
    "schema_id",
    "schema_version",
    "default_verdict",
    "scripts",
    "fail_closed",
    "mcp_trust",
    "rules",
    "name",
    "priority",
    "effect",
    "enabled",
    "timezone",
    "match",
    "endpoint",
    "dataflow",
    "reason_codes",
    "violations",
];

/// A document with its keys in the order for readers.
struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in in_order(members) {
                    map.serialize_entry(key, &Ordered(value))?;
                }
                map.end()
            }
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&Ordered(item))?;
                }
                list.end()
            }
            value => value.serialize(serializer),
        }
    }
}

fn in_order(members: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let rank = |key: &str| {
        let first = FIRST.iter().position(|first| *first == key);
        first.unwrap_or(FIRST.len())
    };
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by_key(|(key, _)| (rank(key), *key));
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::starter::{donor_policy, submitter_policy};

    const EVERYTHING: &str = "
default_action: block
scripts: {max_steps: 5, block_mixed_risk: true}
fail_closed: {enabled: true, required_fields: [targets], required_high_risk_fields: [run_id, credential_ttl_seconds]}
mcp_trust: {snapshot: s.json, min_score: 0.5, max_age: 90m, publisher_allowlist: [A], require_registry: true}
rules:
- name: 'yes: #1'
  priority: -3
  action: allow
  match:
    tool_name: t
    tool_names: ['1.0', 'null', \"~\", 'a\\b', \"line\\nbreak\", '2026-03-08T01:30:00', '- x', 'é']
    risk_classes: [high]
    target_kinds: [path]
    target_values: ['*']
    endpoint_class: [fs.read]
    discovery_method: [mcp]
    tool_annotations: {readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false}
    skill_publishers: [p]
    skill_sources: [s]
    data_classes: [d]
    destination_kinds: [url]
    destination_values: [v]
    destination_operations: [write]
    provenance_sources: [user]
    identities: [Alice]
    workspace_prefixes: [/w]
    context_tool_names: [t]
    context_data_classes: [d]
    context_endpoint_classes: [e]
    context_autonomy_levels: [l]
    require_delegation: true
    allowed_delegator_identities: [a]
    allowed_delegate_identities: [b]
    delegation_scopes: [s]
    max_delegation_depth: 0
  endpoint: {path_allowlist: [/tmp/**], domain_denylist: ['*.x'], egress_classes: [net.http], destructive_action: block}
  reason_codes: [R]
  violations: [V]
  require_declared_agent: true
  allowed_agent_ids: [a]
  denied_agent_ids: [b]
  required_agent_manifest_digest: eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee
  allowed_agent_manifest_publishers: [p]
  allowed_agent_manifest_sources: [s]
  required_agent_lifecycle_states: [l]
  require_agent_owner: true
  require_unexpired_agent: true
  block_standing_credentials: true
  allowed_credential_sources: [env]
  allowed_credential_issuers: [I]
  allowed_credential_access_types: [jit]
  max_credential_ttl_seconds: 60
  require_jit_credential: true
  min_approvals: 2
  require_context_evidence: true
  max_context_age_seconds: 9
  require_broker_credential: true
  broker_reference: B
  broker_scopes: [s]
  rate_limit: {requests: 3}
  destructive_budget: {requests: 1, window: hour, scope: tool}
  dataflow: {enabled: true}
  freeze_window: {timezone: Europe/Berlin, effect: require_approval, reason: r, environments: [prod],
    windows: [{start: '2026-01-01T00:00:00', end: '2026-01-02T00:00:00'}]}
  sandbox: {required_read_only_roots: [/], max_timeout_seconds: 5, allowed_user_modes: [root]}
- {name: plain, effect: allow, endpoint: {enabled: true}, sandbox: {enabled: true}}
";

    fn parse(text: &str) -> Policy {
        Policy::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_document_of_a_policy_is_a_policy_of_the_same_digest() {
        for text in [
            EVERYTHING,
            "",
            "default_verdict: allow",
            &donor_policy(&["general"]),
            &submitter_policy(),
        ] {
            let policy = parse(text);
            let yaml = policy.to_yaml().unwrap();
            assert_eq!(parse(&yaml).digest(), policy.digest(), "{yaml}");
            let json = policy.document().unwrap().to_string();
            assert_eq!(parse(&json).digest(), policy.digest(), "{json}");
        }
    }

    #[test]
    fn formatting_twice_is_formatting_once() {
        let once = parse(EVERYTHING).to_yaml().unwrap();
        assert_eq!(parse(&once).to_yaml().unwrap(), once);
    }

    #[test]
    fn the_normal_form_reads_from_what_matters_most() {
        let policy = parse("rules: [{name: r, effect: allow, match: {tool_name: T}}]");
        assert_eq!(
            policy.to_yaml().unwrap(),
            "schema_id: gait.gate.policy\nschema_version: \"1.0.0\"\ndefault_verdict: require_approval\nrules:\n  - name: r\n    \
             priority: 0\n    effect: allow\n    match:\n      tool_names:\n        - t\n"
        );
    }
}
