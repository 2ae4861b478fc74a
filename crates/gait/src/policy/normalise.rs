//! From the file to the normal form: defaults, aliases, allowed values, order.

use worldcompute_fault::Result;

use super::file::{
    AnnotationsFile, EndpointFile, FailClosedFile, List, MatchFile, PolicyFile, RuleFile,
    ScriptsFile,
};
use super::{FailClosed, Policy, SCHEMA_ID, SCHEMA_VERSION, Scripts};
use crate::evaluate::{Annotations, Constraint, Match, Patterns, Rule};
use crate::intent::{CLASSES, DISCOVERY};
use crate::limits::{self, MAX_POLICY_LIST, MAX_POLICY_STRING, MAX_RULES, at_most, invalid};
use crate::text;
use crate::verdict::Verdict;

/// What `fail_closed.required_fields` may name.
const REQUIRED_FIELDS: [&str; 5] = [
    "targets",
    "arg_provenance",
    "endpoint_class",
    "delegation",
    "context_evidence",
];
/// What `fail_closed.required_high_risk_fields` may name.
const HIGH_RISK_FIELDS: [&str; 14] = [
    "agent_id",
    "agent_identity",
    "run_id",
    "workflow_id",
    "repo",
    "environment",
    "credential_ref",
    "credential_source",
    "credential_access_type",
    "credential_issuer",
    "credential_ttl_seconds",
    "approval_ref",
    "wrkr_inventory_ref",
    "agent_action_bom_ref",
];

