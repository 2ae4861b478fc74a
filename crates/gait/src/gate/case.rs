//! One intent before the gate: what is known of it so far, and who vouches for it.

use jiff::Timestamp;
use worldcompute_fault::Result;

use super::Gate;
use super::account::{Account, Simulated};
use super::request::Request;
use crate::approval::{self, Approvals, Demand, Expected};
use crate::broker;
use crate::delegation::Chain;
use crate::evaluate::Evaluation;
use crate::evidence::Prepared;
use crate::intent::Intent;
use crate::policy::why_not::{Cause, causes};
use crate::verdict::Verdict;

/// The clause of a rule that a credential of the broker has to satisfy.
const BROKER: &str = "require_broker_credential";

/// An intent on its way to a decision.
pub(super) struct Case<'a> {
    pub(super) gate: &'a Gate,
    pub(super) request: &'a Request<'a>,
    pub(super) prepared: &'a Prepared<'a>,
    pub(super) now: Timestamp,
    pub(super) evaluation: Evaluation,
    pub(super) account: Account,
    /// What the broker was asked, if it was.
    pub(super) asked: Option<broker::Request<'a>>,
}

impl<'a> Case<'a> {
    pub(super) fn intent(&self) -> &'a Intent {
        self.prepared.intent()
    }

    /// Finds a token for every link of the chain, if a rule rests on the delegation.
    pub(super) fn check_delegation(&mut self) {
        if !self.evaluation.require_delegation {
            return;
        }
        let presented = &self.request.delegations;
        let chain = Chain::validate(
            presented.tokens,
            &presented.key.unwrap_or(self.gate.verifying_key()),
            self.intent(),
            self.gate.policy.digest(),
            &self.evaluation.delegation_scopes,
            self.now,
        );
        for code in chain.reason_codes() {
            match chain.granted() {
                true => self.evaluation.note(code),
                false => self.deny("match.require_delegation", code, "delegation_not_granted"),
            }
        }
        self.account.delegation = Some(chain);
    }

    /// Weighs the tokens, if the verdict waits for approvals; they are not used up yet.
    pub(super) fn weigh_approvals(&mut self) -> Result<()> {
        if self.evaluation.verdict != Verdict::RequireApproval {
            return Ok(());
        }
        let tokens = self.request.approvals.tokens;
        if tokens.is_empty() && self.request.boundary.is_some() {
            return Ok(());
        }
        let approvals = match self.request.redemptions {
            Some(redemptions) if tokens.iter().any(|token| self.is_single_use(token)) => {
                let used = redemptions.used()?;
                self.weigh(|token| used(token))?
            }
            _ => self.weigh(|_| false)?,
        };
        self.conclude(approvals);
        Ok(())
    }

    pub(super) fn is_single_use(&self, token: &approval::Token) -> bool {
        self.request.single_use || token.is_single_use()
    }

    /// What the tokens are worth when some `are_used`.
    pub(super) fn weigh(&self, is_used: impl Fn(&approval::Token) -> bool) -> Result<Approvals> {
        let presented = &self.request.approvals;
        let key = presented.key.unwrap_or(self.gate.verifying_key());
        let digest = self.gate.policy.digest();
        let expected = Expected::of(self.intent(), digest, self.now)?;
        let demand = Demand {
            required: self.evaluation.required_approvals.max(1),
            distinct: self.evaluation.distinct_approvers,
        };
        Ok(Approvals::of(presented.tokens, demand, |token| {
            token.check(&key, &expected)?;
            match (self.is_single_use(token), self.request.redemptions) {
                (false, _) => Ok(()),
                (true, None) => Err(approval::Flaw::RedemptionUnavailable),
                (true, Some(_)) if is_used(token) => Err(approval::Flaw::AlreadyRedeemed),
                (true, Some(_)) => Ok(()),
            }
        }))
    }

    /// Makes the approvals part of the outcome.
    pub(super) fn conclude(&mut self, approvals: Approvals) {
        for code in approvals.reason_codes() {
            self.evaluation.note(code);
        }
        if approvals.granted() {
            self.evaluation.verdict = Verdict::Allow;
            self.account.approval_ref = approvals.reference();
        } else {
            self.evaluation.violate("approval_not_granted");
        }
        self.account.approvals = Some(approvals);
    }

    /// Asks the broker, if the rules want a credential of it and nothing else is in the way.
    pub(super) fn fetch_credential(&mut self) -> Result<()> {
        if !self.evaluation.broker.required || self.evaluation.verdict != Verdict::Allow {
            return Ok(());
        }
        let Some(brokering) = &self.request.broker else {
            let missing = "broker_credential_missing";
            self.deny(BROKER, "broker_credential_required", missing);
            return Ok(());
        };
        if self.request.simulate && matches!(brokering.broker, broker::Broker::Command(_)) {
            let warning = "simulation: the credential command was not asked";
            self.account.warnings.push(warning.to_owned());
            return Ok(());
        }
        let mut scopes = self.evaluation.broker.scopes.clone();
        scopes.extend_from_slice(brokering.scopes);
        let reference = match brokering.reference.trim() {
            "" => self.evaluation.broker.reference(),
            given => given.to_owned(),
        };
        let asked = broker::Request::new(self.intent(), &reference, &scopes)?;
        match brokering.broker.issue(&asked, brokering.environment) {
            Err(fault) => {
                let missing = "broker_credential_missing";
                self.deny(BROKER, missing, missing);
                self.account.warnings.push(fault.message().to_owned());
            }
            Ok(credential) => {
                let mut faults = credential.mismatches(&asked, self.now)?;
                faults.extend(self.evaluation.broker.faults(&credential, self.now));
                for code in &faults {
                    self.deny(BROKER, code, code);
                }
                if faults.is_empty() {
                    self.evaluation.note("broker_credential_present");
                }
                self.account.credential = Some(credential);
                self.asked = Some(asked);
            }
        }
        Ok(())
    }

    /// Turns the outcome into a report of itself, if that is all that was asked for.
    pub(super) fn simulate(&mut self) {
        if !self.request.simulate {
            return;
        }
        let simulated = Simulated {
            verdict: self.evaluation.verdict,
            reason_codes: self.evaluation.reason_codes.clone(),
        };
        // What would have been denied keeps its reasons, beside those that say that it was not.
        if !simulated.would_have_blocked() {
            self.evaluation.reason_codes.clear();
        }
        self.evaluation.note("simulate_mode_non_enforcing");
        if simulated.would_have_blocked() {
            let code = format!("simulated_{}", simulated.verdict);
            self.evaluation.note(&code);
            self.evaluation.violations.clear();
            self.evaluation.verdict = Verdict::Allow;
        }
        self.account.simulated = Some(simulated);
    }

    /// What the trace says of a simulation, whose verdict it is not.
    pub(super) fn simulated(&self) -> Option<Verdict> {
        let simulated = self.account.simulated.as_ref();
        simulated.map(|simulated| simulated.verdict)
    }

    /// Blocks by `clause` of the rules that matched.
    pub(super) fn deny(&mut self, clause: &str, reason: &str, violation: &str) {
        let rules = self.evaluation.matched_rule();
        self.block(clause, rules, reason, violation);
    }

    /// Blocks by what stands beside the policy.
    pub(super) fn deny_beside(&mut self, what: &str, reason: &str, violation: &str) {
        self.block(what, String::new(), reason, violation);
    }

    fn block(&mut self, clause: &str, rule: String, reason: &str, violation: &str) {
        self.evaluation.raise(Verdict::Block);
        self.evaluation.add(reason, violation);
        self.account.denied_by.push(Cause {
            clause: clause.to_owned(),
            reason_code: reason.to_owned(),
            rule,
            step: None,
            verdict: Verdict::Block,
        });
    }

    /// Puts what in the policy made the verdict as strict as it is before what stands beside the policy.
    pub(super) fn name_causes(&mut self) {
        let decided = self.simulated().unwrap_or(self.evaluation.verdict);
        let mut named = match decided {
            Verdict::Allow => Vec::new(),
            _ => causes(&self.gate.policy, self.prepared),
        };
        named.append(&mut self.account.denied_by);
        named.retain(|cause| cause.verdict == decided);
        named.dedup();
        self.account.denied_by = named;
    }
}
