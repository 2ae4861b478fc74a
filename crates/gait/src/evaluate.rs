//! From an intent to a verdict, under one policy, in the format's order: fail-closed fields, then scripts step by
//! step or rules by priority, each rule's own raises, and the default last.
//!
//! Everything here only ever raises a verdict that a rule gave; nothing lowers one.

mod agent;
mod breach;
mod broker;
mod constraint;
mod context;
mod credential;
mod dataflow;
mod fail_closed;
mod freeze;
mod glob;
mod index;
mod limit;
mod matching;
mod outcome;
mod readings;
mod rule;
mod sandbox;
mod script;

use jiff::Timestamp;

pub(crate) use agent::AgentClause;
pub(crate) use breach::Breach;
pub use broker::Broker;
pub(crate) use broker::BrokerClause;
pub(crate) use constraint::{Constraint, Patterns};
pub(crate) use context::ContextClause;
pub(crate) use credential::CredentialClause;
pub(crate) use dataflow::Dataflow;
pub(crate) use fail_closed::MissingField;
pub(crate) use freeze::{Freeze, FreezeRange, Zone};
pub use freeze::{FreezeDecision, FreezeStatus};
pub(crate) use index::Index;
pub use limit::{CallLimits, RateLimit, Scope, Window};
pub(crate) use matching::{Annotations, InventoryMatch, Match};
pub use outcome::{Evaluation, ScriptEvaluation, StepVerdict};
pub(crate) use readings::of as path_readings;
pub(crate) use rule::Rule;
pub(crate) use sandbox::SandboxClause;
pub use sandbox::{SandboxDecision, SandboxStatus};

use crate::evidence::{Prepared, VerifiedContext};
use crate::intent::{ArgProvenance, Context, Delegation, ScriptStep, SkillProvenance, Target};
use crate::inventory::ToolRecord;
use crate::policy::Policy;
use crate::verdict::Verdict;

/// One call, as rules see it: a whole intent, or one step of a script in the script's context.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) tool_name: &'a str,
    pub(crate) targets: &'a [Target],
    pub(crate) arg_provenance: &'a [ArgProvenance],
    /// What the script says of its arguments, for a step that says nothing of its own.
    pub(crate) inherited_provenance: &'a [ArgProvenance],
    pub(crate) skill_provenance: Option<&'a SkillProvenance>,
    pub(crate) delegation: Option<&'a Delegation>,
    pub(crate) context: &'a Context,
    pub(crate) evidence: Option<&'a VerifiedContext>,
    /// What the inventory knows of the tool.
    pub(crate) tool: Option<&'a ToolRecord>,
    pub(crate) at: Timestamp,
}

impl Policy {
    /// What this policy says to `prepared`; the same for the same digests, evidence and time, whatever the order of
    /// the rules.
    pub fn evaluate(&self, prepared: &Prepared<'_>) -> Evaluation {
        if let Some(blocked) = self.fail_closed(prepared) {
            return blocked;
        }
        let call = Call::of(prepared);
        let mut outcome = match prepared.intent().script() {
            Some((script, _)) => script::evaluate(self, prepared, script),
            None => self.evaluate_call(&call),
        };
        outcome.context_source = prepared.context_source();
        outcome
    }

    /// The block that needs no rule: the intent is of a class that fails closed and leaves something out.
    ///
    /// [`Policy::evaluate`] asks this first; who has checks of the same kind of his own asks it before them.
    pub fn fail_closed(&self, prepared: &Prepared<'_>) -> Option<Evaluation> {
        fail_closed::check(&self.fail_closed, &calls_and_whole(prepared))
    }

    pub(crate) fn evaluate_call(&self, call: &Call<'_>) -> Evaluation {
        let outcomes = self.deciding(call).map(|(_, rule)| rule.apply(call));
        let Some(mut outcome) = outcomes.reduce(Evaluation::merge) else {
            return self.evaluate_default();
        };
        if outcome.verdict != Verdict::RequireApproval {
            outcome.required_approvals = 0;
            outcome.distinct_approvers = false;
        }
        outcome
    }

    /// The rules that match, in order, with their places.
    fn matching(&self, call: &Call<'_>) -> impl Iterator<Item = (usize, &Rule)> {
        let candidates = self.index.candidates(call.tool_name);
        let rules = candidates.filter_map(|place| Some((place, self.rules.get(place)?)));
        rules.filter(|(_, rule)| rule.matches.holds(call, rule.effect))
    }

