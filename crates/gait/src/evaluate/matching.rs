//! Which calls a rule is about.

use serde::Serialize;

use super::{Call, readings};
use crate::intent::{Context, Delegation, Target};
use crate::inventory::ToolRecord;
use crate::text::clean_path;
use crate::verdict::Verdict;

/// The conditions of a rule: all that are given must hold, and within a list any entry will do.
///
/// Every list is sorted. Serialised, it is the rule's `Match` of the policy digest: the keys of the format's first
/// version always, later ones only when they say something.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Match {
    pub(crate) tool_names: Vec<String>,
    pub(crate) risk_classes: Vec<String>,
    pub(crate) target_kinds: Vec<String>,
    pub(crate) target_values: Vec<String>,
    pub(crate) provenance_sources: Vec<String>,
    pub(crate) identities: Vec<String>,
    pub(crate) workspace_prefixes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) endpoint_classes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) discovery_methods: Vec<String>,
    #[serde(
        rename = "ToolAnnotations",
        skip_serializing_if = "Annotations::is_empty"
    )]
    pub(crate) annotations: Annotations,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) skill_publishers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) skill_sources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) data_classes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) destination_kinds: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) destination_values: Vec<String>,
    #[serde(rename = "DestinationOps", skip_serializing_if = "Vec::is_empty")]
    pub(crate) destination_operations: Vec<String>,
    #[serde(flatten)]
    pub(crate) inventory: InventoryMatch,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) require_delegation: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) allowed_delegator_identities: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) allowed_delegate_identities: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) delegation_scopes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_delegation_depth: Option<usize>,
}

/// What the inventory must say about the tool.
#[derive(Debug, Default, Serialize)]
pub(crate) struct InventoryMatch {
    #[serde(rename = "ContextToolNames", skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_names: Vec<String>,
    #[serde(rename = "ContextDataClasses", skip_serializing_if = "Vec::is_empty")]
    pub(crate) data_classes: Vec<String>,
    #[serde(
        rename = "ContextEndpointClasses",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) endpoint_classes: Vec<String>,
    #[serde(
        rename = "ContextAutonomyLevels",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) autonomy_levels: Vec<String>,
}

/// What a tool must say about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Annotations {
    #[serde(rename = "ReadOnlyHint", skip_serializing_if = "Option::is_none")]
    pub(crate) read_only: Option<bool>,
    #[serde(rename = "DestructiveHint", skip_serializing_if = "Option::is_none")]
    pub(crate) destructive: Option<bool>,
    #[serde(rename = "IdempotentHint", skip_serializing_if = "Option::is_none")]
    pub(crate) idempotent: Option<bool>,
    #[serde(rename = "OpenWorldHint", skip_serializing_if = "Option::is_none")]
    pub(crate) open_world: Option<bool>,
}

impl Match {
    /// Whether calls of high or critical risk can match.
    pub(crate) fn admits_high_risk(&self) -> bool {
        let is_high = |class: &String| class == "high" || class == "critical";
        self.risk_classes.is_empty() || self.risk_classes.iter().any(is_high)
    }

    /// Whether a rule with this effect is about `call`.
    ///
    /// What restricts is about a value in any spelling and about what a step inherits; what lets through is about what
    /// the call itself says, as the policy spells it. A dry run permits nothing, and so restricts.
    pub(super) fn holds(&self, call: &Call<'_>, effect: Verdict) -> bool {
        let restricts = effect > Verdict::Allow;
        self.caller_holds(call)
            && self.targets_hold(call.targets)
            && self.values_hold(call.targets, restricts)
            && self.annotations.hold(call.targets)
            && self.origin_holds(call, restricts)
            && self.delegation_holds(call.delegation)
            && self.inventory.holds(call.tool)
    }

    fn caller_holds(&self, call: &Call<'_>) -> bool {
        let context = call.context;
        admits(&self.tool_names, call.tool_name)
            && admits(&self.risk_classes, &context.risk_class)
            && admits(&self.identities, &context.identity)
            && (self.workspace_prefixes.is_empty()
                || self
                    .workspace_prefixes
                    .iter()
                    .any(|prefix| workspace(context).starts_with(prefix)))
    }

    fn targets_hold(&self, targets: &[Target]) -> bool {
        any_target(&self.target_kinds, targets, |target| &target.kind)
            && any_target(&self.endpoint_classes, targets, |target| {
                &target.endpoint_class
            })
            && any_target(&self.discovery_methods, targets, |target| {
                &target.discovery_method
            })
            && any_target(&self.data_classes, targets, |target| &target.sensitivity)
            && any_target(&self.destination_kinds, targets, |target| &target.kind)
            && any_target(&self.destination_operations, targets, |target| {
                &target.operation
            })
    }

