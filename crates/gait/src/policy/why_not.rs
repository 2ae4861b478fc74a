//! Why a policy does not allow something, and the least change to the policy that would.
//!
//! A change widens the clause that fails, if the clause lists what it lets through: everything else that the rule guards
//! stays guarded. Where that is not possible, the change is a rule for this caller, this tool and these targets, asked
//! before the rule that refuses. A change is only ever named after it was tried.

mod causes;
mod edit;
mod plan;
mod widen;

use std::fmt;

use serde::Serialize;

pub use causes::{Cause, causes, in_words};
pub use edit::{Action, Edit};

use super::Policy;
use crate::evaluate::{Call, calls};
use crate::evidence::Prepared;
use crate::verdict::Verdict;

/// The edits of one change.
pub const MAX_EDITS: usize = 256;

/// Why an intent is not allowed.
#[derive(Clone, Debug, Serialize)]
pub struct WhyNot {
    /// What the policy says.
    pub verdict: Verdict,
    /// What made it say so, by rule and clause.
    pub causes: Vec<Cause>,
    /// The best verdict that any policy gives: what destroys is never simply allowed.
    pub attainable: Verdict,
    /// The edits that bring the policy there, in order; none when it says so already or when no edit does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub change: Vec<Edit>,
    /// What to do besides, or instead of, changing the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<&'static str>,
}

/// Why `policy` does not allow what is asked; `None` when it does.
pub fn why_not(policy: &Policy, prepared: &Prepared<'_>) -> Option<WhyNot> {
    let verdict = policy.evaluate(prepared).verdict;
    if verdict == Verdict::Allow {
        return None;
    }
    let attainable = attainable(prepared);
    let change = plan::least(policy, prepared, attainable);
    Some(WhyNot {
        verdict,
        causes: causes(policy, prepared),
        attainable,
        advice: advice(attainable, verdict, change.is_none()),
        change: change.unwrap_or_default(),
    })
}

/// The best verdict that a rule can give to every call of the intent.
fn attainable(prepared: &Prepared<'_>) -> Verdict {
    let best = calls(prepared).into_iter().map(|call| best_of(&call));
    best.max().unwrap_or(Verdict::Allow)
}

/// What a rule that allows says to `call` in the end.
fn best_of(call: &Call<'_>) -> Verdict {
    match call.context.phase.as_str() {
        _ if !call.is_destructive() || call.runs_in_a_declared_sandbox() => Verdict::Allow,
        "plan" => Verdict::DryRun,
        _ => Verdict::RequireApproval,
    }
}

impl fmt::Display for WhyNot {
    /// The edits and the advice, each on a line of its own; the causes go before, as every denial names them.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for edit in &self.change {
            write!(formatter, "\n  change: {edit}")?;
        }
        match self.advice {
            Some(advice) => write!(formatter, "\n  note: {advice}"),
            None => Ok(()),
        }
    }
}

fn advice(attainable: Verdict, verdict: Verdict, hopeless: bool) -> Option<&'static str> {
    match (attainable, verdict) {
        _ if hopeless => {
            Some("no edit of this policy lets the intent through; write a policy anew")
        }
        (Verdict::RequireApproval, _) => {
            Some("destructive work needs an approval for this intent: see gait approve")
        }
        (Verdict::DryRun, _) => Some("destructive work is only rehearsed in the phase plan"),
        (_, Verdict::RequireApproval) => {
            Some("instead of changing the policy, an approval allows this once: see gait approve")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