    /// The rules that decide about `call`, those that match first by priority, with their places.
    pub(crate) fn deciding(&self, call: &Call<'_>) -> impl Iterator<Item = (usize, &Rule)> {
        let mut matching = self.matching(call).peekable();
        let priority = matching.peek().map(|(_, rule)| rule.priority);
        matching.take_while(move |(_, rule)| Some(rule.priority) == priority)
    }

    /// Whether a rule that decides holds the targets of a call to something, and the call has none.
    pub(crate) fn asks_for_unsaid_targets(&self, prepared: &Prepared<'_>) -> bool {
        calls(prepared).iter().any(|call| {
            call.targets.is_empty()
                && self
                    .deciding(call)
                    .any(|(_, rule)| rule.asks_about_targets())
        })
    }

    /// The first thing that the intent leaves out although its class fails closed.
    pub(crate) fn first_missing(&self, prepared: &Prepared<'_>) -> Option<MissingField> {
        let missing = fail_closed::missing(&self.fail_closed, &calls_and_whole(prepared));
        missing.into_iter().next()
    }

    fn evaluate_default(&self) -> Evaluation {
        let verdict = self.default_verdict;
        let mut outcome = Evaluation::of(verdict);
        outcome.reason_codes.push(format!("default_{verdict}"));
        outcome.required_approvals = usize::from(verdict == Verdict::RequireApproval);
        outcome
    }
}

impl<'a> Call<'a> {
    pub(crate) fn of(prepared: &'a Prepared<'_>) -> Self {
        let normal = prepared.intent().normal();
        Self {
            tool_name: &normal.tool_name,
            targets: &normal.targets,
            arg_provenance: &normal.arg_provenance,
            inherited_provenance: &[],
            skill_provenance: normal.skill_provenance.as_ref(),
            delegation: normal.delegation.as_ref(),
            context: &normal.context,
            evidence: prepared.context(),
            tool: prepared.tool(&normal.tool_name),
            at: prepared.at(),
        }
    }

    fn step(&self, prepared: &'a Prepared<'_>, step: &'a ScriptStep) -> Self {
        Self {
            tool_name: &step.tool_name,
            targets: &step.targets,
            arg_provenance: &step.arg_provenance,
            inherited_provenance: match step.arg_provenance.is_empty() {
                true => self.arg_provenance,
                false => &[],
            },
            tool: prepared.tool(&step.tool_name),
            ..*self
        }
    }

    /// Whether it only executes, in a sandbox about which everything is declared.
    pub(crate) fn runs_in_a_declared_sandbox(&self) -> bool {
        self.only_executes() && sandbox::is_declared(self.context.sandbox.as_ref())
    }

    /// Where its arguments may come from, as far as anybody says: good for restricting, never for letting through.
    pub(crate) fn provenance(&self) -> impl Iterator<Item = &'a ArgProvenance> {
        self.arg_provenance.iter().chain(self.inherited_provenance)
    }

    pub(crate) fn is_destructive(&self) -> bool {
        self.targets.iter().any(|target| target.destructive)
    }

    fn only_executes(&self) -> bool {
        !self.targets.is_empty()
            && self
                .targets
                .iter()
                .all(|target| target.endpoint_class == "proc.exec")
    }
}

/// What rules are asked about: the intent, or each step of its script.
pub(crate) fn calls<'a>(prepared: &'a Prepared<'_>) -> Vec<Call<'a>> {
    let whole = Call::of(prepared);
    match prepared.intent().script() {
        None => vec![whole],
        Some((script, _)) => script
            .steps
            .iter()
            .map(|step| whole.step(prepared, step))
            .collect(),
    }
}

/// The intent first, then the steps of its script, if it is one.
fn calls_and_whole<'a>(prepared: &'a Prepared<'_>) -> Vec<Call<'a>> {
    let steps = calls(prepared).into_iter();
    let steps = steps.filter(|_| prepared.intent().script().is_some());
    std::iter::once(Call::of(prepared)).chain(steps).collect()
}

/// For leaving out what says nothing.
fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

#[cfg(test)]
mod tests;
