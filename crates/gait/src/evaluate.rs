//! From an intent to a verdict, under one policy, in the format's order: fail-closed fields, then scripts step by
//! step or rules by priority, each rule's own raises, and the default last.
//!
//! Everything here only ever raises a verdict that a rule gave; nothing lowers one.

mod broker;
mod constraint;
mod fail_closed;
mod glob;
mod limit;
mod matching;
mod script;

use std::cmp::Ordering;

use serde::Serialize;

pub use broker::Broker;
pub(crate) use broker::BrokerClause;
pub(crate) use constraint::{Constraint, Patterns};
pub use limit::{RateLimit, Scope, Window};
pub(crate) use matching::{Annotations, Match};

use crate::evidence::Prepared;
use crate::intent::{ArgProvenance, Context, Delegation, SkillProvenance, Target};
use crate::policy::Policy;
use crate::verdict::Verdict;

/// What a policy says to an intent, before approvals.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evaluation {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, as stable snake_case codes, sorted, each once.
    pub reason_codes: Vec<String>,
    /// What was violated, as stable snake_case codes, sorted, each once.
    pub violations: Vec<String>,
    /// The names of the rules that matched, sorted, each once; none when the default decided.
    pub matched_rules: Vec<String>,
    /// How many approvals would turn `require_approval` into `allow`.
    pub required_approvals: usize,
    /// Whether each of them must come from another person.
    pub distinct_approvers: bool,
    /// Whether a matching rule rests on a delegation, which needs a token for each link.
    pub require_delegation: bool,
    /// What the delegation must be good for, sorted, each once; one of them is enough.
    pub delegation_scopes: Vec<String>,
    /// What the rules ask of the credential broker.
    pub broker: Broker,
    /// How often such a call may happen; the strictest limit of the rules that decided.
    pub rate_limit: Option<RateLimit>,
    /// How often such a call may happen when it is destructive.
    pub destructive_budget: Option<RateLimit>,
    /// The outcome step by step, if the intent is a script.
    pub script: Option<ScriptEvaluation>,
}

/// What a policy says to a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptEvaluation {
    /// `low`, `medium` or `high`: the riskiest step.
    pub composite_risk_class: &'static str,
    /// Each step alone.
    pub steps: Vec<StepVerdict>,
}

/// What a policy says to one step of a script; its fields are in canonical order, which the trace relies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepVerdict {
    /// Its place, from 0.
    pub index: usize,
    /// The rules that matched.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub matched_rule: String,
    /// Why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reason_codes: Vec<String>,
    /// What it calls.
    pub tool_name: String,
    /// The verdict on it alone.
    pub verdict: Verdict,
    /// What was violated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<String>,
}

/// One rule, prepared; serialised, it is the rule's part of the policy digest.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) priority: i64,
    pub(crate) effect: Verdict,
    #[serde(rename = "Match")]
    pub(crate) matches: Match,
    pub(crate) reason_codes: Vec<String>,
    pub(crate) violations: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) min_approvals: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) require_distinct_approvers: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<Constraint>,
    #[serde(flatten)]
    pub(crate) broker: BrokerClause,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limit: Option<RateLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) destructive_budget: Option<RateLimit>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// One call, as rules see it: a whole intent, or one step of a script in the script's context.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) tool_name: &'a str,
    pub(crate) targets: &'a [Target],
    pub(crate) arg_provenance: &'a [ArgProvenance],
    pub(crate) skill_provenance: Option<&'a SkillProvenance>,
    pub(crate) delegation: Option<&'a Delegation>,
    pub(crate) context: &'a Context,
}

impl Policy {
    /// What this policy says to `prepared`; the same for the same digests, evidence and time, whatever the order of
    /// the rules.
    pub fn evaluate(&self, prepared: &Prepared<'_>) -> Evaluation {
        if let Some(blocked) = self.fail_closed(prepared) {
            return blocked;
        }
        let call = Call::of(prepared);
        match prepared.intent().script() {
            Some((script, _)) => script::evaluate(self, &call, script),
            None => self.evaluate_call(&call),
        }
    }

    /// The block that needs no rule: the intent is of a class that fails closed and leaves something out.
    ///
    /// [`Policy::evaluate`] asks this first; who has checks of the same kind of his own asks it before them.
    pub fn fail_closed(&self, prepared: &Prepared<'_>) -> Option<Evaluation> {
        fail_closed::check(&self.fail_closed, &Call::of(prepared))
    }

    fn evaluate_call(&self, call: &Call<'_>) -> Evaluation {
        let mut matching = self.rules.iter().filter(|rule| rule.matches.holds(call));
        let Some(first) = matching.next() else {
            return self.evaluate_default();
        };
        let same_priority = matching.take_while(|rule| rule.priority == first.priority);
        let mut outcome = first.apply(call);
        for rule in same_priority {
            outcome = outcome.merge(rule.apply(call));
        }
        if outcome.verdict != Verdict::RequireApproval {
            outcome.required_approvals = 0;
            outcome.distinct_approvers = false;
        }
        outcome
    }

    fn evaluate_default(&self) -> Evaluation {
        let verdict = self.default_verdict;
        let mut outcome = Evaluation::new(verdict);
        outcome.reason_codes.push(format!("default_{verdict}"));
        outcome.required_approvals = usize::from(verdict == Verdict::RequireApproval);
        outcome
    }
}

