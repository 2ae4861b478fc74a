//! One rule: what it is about, what it says, and what may raise that.

use serde::Serialize;

use super::agent::AgentClause;
use super::breach::Breach;
use super::broker::{Broker, BrokerClause};
use super::constraint::Constraint;
use super::context::ContextClause;
use super::credential::CredentialClause;
use super::dataflow::Dataflow;
use super::freeze::{Freeze, FreezeDecision};
use super::limit::RateLimit;
use super::matching::Match;
use super::outcome::Evaluation;
use super::sandbox::{SandboxClause, SandboxDecision, SandboxStatus};
use super::{Call, is_zero};
use crate::verdict::Verdict;

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
    #[serde(flatten)]
    pub(crate) agent: AgentClause,
    #[serde(flatten)]
    pub(crate) credential: CredentialClause,
    #[serde(flatten)]
    pub(crate) context: ContextClause,
    #[serde(flatten)]
    pub(crate) broker: BrokerClause,
    #[serde(rename = "FreezeWindow", skip_serializing_if = "Option::is_none")]
    pub(crate) freeze: Option<Freeze>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sandbox: Option<SandboxClause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limit: Option<RateLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) destructive_budget: Option<RateLimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dataflow: Option<Dataflow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<Constraint>,
}

/// What a rule has against a call.
pub(crate) struct Findings<'r> {
    pub(crate) breaches: Vec<Breach<'r>>,
    pub(crate) freeze: Option<FreezeDecision>,
    pub(crate) sandbox: Option<SandboxDecision>,
}

impl Rule {
    /// The outcome of this rule alone: its effect, raised by every breach.
    pub(super) fn apply(&self, call: &Call<'_>) -> Evaluation {
        let findings = self.findings(call);
        let mut outcome = self.unraised();
        for breach in &findings.breaches {
            outcome.breach(breach);
        }
        outcome.freeze_window = findings.freeze;
        outcome.sandbox = findings.sandbox;
        let needs_approval = outcome.verdict == Verdict::RequireApproval;
        outcome.required_approvals = self.min_approvals.max(usize::from(needs_approval));
        outcome
    }

    /// Whether anything in this rule is about what a call touches, beyond whether the rule matches.
    pub(super) fn asks_about_targets(&self) -> bool {
        let endpoint = self.endpoint.as_ref();
        self.dataflow.is_some() || endpoint.is_some_and(Constraint::says_something)
    }

    fn unraised(&self) -> Evaluation {
        let mut outcome = Evaluation::of(self.effect);
        outcome.matched_rules.push(self.name.clone());
        outcome.reason_codes = self.own_reasons();
        outcome.violations.clone_from(&self.violations);
        outcome.distinct_approvers = self.require_distinct_approvers;
        outcome.require_delegation = self.matches.require_delegation;
        let scopes = &self.matches.delegation_scopes;
        outcome.delegation_scopes.clone_from(scopes);
        outcome.broker = Broker::of(&self.broker, &self.credential);
        outcome.rate_limit = self.rate_limit;
        outcome.destructive_budget = self.destructive_budget;
        outcome
    }

    /// The codes that the rule gives for its effect.
    pub(crate) fn own_reasons(&self) -> Vec<String> {
        if self.reason_codes.is_empty() {
            return vec![format!("matched_rule_{}", code_of(&self.name))];
        }
        self.reason_codes.clone()
    }

    /// Everything that raises this rule's effect for `call`.
    pub(crate) fn findings(&self, call: &Call<'_>) -> Findings<'_> {
        let mut breaches = Vec::new();
        let context = call.context;
        if let Some(dataflow) = &self.dataflow {
            dataflow.breaches(call, &mut breaches);
        }
        if let Some(endpoint) = &self.endpoint {
            endpoint.breaches(call, &mut breaches);
        }
        self.context.breaches(call.evidence, &mut breaches);
        self.agent.breaches(context, call.at, &mut breaches);
        self.credential.breaches(call, &mut breaches);
        let freeze = self.freeze.as_ref();
        let freeze = freeze.map(|freeze| freeze.decide(context, call.at, &mut breaches));
        let sandbox = self.sandbox.as_ref();
        let sandbox = sandbox.map(|clause| clause.decide(context.sandbox.as_ref(), &mut breaches));
        breaches.extend(phase(call, sandbox.as_ref()));
        Findings {
            breaches,
            freeze,
            sandbox,
        }
    }
}

/// Destructive work is only rehearsed while planning, and needs a person's approval while applying.
///
/// Running something counts as destructive because nobody knows what it does; inside a trusted sandbox that is known.
fn phase(call: &Call<'_>, sandbox: Option<&SandboxDecision>) -> Option<Breach<'static>> {
    let trusted = sandbox.is_some_and(|sandbox| sandbox.status == SandboxStatus::Valid);
    if !call.is_destructive() || (trusted && call.only_executes()) {
        return None;
    }
    let (verdict, reason) = match call.context.phase.as_str() {
        "plan" => (Verdict::DryRun, "plan_phase_non_destructive"),
        _ => (
            Verdict::RequireApproval,
            "destructive_apply_requires_approval",
        ),
    };
    Some(Breach {
        clause: "context.phase",
        verdict,
        reason,
        violation: "",
    })
}

/// A rule's name as part of a reason code.
fn code_of(name: &str) -> String {
    let escaped = serde_json::to_string(name).unwrap_or_default();
    crate::text::lower(&escaped.trim_matches('"').replace([' ', '-'], "_"))
}
