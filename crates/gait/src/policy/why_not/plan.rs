//! Finding the least change: edit after edit, each tried before it is named.

use serde_json::{Value, json};

use super::edit::{Action, Edit};
use super::{MAX_EDITS, best_of, widen};
use crate::evaluate::{Call, MissingField, calls};
use crate::evidence::Prepared;
use crate::policy::Policy;
use crate::verdict::Verdict;

/// How to get past a rule that refuses.
#[derive(Clone, Copy)]
enum Way {
    /// Widen its clauses where that is possible.
    Widen,
    /// Ask a narrow rule before it.
    Except,
}

/// The edits after which `policy` says at most `goal`; `None` when there are none.
pub(super) fn least(policy: &Policy, prepared: &Prepared<'_>, goal: Verdict) -> Option<Vec<Edit>> {
    [Way::Widen, Way::Except]
        .into_iter()
        .find_map(|way| search(policy, prepared, goal, way))
}

fn search(policy: &Policy, prepared: &Prepared<'_>, goal: Verdict, way: Way) -> Option<Vec<Edit>> {
    let mut edits: Vec<Edit> = Vec::new();
    let mut edited: Option<Policy> = None;
    while edits.len() < MAX_EDITS {
        let current = edited.as_ref().unwrap_or(policy);
        if current.evaluate(prepared).verdict <= goal {
            return Some(edits);
        }
        let edit = next(current, prepared, way)?;
        edited = Some(edit.apply(current).ok()?);
        edits.push(edit);
    }
    None
}

/// The edit against the first thing that stands in the way.
fn next(policy: &Policy, prepared: &Prepared<'_>, way: Way) -> Option<Edit> {
    if let Some(missing) = policy.first_missing(prepared) {
        return Some(against_fail_closed(policy, prepared, missing));
    }
    let calls = calls(prepared);
    let refused = calls
        .iter()
        .find(|call| policy.evaluate_call(call).verdict > best_of(call));
    match refused {
        Some(call) => against_rules(policy, call, way),
        None => against_script(policy, calls.len()),
    }
}

fn against_fail_closed(policy: &Policy, prepared: &Prepared<'_>, missing: MissingField) -> Edit {
    let (key, field) = match missing {
        MissingField::Required(field) => ("fail_closed.required_fields", field),
        MissingField::HighRisk(field) => ("fail_closed.required_high_risk_fields", field),
        // No field can be given up for a target of an unknown class: only the risk class can.
        MissingField::EndpointClass if policy.fail_closed.risk_classes.len() == 1 => {
            return of_policy(Action::Set, "fail_closed.enabled", json!(false));
        }
        MissingField::EndpointClass => (
            "fail_closed.risk_classes",
            prepared.intent().context().risk_class.clone(),
        ),
    };
    of_policy(Action::Remove, key, json!(field))
}

fn against_rules(policy: &Policy, call: &Call<'_>, way: Way) -> Option<Edit> {
    let rules = policy.deciding(call).collect::<Vec<_>>();
    let goal = best_of(call);
    for (index, rule) in &rules {
        let breaches = rule.findings(call).breaches;
        let failing = breaches.iter().find(|breach| breach.verdict > goal);
        let widened = match (way, failing) {
            (Way::Widen, Some(breach)) if rule.effect <= goal => widen::clause(rule, breach, call),
            _ => None,
        };
        if let Some((action, key, value)) = widened {
            return Some(Edit {
                action,
                rule: rule.name.clone(),
                rule_index: Some(*index),
                key: key.to_owned(),
                value,
            });
        }
        if rule.effect > goal || failing.is_some() {
            return exception(call, Some(rule.priority));
        }
    }
    exception(call, rules.first().map(|(_, rule)| rule.priority))
}

/// A rule for this caller, this tool and these targets, asked before the rules of `priority`.
fn exception(call: &Call<'_>, priority: Option<i64>) -> Option<Edit> {
    /// Beyond this, numbers in a policy are no longer exact.
    const LEAST: i64 = -(1 << 53) + 1;
    let priority = priority.map_or(Some(0), |priority| priority.checked_sub(1))?;
    if priority < LEAST {
        return None;
    }
    let mut values: Vec<&str> = call
        .targets
        .iter()
        .map(|target| target.value.as_str())
        .collect();
    values.dedup();
    let short = |text: &str| text.chars().take(64).collect::<String>();
    let mut matches = json!({
        "tool_names": [call.tool_name],
        "identities": [call.context.identity],
        "risk_classes": [call.context.risk_class],
    });
    let mut rule = json!({
        "name": format!("allow-{}-for-{}", short(call.tool_name), short(&call.context.identity)),
        "priority": priority,
        "effect": "allow",
    });
    if !values.is_empty() {
        set(&mut matches, "target_values", json!(values));
    }
    set(&mut rule, "match", matches);
    if call.is_destructive() && call.runs_in_a_declared_sandbox() {
        set(&mut rule, "sandbox", json!({"enabled": true}));
    }
    Some(of_policy(Action::InsertRule, "rules", rule))
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = object {
        members.insert(name.to_owned(), value);
    }
}

/// Every step alone is let through, so it is the script as a whole that is refused.
fn against_script(policy: &Policy, steps: usize) -> Option<Edit> {
    let scripts = policy.scripts;
    let too_long = |limit: usize| limit > 0 && steps > limit;
    let (key, value) = match scripts {
        scripts if too_long(scripts.max_steps) => ("scripts.max_steps", json!(steps)),
        scripts if scripts.block_mixed_risk => ("scripts.block_mixed_risk", json!(false)),
        scripts if too_long(scripts.require_approval_above) => {
            ("scripts.require_approval_above", json!(steps))
        }
        _ => return None,
    };
    Some(of_policy(Action::Set, key, value))
}

fn of_policy(action: Action, key: &str, value: Value) -> Edit {
    Edit {
        action,
        rule: String::new(),
        rule_index: None,
        key: key.to_owned(),
        value,
    }
}