    fn values_hold(&self, targets: &[Target], in_any_spelling: bool) -> bool {
        let lists = [&self.target_values, &self.destination_values];
        let mut asked = lists.into_iter().filter(|list| !list.is_empty());
        asked.all(|list| {
            targets.iter().any(|target| {
                contains(list, &target.value) || (in_any_spelling && readings::listed(list, target))
            })
        })
    }

    fn origin_holds(&self, call: &Call<'_>, restricts: bool) -> bool {
        let inherited = call.inherited_provenance.iter().filter(|_| restricts);
        let skill = |wanted: &[String], of: fn(&crate::intent::SkillProvenance) -> &str| {
            wanted.is_empty()
                || call
                    .skill_provenance
                    .is_some_and(|skill| contains(wanted, &crate::text::lower(of(skill))))
        };
        skill(&self.skill_publishers, |skill| &skill.publisher)
            && skill(&self.skill_sources, |skill| &skill.source)
            && (self.provenance_sources.is_empty()
                || call
                    .arg_provenance
                    .iter()
                    .chain(inherited)
                    .any(|entry| contains(&self.provenance_sources, &entry.source)))
    }

    fn delegation_holds(&self, delegation: Option<&Delegation>) -> bool {
        let Some(delegation) = delegation else {
            return !self.is_about_delegation();
        };
        let chain = &delegation.chain;
        let any_link = |wanted: &[String], of: fn(&crate::intent::DelegationLink) -> &str| {
            chain.iter().any(|link| contains(wanted, of(link)))
        };
        let delegators = &self.allowed_delegator_identities;
        let delegates = &self.allowed_delegate_identities;
        let scopes = &self.delegation_scopes;
        self.max_delegation_depth
            .is_none_or(|depth| chain.len() <= depth)
            && (delegators.is_empty() || any_link(delegators, |link| &link.delegator_identity))
            && (admits(delegates, &delegation.requester_identity)
                || any_link(delegates, |link| &link.delegate_identity))
            && (admits(scopes, &delegation.scope_class)
                || any_link(scopes, |link| &link.scope_class))
    }

    fn is_about_delegation(&self) -> bool {
        self.require_delegation
            || self.max_delegation_depth.is_some()
            || !self.allowed_delegator_identities.is_empty()
            || !self.allowed_delegate_identities.is_empty()
            || !self.delegation_scopes.is_empty()
    }
}

impl InventoryMatch {
    /// Only the inventory is asked: what an intent says of its own tool is a claim.
    fn holds(&self, tool: Option<&ToolRecord>) -> bool {
        let of = |field: fn(&ToolRecord) -> &str| tool.map_or("", field);
        admits(&self.tool_names, of(|tool| &tool.tool_name))
            && admits(&self.data_classes, of(|tool| &tool.data_class))
            && admits(&self.endpoint_classes, of(|tool| &tool.endpoint_class))
            && admits(&self.autonomy_levels, of(|tool| &tool.autonomy_level))
    }
}

impl Annotations {
    fn hold(self, targets: &[Target]) -> bool {
        let any = |wanted: Option<bool>, hint: fn(&Target) -> bool| {
            wanted.is_none_or(|wanted| targets.iter().any(|target| hint(target) == wanted))
        };
        any(self.read_only, |target| target.read_only_hint)
            && any(self.destructive, |target| target.destructive_hint)
            && any(self.idempotent, |target| target.idempotent_hint)
            && any(self.open_world, |target| target.open_world_hint)
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether the sorted list is empty, which asks for nothing, or has `value`.
pub(super) fn admits(sorted: &[String], value: &str) -> bool {
    sorted.is_empty() || contains(sorted, value)
}

fn any_target<'a>(sorted: &[String], targets: &'a [Target], of: fn(&'a Target) -> &'a str) -> bool {
    sorted.is_empty() || targets.iter().any(|target| contains(sorted, of(target)))
}

/// The workspace without detours, for prefixes.
fn workspace(context: &Context) -> String {
    let mut clean = clean_path(&context.workspace);
    if context.workspace.ends_with('/') && !clean.ends_with('/') {
        clean.push('/');
    }
    clean
}

/// Whether the sorted list has `value`.
pub(super) fn contains(sorted: &[String], value: &str) -> bool {
    sorted
        .binary_search_by(|have| have.as_str().cmp(value))
        .is_ok()
}
