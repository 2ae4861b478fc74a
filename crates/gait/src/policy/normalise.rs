//! From the file to the normal form: defaults, aliases, allowed values, order.

mod clause;
mod constraint;
mod declared;
mod matches;
mod misplaced;
mod trust;
mod value;

use worldcompute_fault::Result;

use self::matches::matches;
pub(super) use self::misplaced::Misplaced;
use self::misplaced::{Checked, Under};
use self::value::{count, known_set, lower_set, plain, set, word};
use super::file::{FailClosedFile, PolicyFile, RuleFile, RulesFile, ScriptsFile};
use super::{FailClosed, Policy, SCHEMA_ID, SCHEMA_VERSION, Scripts};
use crate::evaluate::Rule;
use crate::limits::{MAX_RULES, at_most, invalid};
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

pub(super) fn policy(file: PolicyFile) -> Checked<Policy> {
    file.refuse_legacy()?;
    known("policy schema_id", file.schema_id.as_deref(), SCHEMA_ID).under("schema_id")?;
    known(
        "policy schema_version",
        file.schema_version.as_deref(),
        SCHEMA_VERSION,
    )
    .under("schema_version")?;
    let verdict = file.default_verdict.as_deref();
    let default = default_verdict(verdict, file.default_action.as_deref());
    Ok(Policy::seal(
        default.under(either(verdict, "default_verdict", "default_action"))?,
        scripts(file.scripts.unwrap_or_default()).under("scripts")?,
        fail_closed(file.fail_closed.unwrap_or_default()).under("fail_closed")?,
        trust::trust(file.mcp_trust.unwrap_or_default()).under("mcp_trust")?,
        rules(file.rules.unwrap_or_default()).under("rules")?,
    )?)
}

fn rules(file: RulesFile) -> Checked<Vec<Rule>> {
    at_most("policy rules", file.count, MAX_RULES, "policy_too_large")?;
    let rules = file.kept.into_iter().enumerate();
    let rules = rules.map(|(index, file)| rule(file).under(&format!("[{index}]")));
    let mut rules: Vec<Rule> = rules.collect::<Checked<_>>()?;
    rules.sort_by(|a, b| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
    Ok(rules)
}

/// Which of two keys for one thing the file uses.
fn either(given: Option<&str>, key: &'static str, alias: &'static str) -> &'static str {
    if given.is_some() { key } else { alias }
}

fn known(what: &str, given: Option<&str>, only: &str) -> Result<()> {
    match given {
        None | Some("") => Ok(()),
        Some(given) if given == only => Ok(()),
        Some(given) => Err(invalid(format!("unsupported {what}: {given}"))),
    }
}

fn default_verdict(verdict: Option<&str>, action: Option<&str>) -> Result<Verdict> {
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

fn scripts(file: ScriptsFile) -> Checked<Scripts> {
    let steps = |key: &str, number| count(&format!("scripts.{key}"), number).under(key);
    Ok(Scripts {
        max_steps: steps("max_steps", file.max_steps)?,
        require_approval_above: steps("require_approval_above", file.require_approval_above)?,
        block_mixed_risk: file.block_mixed_risk.unwrap_or_default(),
    })
}

fn fail_closed(file: FailClosedFile) -> Checked<FailClosed> {
    let enabled = file.enabled.unwrap_or_default();
    let mut risk_classes = lower_set(file.risk_classes.as_deref()).under("risk_classes")?;
    if enabled && risk_classes.is_empty() {
        risk_classes = vec!["critical".to_owned(), "high".to_owned()];
    }
    Ok(FailClosed {
        enabled,
        risk_classes,
        required_fields: known_set(
            "fail_closed required_field",
            file.required_fields.as_deref(),
            &REQUIRED_FIELDS,
        )
        .under("required_fields")?,
        required_high_risk_fields: known_set(
            "fail_closed required_high_risk_field",
            file.required_high_risk_fields.as_deref(),
            &HIGH_RISK_FIELDS,
        )
        .under("required_high_risk_fields")?,
    })
}

fn rule(file: RuleFile) -> Checked<Rule> {
    let name = plain(file.name.as_deref()).under("name")?;
    if name.is_empty() {
        return Err(invalid("rule name is required").into());
    }
    let min_approvals =
        count(&format!("min_approvals of {name}"), file.min_approvals).under("min_approvals")?;
    let given = file.effect.as_deref();
    let effect = effect(&name, given, file.action.as_deref());
    Ok(Rule {
        agent: declared::agent(&name, &file)?,
        credential: declared::credential(&name, &file)?,
        context: declared::context(&name, &file)?,
        broker: clause::broker(&file)?,
        priority: file.priority.unwrap_or_default(),
        effect: effect.under(either(given, "effect", "action"))?,
        matches: matches(&name, file.matches.unwrap_or_default()).under("match")?,
        freeze: clause::freeze(&name, file.freeze_window.unwrap_or_default())
            .under("freeze_window")?,
        sandbox: constraint::sandbox(&name, file.sandbox.unwrap_or_default()).under("sandbox")?,
        dataflow: constraint::dataflow(&name, file.dataflow.unwrap_or_default())
            .under("dataflow")?,
        endpoint: constraint::endpoint(&name, file.endpoint.unwrap_or_default())
            .under("endpoint")?,
        reason_codes: set(file.reason_codes.as_deref()).under("reason_codes")?,
        violations: set(file.violations.as_deref()).under("violations")?,
        rate_limit: clause::limit_of("rate_limit", &name, &file.rate_limit.unwrap_or_default())
            .under("rate_limit")?,
        destructive_budget: clause::limit_of(
            "destructive_budget",
            &name,
            &file.destructive_budget.unwrap_or_default(),
        )
        .under("destructive_budget")?,
        require_distinct_approvers: file.require_distinct_approvers.unwrap_or_default()
            || min_approvals > 1,
        min_approvals,
        name,
    })
}

fn effect(name: &str, effect: Option<&str>, action: Option<&str>) -> Result<Verdict> {
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
