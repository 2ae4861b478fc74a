//! The gate itself: one policy, one key, one clock.
//!
//! ```text
//! Request ─► evaluate ─► delegation ─► approvals ─► limits ─► credential   (nothing is used up so far)
//!         ─► places for the evidence ─► redeem, count ─► audits ─► trace   (what can still fail, denies)
//! ```

mod account;
mod case;
mod evaluate;
mod limits;
mod outputs;
mod profile;
mod request;
mod settle;

use std::sync::Arc;

use worldcompute_fault::Result;
use worldcompute_proof::{SigningKey, VerifyingKey};

pub use account::{Account, FastPath, Simulated, VerifiedContext};
pub use outputs::{Outputs, Written};
pub use profile::Profile;
pub use request::{Brokering, Presented, Request};

use crate::clock::Clock;
use crate::decision::Decision;
use crate::evidence::Evidence;
use crate::intent::Intent;
use crate::policy::Policy;
use case::Case;

/// Decides intents under one policy and signs every decision.
pub struct Gate {
    policy: Policy,
    key: SigningKey,
    clock: Arc<dyn Clock>,
}

impl Gate {
    /// A gate that decides by `policy`, signs with `key` and takes the time from `clock`.
    pub fn new(policy: Policy, key: SigningKey, clock: Arc<dyn Clock>) -> Self {
        Self { policy, key, clock }
    }

    /// The policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The key that verifies this gate's traces.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// Decides and signs.
    ///
    /// No token, counter and broker is at hand here, so what needs one is refused: `require_approval` stays with
    /// `approval_token_missing`, a rule that requires delegation blocks with `delegation_token_missing`, a limit with
    /// `rate_limit_state_unavailable` and a brokered credential with `broker_credential_required`.
    pub fn decide(&self, intent: &Intent) -> Result<Decision> {
        self.decide_on(intent, &Request::default())
    }

    /// [`Gate::decide`], with a correlation id in the trace.
    pub fn decide_correlated(&self, intent: &Intent, correlation_id: &str) -> Result<Decision> {
<<<<<<< HEAD
        self.decide_adjusted(intent, correlation_id, |evaluation| {
            if evaluation.verdict == Verdict::RequireApproval {
                evaluation.add("approval_token_missing", "approval_not_granted");
            }
        })
    }

    /// [`Gate::decide_correlated`], with what `adjust` adds to the outcome before it is signed.
    pub(crate) fn decide_adjusted(
        &self,
        intent: &Intent,
        correlation_id: &str,
        adjust: impl FnOnce(&mut Evaluation),
    ) -> Result<Decision> {
        let started_at = self.clock.now();
        let prepared = intent.prepare(&Evidence::at(started_at))?;
        let mut evaluation = alone(self.policy.evaluate(&prepared), prepared.intent());
        adjust(&mut evaluation);
        let intent = prepared.intent();
        let observation = Observation {
            started_at,
            ended_at: self.clock.now(),
=======
        let request = Request {
>>>>>>> 4487b00 (gait: gate eval with approvals, delegations, limits, kill switch, approved scripts, brokers and numbered sessions)
            correlation_id,
            ..Request::default()
        };
        self.decide_on(intent, &request)
    }

<<<<<<< HEAD
/// The outcome when there are neither delegation tokens nor counters nor a broker.
fn alone(mut evaluation: Evaluation, intent: &Intent) -> Evaluation {
    let destructive = intent.targets().iter().any(|target| target.destructive);
    let budgeted = destructive && evaluation.destructive_budget.is_some();
    let limited = budgeted || evaluation.rate_limit.is_some();
    let needs = [
        (
            limited,
            "rate_limit_state_unavailable",
            "rate_limit_not_counted",
        ),
        (
            evaluation.require_delegation,
            "delegation_token_missing",
            "delegation_not_granted",
        ),
        (
            evaluation.broker.required,
            "broker_credential_missing",
            "broker_credential_missing",
        ),
    ];
    let blocked = evaluation.verdict == Verdict::Block;
    for (_, reason, violation) in needs.into_iter().filter(|(needed, ..)| *needed && !blocked) {
        evaluation.raise(Verdict::Block);
        evaluation.add(reason, violation);
    }
    evaluation
=======
    /// Decides with all that `request` brings, writes the evidence where it says, and signs.
    ///
    /// What can be used up (a limit, a token for one use) is used up only for a decision that lets the call pass, after
    /// everything else has held and the evidence has its place on the disk. An error lets nothing pass.
    pub fn decide_on(&self, intent: &Intent, request: &Request<'_>) -> Result<Decision> {
        let now = self.clock.now();
        let evidence = Evidence::at(request.at.unwrap_or(now))
            .with_envelope(request.envelope)
            .with_inventory(request.inventory);
        let prepared = intent.prepare(&evidence)?;
        let mut case = Case::open(self, &prepared, request, now);
        case.check_delegation();
        case.weigh_approvals()?;
        case.look_at_limits()?;
        case.fetch_credential()?;
        case.simulate();
        case.settle()
    }
>>>>>>> 4487b00 (gait: gate eval with approvals, delegations, limits, kill switch, approved scripts, brokers and numbered sessions)
}
