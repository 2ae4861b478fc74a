//! What made a decision what it is, by rule and clause.

use std::fmt;

use serde::Serialize;

use crate::evaluate::{Call, Evaluation, Rule, calls};
use crate::evidence::Prepared;
use crate::policy::Policy;
use crate::verdict::Verdict;

/// One thing that keeps an intent from being allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// The clause of the policy, such as `endpoint.path_allowlist`, `effect` or `default_verdict`; else what stands
    /// beside the policy: `kill_switch` or `boundary`.
    pub clause: String,
    /// The code that the verdict gives for it.
    pub reason_code: String,
    /// The rule it is in, or the rules that matched, joined by commas; empty for the policy's own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// Which step of the script, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// What it makes of the verdict.
    pub verdict: Verdict,
}

/// The causes that a message names; past them it says how many more there are.
const MAX_NAMED: usize = 3;

/// The first causes in words, for a message of one line.
pub fn in_words(causes: &[Cause]) -> String {
    let named = causes.iter().take(MAX_NAMED).map(Cause::to_string);
    let mut text = named.collect::<Vec<_>>().join("; ");
    let more = causes.len().saturating_sub(MAX_NAMED);
    if more > 0 {
        text += &format!("; and {more} more");
    }
    text
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(step) = self.step {
            write!(formatter, "step {step}: ")?;
        }
        write!(formatter, "{} says {}", self.clause, self.verdict)?;
        if !self.rule.is_empty() {
            write!(formatter, " in rule {}", self.rule)?;
        }
        write!(formatter, " ({})", self.reason_code)
    }
}

/// What in `policy` keeps the call from being allowed; none when the policy allows it.
pub fn causes(policy: &Policy, prepared: &Prepared<'_>) -> Vec<Cause> {
    if let Some(blocked) = policy.fail_closed(prepared) {
        return from_codes("fail_closed", &blocked);
    }
    let is_script = prepared.intent().script().is_some();
    let mut causes = Vec::new();
    for (index, call) in calls(prepared).iter().enumerate() {
        let before = causes.len();
        of_call(policy, call, &mut causes);
        for cause in causes.iter_mut().skip(before) {
            cause.step = is_script.then_some(index);
        }
    }
    if is_script {
        causes.extend(of_script(policy, prepared));
    }
    causes
}

fn of_call(policy: &Policy, call: &Call<'_>, causes: &mut Vec<Cause>) {
    let outcome = policy.evaluate_call(call);
    if outcome.verdict == Verdict::Allow {
        return;
    }
    let rules = policy.deciding(call).collect::<Vec<_>>();
    if rules.is_empty() {
        causes.extend(from_codes("default_verdict", &outcome));
    }
    for (_, rule) in rules {
        of_rule(rule, call, outcome.verdict, causes);
    }
}

/// What in `rule` makes the verdict as strict as it is.
fn of_rule(rule: &Rule, call: &Call<'_>, verdict: Verdict, causes: &mut Vec<Cause>) {
    let mut note = |clause: &str, reason: &str| {
        causes.push(Cause {
            clause: clause.to_owned(),
            reason_code: reason.to_owned(),
            rule: rule.name.clone(),
            step: None,
            verdict,
        });
    };
    if rule.effect == verdict {
        let reasons = rule.own_reasons();
        note("effect", reasons.first().map_or("", String::as_str));
    }
    for breach in rule.findings(call).breaches {
        if breach.verdict == verdict {
            note(breach.clause, breach.reason);
        }
    }
}

fn of_script(policy: &Policy, prepared: &Prepared<'_>) -> Vec<Cause> {
    let outcome = policy.evaluate(prepared);
    let clause_of = |code: &str| match code {
        "script_max_steps_exceeded" => Some(("scripts.max_steps", Verdict::Block)),
        "script_step_threshold_approval" => {
            Some(("scripts.require_approval_above", Verdict::RequireApproval))
        }
        "script_mixed_risk_blocked" => Some(("scripts.block_mixed_risk", Verdict::Block)),
        _ => None,
    };
    let codes = outcome.reason_codes.iter();
    codes
        .filter_map(|code| clause_of(code).map(|(clause, verdict)| (clause, code, verdict)))
        .map(|(clause, code, verdict)| Cause {
            clause: clause.to_owned(),
            reason_code: code.clone(),
            rule: String::new(),
            step: None,
            verdict,
        })
        .collect()
}

fn from_codes(clause: &str, outcome: &Evaluation) -> Vec<Cause> {
    let codes = outcome.reason_codes.iter();
    codes
        .map(|code| Cause {
            clause: clause.to_owned(),
            reason_code: code.clone(),
            rule: String::new(),
            step: None,
            verdict: outcome.verdict,
        })
        .collect()
}
