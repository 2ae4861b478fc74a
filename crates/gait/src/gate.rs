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
pub(crate) use evaluate::TARGETS_UNDECLARED;
pub use outputs::{Outputs, Written};
pub use profile::Profile;
pub use request::{AtBoundary, Brokering, Presented, Request};

use crate::clock::{self, Clock};
use crate::decision::Decision;
use crate::intent::Intent;
use crate::policy::Policy;
use crate::policy::why_not::{WhyNot, why_not};
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

    pub(crate) const fn signing_key(&self) -> &SigningKey {
        &self.key
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
        let request = Request {
            correlation_id,
            ..Request::default()
        };
        self.decide_on(intent, &request)
    }

    /// Decides with all that `request` brings, writes the evidence where it says, and signs.
    ///
    /// What can be used up (a limit, a token for one use) is used up only for a decision that lets the call pass, after
    /// everything else has held and the evidence has its place on the disk. An error lets nothing pass.
    pub fn decide_on(&self, intent: &Intent, request: &Request<'_>) -> Result<Decision> {
        request.check()?;
        let now = self.clock.now();
        // Tokens and the kill switch go by the present, whatever time the policy is asked for.
        clock::check_set(now)?;
        let prepared = intent.prepare(&request.evidence(now))?;
        let mut case = Case::open(self, &prepared, request, now);
        case.check_delegation();
        case.weigh_approvals()?;
        case.look_at_limits()?;
        case.fetch_credential()?;
        case.simulate();
        case.settle()
    }

    /// Why the policy alone, before tokens, counters and brokers, does not allow `intent`, and the least change to the
    /// policy that would; `None` when it allows.
    pub fn why_not(&self, intent: &Intent, request: &Request<'_>) -> Result<Option<WhyNot>> {
        let prepared = intent.prepare(&request.evidence(self.clock.now()))?;
        Ok(why_not(&self.policy, &prepared))
    }
}
