//! Whether a task may run here: who sends it, what the donor consented to, what the policy says.

use std::collections::BTreeSet;

use gait::{Decision, Gate, Permit, Policy, SystemClock};
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_mesh::wire::{DispatchRequest, OfferRequest};
use worldcompute_proof::{PeerId, Sha256, SigningKey};
use worldcompute_sandbox::RunRequest;
use worldcompute_scheduler::manifest::VerifiedManifest;

use crate::config::Config;
use crate::decisions::Submission;

/// Guards one machine.
pub struct Guard {
    gate: Gate,
    policy_digest: Sha256,
    consent: BTreeSet<String>,
    max_task_memory_mb: u64,
    me: PeerId,
}

/// A task whose origin has been proven.
pub struct Task {
    /// The signed manifest it belongs to.
    pub manifest: VerifiedManifest,
    /// What is to run.
    pub run: RunRequest,
    /// The submitter's decision to send it.
    pub submission: Submission,
}

/// The gate's yes, and its signed record.
pub struct Admitted {
    /// Needed to run.
    pub permit: Permit,
    /// Kept as evidence.
    pub decision: Decision,
}

impl Guard {
    /// Guards with the given policy.
    pub fn new(policy: Policy, config: &Config, key: &SigningKey) -> Self {
        Self {
            policy_digest: policy.digest(),
            gate: Gate::new(policy, key.clone(), SystemClock::shared()),
            consent: config.consent.clone(),
            max_task_memory_mb: config.max_task_memory_mb,
            me: key.peer_id(),
        }
    }

    /// The digest of the policy.
    pub const fn policy_digest(&self) -> Sha256 {
        self.policy_digest
    }

    /// What can be said of an offer before its manifest is here.
    pub fn check_offer(&self, offer: &OfferRequest) -> Result<()> {
        self.check_memory(offer.min_memory_mb)?;
        self.check_consent(&offer.classes)?;
        if offer.needs_gpu {
            return Err(Fault::wc(
                WcCode::NoEligibleNodes,
                "this donor gives no GPU",
            ));
        }
        Ok(())
    }

    /// Proves that `from` signed the manifest and decided to send it, and finds the task in it.
    pub fn check_origin(&self, from: &PeerId, request: &DispatchRequest) -> Result<Task> {
        let manifest = VerifiedManifest::open(&request.manifest)?;
        if manifest.submitter() != from {
            return Err(Fault::wc(
                WcCode::Unauthorized,
                format!("the manifest is not signed by its sender {from}"),
            ));
        }
        if manifest.job_id().to_string() != request.job_id {
            return Err(Fault::wc(
                WcCode::InvalidManifest,
                "the manifest is another job's",
            ));
        }
        let submission = Submission::open(&manifest, &request.trace)?;
        let run = manifest.task(request.task_index)?;
        Ok(Task {
            manifest,
            run,
            submission,
        })
    }

    /// Asks the donor's consent, then the gate.
    pub fn admit(&self, run: &RunRequest) -> Result<Admitted> {
        self.check_memory(run.limits.memory_bytes.div_ceil(1 << 20))?;
        if run.submitter != self.me {
            self.check_consent(&run.classes)?;
        }
        let decision = self.gate.decide(&run.intent()?)?;
        Ok(Admitted {
            permit: decision.permit()?,
            decision,
        })
    }

    /// The donor's choice is absolute: it holds whatever the policy file says.
    fn check_consent(&self, classes: &[String]) -> Result<()> {
        match classes.iter().find(|class| !self.consent.contains(*class)) {
            Some(class) => Err(Fault::wc(
                WcCode::AcceptableUseViolation,
                format!("this donor did not consent to {class} work"),
            )),
            None => Ok(()),
        }
    }

    fn check_memory(&self, mebibytes: u64) -> Result<()> {
        if mebibytes <= self.max_task_memory_mb {
            return Ok(());
        }
        Err(Fault::wc(
            WcCode::NoEligibleNodes,
            format!(
                "this donor gives a task {} MiB, not {mebibytes}",
                self.max_task_memory_mb
            ),
        ))
    }
}
