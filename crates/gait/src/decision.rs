//! What the gate decided, with the evidence.

use std::sync::atomic::{AtomicBool, Ordering};

use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Sha256;

use crate::evaluate::Evaluation;
use crate::gate::Account;
use crate::permit::Permit;
use crate::policy::why_not::Cause;
use crate::trace::SignedTrace;
use crate::verdict::Verdict;

/// The gate's answer to one intent. Only [`crate::Gate::decide`] makes one.
///
/// ```compile_fail,E0599
/// # fn copy(decision: gait::Decision) -> (gait::Decision, gait::Decision) {
/// (decision.clone(), decision)
/// # }
/// ```
#[derive(Debug)]
pub struct Decision {
    evaluation: Evaluation,
    policy_digest: Sha256,
    intent_digest: Sha256,
    trace: SignedTrace,
    account: Account,
    permit_taken: AtomicBool,
}

impl Decision {
    pub(crate) const fn new(
        evaluation: Evaluation,
        policy_digest: Sha256,
        intent_digest: Sha256,
        trace: SignedTrace,
        account: Account,
    ) -> Self {
        Self {
            evaluation,
            policy_digest,
            intent_digest,
            trace,
            account,
            permit_taken: AtomicBool::new(false),
        }
    }

    /// The verdict.
    pub const fn verdict(&self) -> Verdict {
        self.evaluation.verdict
    }

    /// Why, as stable snake_case codes, sorted.
    pub fn reason_codes(&self) -> &[String] {
        &self.evaluation.reason_codes
    }

    /// What was violated, as stable snake_case codes, sorted.
    pub fn violations(&self) -> &[String] {
        &self.evaluation.violations
    }

    /// What keeps it from being allowed, by rule and clause; none when it is.
    pub fn denied_by(&self) -> &[Cause] {
        &self.account.denied_by
    }

    /// The names of the rules that matched, sorted and joined by commas; empty when none did.
    pub fn matched_rule(&self) -> String {
        self.evaluation.matched_rule()
    }

    /// The whole outcome of the evaluation.
    pub const fn evaluation(&self) -> &Evaluation {
        &self.evaluation
    }

    /// The digest of the policy that decided.
    pub const fn policy_digest(&self) -> Sha256 {
        self.policy_digest
    }

    /// The digest of the intent that was decided: the asked one, without what it claimed about its own evidence.
    pub const fn intent_digest(&self) -> Sha256 {
        self.intent_digest
    }

    /// The signed evidence.
    pub const fn trace(&self) -> &SignedTrace {
        &self.trace
    }

    /// How it came about.
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// The evidence alone, for keeping.
    pub fn into_trace(self) -> SignedTrace {
        self.trace
    }

    /// The right to do what was asked, once.
    ///
    /// `simulated_only` for a simulation, `policy_blocked` for block, `approval_required` for require_approval, `dry_run_only` for dry_run, each naming
    /// the reason codes; `permit_already_taken` the second time.
    pub fn permit(&self) -> Result<Permit> {
        match self.verdict() {
            _ if self.account.simulated.is_some() => {
                Err(self.refusal(Category::PolicyBlocked, "simulated_only"))
            }
            Verdict::Allow => self.take_permit(),
            Verdict::DryRun => Err(self.refusal(Category::PolicyBlocked, "dry_run_only")),
            Verdict::RequireApproval => {
                Err(self.refusal(Category::ApprovalRequired, "approval_required"))
            }
            Verdict::Block => Err(self.refusal(Category::PolicyBlocked, "policy_blocked")),
        }
    }

    fn take_permit(&self) -> Result<Permit> {
        if self.permit_taken.swap(true, Ordering::AcqRel) {
            let message = format!("decision {} has given its permit", self.trace.trace_id());
            return Err(
                Fault::new(Category::PolicyBlocked, "permit_already_taken", message)
                    .hint("ask the gate again for every single effect"),
            );
        }
        let trace_id = self.trace.trace_id().to_owned();
        Ok(Permit::grant(
            self.intent_digest,
            self.policy_digest,
            trace_id,
        ))
    }

    fn refusal(&self, category: Category, code: &'static str) -> Fault {
        let message = format!(
            "the policy says {} ({}), decision {}",
            self.verdict(),
            self.reason_codes().join(", "),
            self.trace.trace_id()
        );
        Fault::new(category, code, message)
    }
}
