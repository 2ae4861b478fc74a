//! Several calls as one: each judged alone, then together.

use super::outcome::insert;
use super::{CallLimits, Evaluation, ScriptEvaluation, StepVerdict, calls};
use crate::evidence::Prepared;
use crate::intent::{Script, ScriptStep, Target};
use crate::limits::MAX_SCRIPT_STEPS;
use crate::policy::{Policy, Scripts};
use crate::verdict::Verdict;

pub(super) fn evaluate(policy: &Policy, prepared: &Prepared<'_>, script: &Script) -> Evaluation {
    let mut outcome = Evaluation::of(Verdict::Allow);
    let mut steps = Vec::with_capacity(script.steps.len());
    let mut risks = Vec::with_capacity(script.steps.len());
    let mut limits = Vec::with_capacity(script.steps.len());
    for (index, (step, call)) in script.steps.iter().zip(calls(prepared)).enumerate() {
        let alone = policy.evaluate_call(&call);
        risks.push(risk(&step.targets));
        steps.push(step_verdict(index, step, &alone));
        limits.push(CallLimits {
            tool_name: step.tool_name.clone(),
            rate: alone.rate_limit,
            destructive_budget: alone.destructive_budget.filter(|_| call.is_destructive()),
        });
        outcome.raise(alone.verdict);
        outcome = outcome.absorb(alone);
    }
    raise_by_script(policy.scripts, &mut outcome, &risks);
    outcome.script = Some(ScriptEvaluation {
        composite_risk_class: risks.iter().max().map_or("low", |risk| risk.name()),
        steps,
        limits,
    });
    outcome
}

fn step_verdict(index: usize, step: &ScriptStep, alone: &Evaluation) -> StepVerdict {
    StepVerdict {
        index,
        tool_name: step.tool_name.clone(),
        verdict: alone.verdict,
        reason_codes: alone.reason_codes.clone(),
        violations: alone.violations.clone(),
        matched_rule: alone.matched_rule(),
    }
}

fn raise_by_script(policy: Scripts, outcome: &mut Evaluation, risks: &[Risk]) {
    let max_steps = match policy.max_steps {
        0 => MAX_SCRIPT_STEPS,
        given => given,
    };
    if risks.len() > max_steps {
        outcome.raise(Verdict::Block);
        outcome.add("script_max_steps_exceeded", "script_max_steps_exceeded");
    }
    if policy.require_approval_above > 0 && risks.len() > policy.require_approval_above {
        outcome.raise(Verdict::RequireApproval);
        insert(&mut outcome.reason_codes, "script_step_threshold_approval");
        outcome.required_approvals = outcome.required_approvals.max(1);
    }
    if policy.block_mixed_risk && risks.iter().any(|risk| Some(risk) != risks.first()) {
        outcome.raise(Verdict::Block);
        outcome.add("script_mixed_risk_blocked", "script_mixed_risk");
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Risk {
    Low,
    Medium,
    High,
}

impl Risk {
    const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

fn risk(targets: &[Target]) -> Risk {
    let of_target = |target: &Target| match target.endpoint_class.as_str() {
        _ if target.destructive => Risk::High,
        "fs.write" | "net.http" | "net.dns" => Risk::Medium,
        _ => Risk::Low,
    };
    targets.iter().map(of_target).max().unwrap_or(Risk::Low)
}
