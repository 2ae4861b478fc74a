//! The normal form of the conditions and of the endpoint constraint of a rule.

use worldcompute_fault::Result;

use super::value::{all_of, join, lower_set, plain, raise, set};
use crate::evaluate::{Annotations, Constraint, Match, Patterns};
use crate::intent::{CLASSES, DISCOVERY};
use crate::limits::invalid;
use crate::policy::file::{AnnotationsFile, EndpointFile, MatchFile};
use crate::verdict::Verdict;

pub(super) fn matches(name: &str, file: MatchFile) -> Result<Match> {
    let endpoint_classes = lower_set(join(file.endpoint_classes, file.endpoint_class))?;
    all_of(
        &format!("match endpoint_class for {name}"),
        &endpoint_classes,
        &CLASSES,
    )?;
    let discovery_methods = lower_set(file.discovery_method)?;
    all_of(
        &format!("match discovery_method for {name}"),
        &discovery_methods,
        &DISCOVERY,
    )?;
    let depth = file.max_delegation_depth.map(|depth| {
        usize::try_from(depth)
            .map_err(|_| invalid(format!("max_delegation_depth must be >= 0 for {name}")))
    });
    Ok(Match {
        tool_names: lower_set(join(file.tool_names, file.tool_name.map(|name| vec![name])))?,
        risk_classes: lower_set(file.risk_classes)?,
        target_kinds: lower_set(file.target_kinds)?,
        target_values: set(file.target_values)?,
        endpoint_classes,
        discovery_methods,
        annotations: file.tool_annotations.map(annotations).unwrap_or_default(),
        skill_publishers: lower_set(file.skill_publishers)?,
        skill_sources: lower_set(file.skill_sources)?,
        data_classes: lower_set(file.data_classes)?,
        destination_kinds: lower_set(file.destination_kinds)?,
        destination_values: set(file.destination_values)?,
        destination_operations: lower_set(file.destination_operations)?,
        provenance_sources: lower_set(file.provenance_sources)?,
        identities: set(file.identities)?,
        workspace_prefixes: set(file.workspace_prefixes)?,
        require_delegation: file.require_delegation.unwrap_or_default(),
        allowed_delegator_identities: set(file.allowed_delegator_identities)?,
        allowed_delegate_identities: set(file.allowed_delegate_identities)?,
        delegation_scopes: lower_set(file.delegation_scopes)?,
        max_delegation_depth: depth.transpose()?,
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

pub(super) fn constraint(name: &str, file: EndpointFile) -> Result<Option<Constraint>> {
    let egress_classes = lower_set(file.egress_classes)?;
    all_of(
        &format!("endpoint.egress_class for {name}"),
        &egress_classes,
        &CLASSES,
    )?;
    if egress_classes
        .iter()
        .any(|class| !class.starts_with("net."))
    {
        return Err(invalid(format!(
            "endpoint.egress_class must be network class for {name}"
        )));
    }
    let destructive = format!("endpoint.destructive_action for {name}");
    let constraint = Constraint {
        enabled: true,
        path_allowlist: Patterns::of_paths(name, set(file.path_allowlist)?)?,
        path_denylist: Patterns::of_paths(name, set(file.path_denylist)?)?,
        domain_allowlist: Patterns::of_domains(name, lower_set(file.domain_allowlist)?)?,
        domain_denylist: Patterns::of_domains(name, lower_set(file.domain_denylist)?)?,
        egress_classes,
        action: raise(&format!("endpoint.action for {name}"), file.action)?
            .unwrap_or(Verdict::Block),
        destructive_action: raise(&destructive, file.destructive_action)?,
        reason_code: or_default(plain(file.reason_code)?),
        violation: or_default(plain(file.violation)?),
    };
    let enabled = file.enabled.unwrap_or_default() || constraint.says_something();
    Ok(enabled.then_some(constraint))
}

fn or_default(code: String) -> String {
    if code.is_empty() {
        return "endpoint_constraint_violation".to_owned();
    }
    code
}
