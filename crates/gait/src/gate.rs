//! The gate itself: one policy, one key, one clock.

use std::sync::Arc;

use worldcompute_fault::Result;
use worldcompute_proof::{SigningKey, VerifyingKey};

use crate::clock::Clock;
use crate::decision::Decision;
use crate::evaluate::Evaluation;
use crate::intent::Intent;
use crate::policy::Policy;
use crate::trace::{self, Observation};
use crate::verdict::Verdict;

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
    /// No approval or delegation token is presented here, so what needs one is refused: `require_approval` stays with
    /// `approval_token_missing`, and a rule that requires delegation blocks with `delegation_token_missing`.
    pub fn decide(&self, intent: &Intent) -> Result<Decision> {
        self.decide_correlated(intent, "")
    }

    /// [`Gate::decide`], with a correlation id in the trace.
    pub fn decide_correlated(&self, intent: &Intent, correlation_id: &str) -> Result<Decision> {
        let started_at = self.clock.now();
        let stripped = intent
            .has_context_claims()
            .then(|| intent.without_context_claims());
        let stripped = stripped.transpose()?;
        let intent = stripped.as_ref().unwrap_or(intent);
        let evaluation = without_tokens(self.policy.evaluate(intent));
        let observation = Observation {
            started_at,
            ended_at: self.clock.now(),
            correlation_id,
        };
        let trace = trace::issue(&self.policy, intent, &evaluation, &observation, &self.key)?;
        Ok(Decision::new(
            evaluation,
            self.policy.digest(),
            intent.digest(),
            trace,
        ))
    }
}

/// The outcome when neither a delegation nor an approval token is presented.
fn without_tokens(mut evaluation: Evaluation) -> Evaluation {
    if evaluation.require_delegation && evaluation.verdict != Verdict::Block {
        evaluation.verdict = Verdict::Block;
        evaluation.add("delegation_token_missing", "delegation_not_granted");
    }
    if evaluation.verdict == Verdict::RequireApproval {
        evaluation.add("approval_token_missing", "approval_not_granted");
    }
    evaluation
}