pub(super) fn policy(file: PolicyFile) -> Result<Policy> {
    file.refuse_unsupported()?;
    known("policy schema_id", file.schema_id.as_deref(), SCHEMA_ID)?;
    known(
        "policy schema_version",
        file.schema_version.as_deref(),
        SCHEMA_VERSION,
    )?;
    let files = file.rules.unwrap_or_default();
    at_most("policy rules", files.len(), MAX_RULES, "policy_too_large")?;
    let mut rules: Vec<Rule> = files.into_iter().map(rule).collect::<Result<_>>()?;
    rules.sort_by(|a, b| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
    Policy::seal(
        default_verdict(file.default_verdict, file.default_action)?,
        file.scripts.map(scripts).transpose()?.unwrap_or_default(),
        fail_closed(file.fail_closed.unwrap_or_default())?,
        rules,
    )
}

fn known(what: &str, given: Option<&str>, only: &str) -> Result<()> {
    match given {
        None | Some("") => Ok(()),
        Some(given) if given == only => Ok(()),
        Some(given) => Err(invalid(format!("unsupported {what}: {given}"))),
    }
}

fn default_verdict(verdict: Option<String>, action: Option<String>) -> Result<Verdict> {
    let verdict = word(verdict)?;
    let action = word(action)?;
    if !verdict.is_empty() && !action.is_empty() && verdict != action {
        return Err(invalid(
            "default_action must match default_verdict when both are set",
        ));
    }
    let name = if verdict.is_empty() { action } else { verdict };
    if name.is_empty() {
        return Ok(Verdict::RequireApproval);
    }
    Verdict::parse(&name).ok_or_else(|| invalid(format!("invalid default_verdict: {name}")))
}

fn scripts(file: ScriptsFile) -> Result<Scripts> {
    Ok(Scripts {
        max_steps: count("scripts.max_steps", file.max_steps)?,
        require_approval_above: count(
            "scripts.require_approval_above",
            file.require_approval_above,
        )?,
        block_mixed_risk: file.block_mixed_risk.unwrap_or_default(),
    })
}

fn fail_closed(file: FailClosedFile) -> Result<FailClosed> {
    let enabled = file.enabled.unwrap_or_default();
    let mut risk_classes = lower_set(file.risk_classes)?;
    if enabled && risk_classes.is_empty() {
        risk_classes = vec!["critical".to_owned(), "high".to_owned()];
    }
    let required_fields = lower_set(file.required_fields)?;
    all_of(
        "fail_closed required_field",
        &required_fields,
        &REQUIRED_FIELDS,
    )?;
    let required_high_risk_fields = lower_set(file.required_high_risk_fields)?;
    all_of(
        "fail_closed required_high_risk_field",
        &required_high_risk_fields,
        &HIGH_RISK_FIELDS,
    )?;
    Ok(FailClosed {
        enabled,
        risk_classes,
        required_fields,
        required_high_risk_fields,
    })
}

fn rule(file: RuleFile) -> Result<Rule> {
    let name = plain(file.name)?;
    if name.is_empty() {
        return Err(invalid("rule name is required"));
    }
    let min_approvals = count(&format!("min_approvals of {name}"), file.min_approvals)?;
    Ok(Rule {
        priority: file.priority.unwrap_or_default(),
        effect: effect(&name, file.effect, file.action)?,
        matches: matches(&name, file.matches.unwrap_or_default())?,
        endpoint: constraint(&name, file.endpoint.unwrap_or_default())?,
        reason_codes: set(file.reason_codes)?,
        violations: set(file.violations)?,
        require_distinct_approvers: file.require_distinct_approvers.unwrap_or_default()
            || min_approvals > 1,
        min_approvals,
        name,
    })
}

fn effect(name: &str, effect: Option<String>, action: Option<String>) -> Result<Verdict> {
    let effect = word(effect)?;
    let action = word(action)?;
    if !effect.is_empty() && !action.is_empty() && effect != action {
        return Err(invalid(format!("rule action must match effect for {name}")));
    }
    let effect = if effect.is_empty() { action } else { effect };
    if effect.is_empty() {
        return Err(invalid(format!("rule effect is required for {name}")));
    }
    Verdict::parse(&effect)
        .ok_or_else(|| invalid(format!("invalid rule effect {effect:?} for {name}")))
}

fn matches(name: &str, file: MatchFile) -> Result<Match> {
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

fn constraint(name: &str, file: EndpointFile) -> Result<Option<Constraint>> {
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

/// `block` or `require_approval`: what a constraint may raise a verdict to.
fn raise(what: &str, action: Option<String>) -> Result<Option<Verdict>> {
    let action = word(action)?;
    match Verdict::parse(&action) {
        _ if action.is_empty() => Ok(None),
        Some(verdict @ (Verdict::Block | Verdict::RequireApproval)) => Ok(Some(verdict)),
        _ => Err(invalid(format!("unsupported {what}: {action:?}"))),
    }
}

fn join(first: List, second: List) -> List {
    let mut all = first.unwrap_or_default();
    all.extend(second.unwrap_or_default());
    Some(all)
}

fn lower_set(list: List) -> Result<Vec<String>> {
    Ok(text::sorted_set_lower(&bounded(list)?))
}

fn set(list: List) -> Result<Vec<String>> {
    Ok(text::sorted_set(&bounded(list)?))
}

fn bounded(list: List) -> Result<Vec<String>> {
    let list = list.unwrap_or_default();
    at_most(
        "policy list entries",
        list.len(),
        MAX_POLICY_LIST,
        "policy_too_large",
    )?;
    list.iter().try_for_each(|entry| short(entry))?;
    Ok(list)
}

fn short(text: &str) -> Result<()> {
    limits::at_most(
        "policy string bytes",
        text.len(),
        MAX_POLICY_STRING,
        "policy_too_large",
    )
}

fn plain(text: Option<String>) -> Result<String> {
    let text = text.unwrap_or_default();
    short(&text)?;
    Ok(text.trim().to_owned())
}

fn word(text: Option<String>) -> Result<String> {
    Ok(text::lower(&plain(text)?))
}

fn count(what: &str, number: Option<i64>) -> Result<usize> {
    usize::try_from(number.unwrap_or_default()).map_err(|_| invalid(format!("{what} must be >= 0")))
}

fn all_of(what: &str, values: &[String], known: &[&str]) -> Result<()> {
    match values.iter().find(|value| !known.contains(&value.as_str())) {
        Some(value) => Err(invalid(format!("unsupported {what}: {value}"))),
        None => Ok(()),
    }
}