impl<'a> Call<'a> {
    fn of(prepared: &'a Prepared<'_>) -> Self {
        let normal = prepared.intent().normal();
        Self {
            tool_name: &normal.tool_name,
            targets: &normal.targets,
            arg_provenance: &normal.arg_provenance,
            skill_provenance: normal.skill_provenance.as_ref(),
            delegation: normal.delegation.as_ref(),
            context: &normal.context,
        }
    }

    fn is_destructive(&self) -> bool {
        self.targets.iter().any(|target| target.destructive)
    }
}

impl Rule {
    /// The outcome of this rule alone: its effect, raised by its endpoint constraint and by the phase.
    fn apply(&self, call: &Call<'_>) -> Evaluation {
        let mut outcome = Evaluation::new(self.effect);
        outcome.matched_rules.push(self.name.clone());
        outcome.reason_codes.clone_from(&self.reason_codes);
        outcome.violations.clone_from(&self.violations);
        if outcome.reason_codes.is_empty() {
            outcome
                .reason_codes
                .push(format!("matched_rule_{}", code_of(&self.name)));
        }
        if let Some(endpoint) = &self.endpoint {
            endpoint.raise(call, &mut outcome);
        }
        raise_by_phase(call, &mut outcome);
        let needs_approval = outcome.verdict == Verdict::RequireApproval;
        outcome.required_approvals = self.min_approvals.max(usize::from(needs_approval));
        outcome.distinct_approvers = self.require_distinct_approvers;
        outcome.require_delegation = self.matches.require_delegation;
        outcome
            .delegation_scopes
            .clone_from(&self.matches.delegation_scopes);
        outcome.broker = Broker::of(&self.broker);
        outcome.rate_limit = self.rate_limit;
        outcome.destructive_budget = self.destructive_budget;
        outcome
    }
}

/// Destructive work is only rehearsed while planning, and needs a person's approval while applying.
fn raise_by_phase(call: &Call<'_>, outcome: &mut Evaluation) {
    if !call.is_destructive() {
        return;
    }
    let (verdict, code) = match call.context.phase.as_str() {
        "plan" => (Verdict::DryRun, "plan_phase_non_destructive"),
        _ => (
            Verdict::RequireApproval,
            "destructive_apply_requires_approval",
        ),
    };
    outcome.raise(verdict);
    insert(&mut outcome.reason_codes, code);
}

/// A rule's name as part of a reason code.
fn code_of(name: &str) -> String {
    let escaped = serde_json::to_string(name).unwrap_or_default();
    crate::text::lower(&escaped.trim_matches('"').replace([' ', '-'], "_"))
}

impl Evaluation {
    fn new(verdict: Verdict) -> Self {
        Self {
            verdict,
            reason_codes: Vec::new(),
            violations: Vec::new(),
            matched_rules: Vec::new(),
            required_approvals: 0,
            distinct_approvers: false,
            require_delegation: false,
            delegation_scopes: Vec::new(),
            broker: Broker::default(),
            rate_limit: None,
            destructive_budget: None,
            script: None,
        }
    }

    /// Makes the verdict at least as strict as `verdict`.
    pub(crate) fn raise(&mut self, verdict: Verdict) {
        self.verdict = self.verdict.max(verdict);
    }

    /// Notes why, and what was violated.
    pub(crate) fn add(&mut self, reason: &str, violation: &str) {
        insert(&mut self.reason_codes, reason);
        insert(&mut self.violations, violation);
    }

    /// Two rules of one priority: the stricter verdict, for the reasons of those that gave it, in the name of both.
    fn merge(self, other: Self) -> Self {
        let (mut strict, mild) = match self.verdict.cmp(&other.verdict) {
            Ordering::Equal => return self.absorb(other),
            Ordering::Greater => (self, other),
            Ordering::Less => (other, self),
        };
        strict.add_rules(&mild.matched_rules);
        strict
    }

    fn add_rules(&mut self, names: &[String]) {
        for name in names {
            insert(&mut self.matched_rules, name);
        }
    }

    /// The names of the rules that matched, joined by commas; empty when none did.
    pub fn matched_rule(&self) -> String {
        self.matched_rules.join(",")
    }

    /// Takes over what `other` asks for, whatever its verdict.
    fn absorb(mut self, other: Self) -> Self {
        for code in &other.reason_codes {
            insert(&mut self.reason_codes, code);
        }
        for code in &other.violations {
            insert(&mut self.violations, code);
        }
        self.add_rules(&other.matched_rules);
        self.required_approvals = self.required_approvals.max(other.required_approvals);
        self.distinct_approvers |= other.distinct_approvers;
        self.require_delegation |= other.require_delegation;
        for scope in &other.delegation_scopes {
            insert(&mut self.delegation_scopes, scope);
        }
        self.broker.absorb(&other.broker);
        self.rate_limit = limit::stricter(self.rate_limit, other.rate_limit);
        self.destructive_budget =
            limit::stricter(self.destructive_budget, other.destructive_budget);
        self
    }
}

/// Puts `code` into the sorted set `codes`.
fn insert(codes: &mut Vec<String>, code: &str) {
    if let Err(place) = codes.binary_search_by(|have| have.as_str().cmp(code)) {
        codes.insert(place, code.to_owned());
    }
}

#[cfg(test)]
mod tests;
