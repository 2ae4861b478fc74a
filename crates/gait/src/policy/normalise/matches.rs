//! The normal form of the conditions of a rule.

use super::misplaced::{Checked, Under};
use super::value::{known_set, lower_set, set};
use crate::evaluate::{Annotations, InventoryMatch, Match};
use crate::intent::{CLASSES, DISCOVERY};
use crate::limits::invalid;
use crate::policy::file::{AnnotationsFile, MatchFile};

pub(super) fn matches(name: &str, file: MatchFile) -> Checked<Match> {
    let lower = |list: &Option<Vec<String>>| lower_set(list.as_deref());
    let plain = |list: &Option<Vec<String>>| set(list.as_deref());
    let what = |key: &str| format!("match {key} for {name}");
    let depth = file.max_delegation_depth.map(|depth| {
        usize::try_from(depth)
            .map_err(|_| invalid(format!("max_delegation_depth must be >= 0 for {name}")))
    });
    Ok(Match {
        risk_classes: lower(&file.risk_classes)?,
        target_kinds: lower(&file.target_kinds)?,
        target_values: plain(&file.target_values)?,
        discovery_methods: known_set(
            &what("discovery_method"),
            file.discovery_method.as_deref(),
            &DISCOVERY,
        )
        .under("discovery_method")?,
        annotations: file.tool_annotations.map(annotations).unwrap_or_default(),
        skill_publishers: lower(&file.skill_publishers)?,
        skill_sources: lower(&file.skill_sources)?,
        data_classes: lower(&file.data_classes)?,
        destination_kinds: lower(&file.destination_kinds)?,
        destination_values: plain(&file.destination_values)?,
        destination_operations: lower(&file.destination_operations)?,
        provenance_sources: lower(&file.provenance_sources)?,
        identities: plain(&file.identities)?,
        workspace_prefixes: plain(&file.workspace_prefixes)?,
        inventory: InventoryMatch {
            tool_names: lower(&file.context_tool_names)?,
            data_classes: lower(&file.context_data_classes)?,
            endpoint_classes: lower(&file.context_endpoint_classes)?,
            autonomy_levels: lower(&file.context_autonomy_levels)?,
        },
        require_delegation: file.require_delegation.unwrap_or_default(),
        allowed_delegator_identities: plain(&file.allowed_delegator_identities)?,
        allowed_delegate_identities: plain(&file.allowed_delegate_identities)?,
        delegation_scopes: lower(&file.delegation_scopes)?,
        max_delegation_depth: depth.transpose().under("max_delegation_depth")?,
        tool_names: lower(&join(
            file.tool_names,
            file.tool_name.map(|name| vec![name]),
        ))?,
        endpoint_classes: known_set(
            &what("endpoint_class"),
            join(file.endpoint_classes, file.endpoint_class).as_deref(),
            &CLASSES,
        )
        .under("endpoint_classes")?,
    })
}

const fn annotations(file: AnnotationsFile) -> Annotations {
    Annotations {
        read_only: file.read_only_hint,
        destructive: file.destructive_hint,
        idempotent: file.idempotent_hint,
        open_world: file.open_world_hint,
    }
}

/// Two spellings of one list.
fn join(first: Option<Vec<String>>, second: Option<Vec<String>>) -> Option<Vec<String>> {
    let mut all = first.unwrap_or_default();
    all.extend(second.unwrap_or_default());
    Some(all)
}
