//! What a policy says, and how what several rules or steps say becomes one.

use std::cmp::Ordering;

use serde::Serialize;

use super::breach::Breach;
use super::broker::Broker;
use super::freeze::FreezeDecision;
use super::limit::{self, CallLimits, RateLimit};
use super::sandbox::SandboxDecision;
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
    /// What the freeze window of the rules that decided says, if one has any.
    pub freeze_window: Option<FreezeDecision>,
    /// What the sandbox clause of the rules that decided says, if one has any.
    pub sandbox: Option<SandboxDecision>,
    /// Where what is known of the context comes from: see [`crate::Prepared::context_source`].
    pub context_source: String,
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
    /// The limits of each step, which counts as the call that it is.
    pub limits: Vec<CallLimits>,
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

impl Evaluation {
    pub(crate) fn of(verdict: Verdict) -> Self {
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
            freeze_window: None,
            sandbox: None,
            context_source: String::new(),
            script: None,
        }
    }

    /// Makes the verdict at least as strict as `verdict`.
    pub(crate) fn raise(&mut self, verdict: Verdict) {
        self.verdict = self.verdict.max(verdict);
    }

    /// Notes why.
    pub(crate) fn note(&mut self, reason: &str) {
        insert(&mut self.reason_codes, reason);
    }

    /// Notes what was violated.
    pub(crate) fn violate(&mut self, violation: &str) {
        insert(&mut self.violations, violation);
    }

    /// Notes why, and what was violated.
    pub(crate) fn add(&mut self, reason: &str, violation: &str) {
        insert(&mut self.reason_codes, reason);
        insert(&mut self.violations, violation);
    }

    /// Raises the verdict as `breach` asks, and says why.
    pub(super) fn breach(&mut self, breach: &Breach<'_>) {
        self.raise(breach.verdict);
        insert(&mut self.reason_codes, breach.reason);
        if !breach.violation.is_empty() {
            insert(&mut self.violations, breach.violation);
        }
    }

    /// Two rules of one priority: the stricter verdict, for the reasons of those that gave it, in the name of both.
    pub(super) fn merge(self, other: Self) -> Self {
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
    pub(super) fn absorb(mut self, other: Self) -> Self {
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
        self.freeze_window = FreezeDecision::stricter(self.freeze_window, other.freeze_window);
        self.sandbox = SandboxDecision::stricter(self.sandbox, other.sandbox);
        self
    }
}

/// Puts `code` into the sorted set `codes`.
pub(super) fn insert(codes: &mut Vec<String>, code: &str) {
    if let Err(place) = codes.binary_search_by(|have| have.as_str().cmp(code)) {
        codes.insert(place, code.to_owned());
    }
}
