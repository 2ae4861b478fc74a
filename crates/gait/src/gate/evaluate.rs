//! The policy's answer, with the kill switch above it and approved scripts beside it.

use jiff::Timestamp;

use super::Gate;
use super::account::{Account, FastPath, VerifiedContext};
use super::case::Case;
use super::request::Request;
use crate::evaluate::{Evaluation, FreezeStatus};
use crate::evidence::Prepared;
use crate::kill_switch::{self, Status};
use crate::verdict::Verdict;

/// Where an agent meets its tools: what it knows stops calls that the policy lets pass.
const BOUNDARY: &str = "boundary";
/// A call says less of what it touches than the policy would have to know.
pub(crate) const TARGETS_UNDECLARED: &str = "targets_undeclared";
/// Why an approved script passes.
const MATCH: &str = "approved_script_match";

impl<'a> Case<'a> {
    /// The case, with the policy's answer and all that goes before it.
    pub(super) fn open(
        gate: &'a Gate,
        prepared: &'a Prepared<'a>,
        request: &'a Request<'a>,
        now: Timestamp,
    ) -> Self {
        let mut case = Self {
            gate,
            request,
            prepared,
            now,
            evaluation: Evaluation::of(Verdict::Block),
            account: Account {
                context: verified(prepared),
                approval_ref: request.approval_ref.trim().to_owned(),
                ..Account::default()
            },
            asked: None,
        };
        match gate.policy.fail_closed(prepared) {
            Some(blocked) => case.evaluation = blocked,
            None => case.evaluate(),
        }
        case
    }

    fn evaluate(&mut self) {
        let switch = self.request.kill_switch.map(|switch| switch.required());
        let switch = match switch.transpose() {
            Err(fault) => {
                let unavailable = kill_switch::Decision::unavailable(fault.code(), self.now);
                let warning = format!("{}; {}", fault.message(), fault.hint_text());
                self.account.warnings.push(warning);
                return self.stop(unavailable);
            }
            Ok(state) => state
                .map(|state| kill_switch::Decision::of(&state, self.prepared.intent(), self.now)),
        };
        self.evaluation = self.gate.policy.evaluate(self.prepared);
        self.take_fast_path();
        self.guard_boundary();
        match switch {
            Some(decision) if decision.status == Status::Active => self.stop(decision),
            decision => self.account.kill_switch = decision,
        }
    }

    fn guard_boundary(&mut self) {
        let Some(boundary) = self.request.boundary else {
            return;
        };
        if let (Some(clause), Some(trust)) = (self.gate.policy.mcp_trust(), &boundary.trust) {
            clause.apply(trust, &mut self.evaluation);
            self.account.denied_by.extend(clause.causes(trust));
        }
        for code in &boundary.stops {
            self.deny_beside(BOUNDARY, code, code);
        }
        // Between an agent and its tools a call says what it touches, or nothing that rules about that can hold it to.
        if self.evaluation.verdict < Verdict::Block
            && self.gate.policy.asks_for_unsaid_targets(self.prepared)
        {
            self.deny_beside(BOUNDARY, TARGETS_UNDECLARED, TARGETS_UNDECLARED);
        }
    }

    fn stop(&mut self, decision: kill_switch::Decision) {
        let violation = match decision.status {
            Status::Unavailable => "kill_switch_state_unavailable",
            _ => "kill_switch_active",
        };
        for code in &decision.reason_codes {
            self.deny_beside("kill_switch", code, violation);
        }
        self.account.kill_switch = Some(decision);
    }

    /// Lets an approved script pass without the approvals that it stands for. It lifts nothing else: what the policy
    /// blocks or freezes stays so, and what it counts, delegates and brokers is still to come.
    fn take_fast_path(&mut self) {
        let Some(registry) = self.request.scripts else {
            return;
        };
        if registry.entries().is_empty() {
            return;
        }
        let intent = self.prepared.intent();
        let entry = registry.find(intent, self.gate.policy.digest(), self.now);
        let frozen = self.evaluation.freeze_window.as_ref();
        let frozen = frozen.is_some_and(|freeze| freeze.status != FreezeStatus::Inactive);
        let lifts = matches!(
            self.evaluation.verdict,
            Verdict::Allow | Verdict::RequireApproval
        );
        let (pattern, reason) = match entry {
            _ if intent.script().is_none() => (None, "not_script"),
            None => (None, "approved_script_not_found"),
            Some(_) if frozen => (None, "approved_script_frozen"),
            Some(_) if !lifts => (None, "approved_script_not_applicable"),
            Some(entry) => (Some(entry.pattern_id().to_owned()), MATCH),
        };
        if pattern.is_some() {
            self.pass_as_approved();
        }
        self.account.fast_path = Some(FastPath {
            pattern_id: pattern,
            reason,
        });
    }

    fn pass_as_approved(&mut self) {
        let evaluation = &mut self.evaluation;
        let codes = vec![MATCH.to_owned()];
        evaluation.verdict = Verdict::Allow;
        evaluation.required_approvals = 0;
        evaluation.reason_codes.clone_from(&codes);
        evaluation.violations.clear();
        evaluation.matched_rules.clear();
        for step in evaluation
            .script
            .iter_mut()
            .flat_map(|script| &mut script.steps)
        {
            step.verdict = Verdict::Allow;
            step.reason_codes.clone_from(&codes);
            step.violations.clear();
            step.matched_rule.clear();
        }
    }
}

fn verified(prepared: &Prepared<'_>) -> VerifiedContext {
    let context = prepared.intent().context();
    VerifiedContext {
        set_digest: context.context_set_digest.clone(),
        mode: context.context_evidence_mode.clone(),
        refs: prepared.context_ref_count(),
    }
}
