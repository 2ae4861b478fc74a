//! Whether a task may run here: who sends it, what the donor consented to, what the policy says.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gait::{Decision, Gate, Permit, Policy, SystemClock};
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_mesh::wire::{DispatchRequest, OfferRequest};
use worldcompute_proof::{PeerId, Sha256, SigningKey};
use worldcompute_sandbox::{Profile, RunRequest};
use worldcompute_scheduler::manifest::VerifiedManifest;

use crate::config::Config;
use crate::decisions::Submission;

/// How many jobs' origins are remembered as proven.
const MAX_PROVEN: usize = 16;

/// Guards one machine.
pub struct Guard {
    gate: Gate,
    policy_digest: Sha256,
    consent: BTreeSet<String>,
    max_task_memory_mb: u64,
    /// As many as are announced.
    processors: u32,
    me: PeerId,
    proven: Mutex<VecDeque<(Sha256, Arc<Origin>)>>,
}

/// A task whose origin has been proven.
pub struct Task {
    /// Where it comes from.
    pub origin: Arc<Origin>,
    /// What is to run.
    pub run: RunRequest,
}

/// What the tasks of one job have in common: proven once, it is proven for all of them.
pub struct Origin {
    /// The signed manifest.
    pub manifest: VerifiedManifest,
    /// The submitter's decision to send it.
    pub submission: Submission,
}

impl Origin {
    /// Verifies both signatures, and that the decision is about the manifest.
    fn open(manifest: &[u8], trace: &[u8]) -> Result<Self> {
        let manifest = VerifiedManifest::open(manifest)?;
        let submission = Submission::open(&manifest, trace)?;
        Ok(Self {
            manifest,
            submission,
        })
    }
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
            processors: u32::try_from(config.effective_slots()).unwrap_or(u32::MAX),
            me: key.peer_id(),
            proven: Mutex::default(),
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
        let origin = self.origin(&request.manifest, &request.trace)?;
        let manifest = &origin.manifest;
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
        let run = manifest.task(request.task_index)?;
        Ok(Task { origin, run })
    }

    /// The same bytes always prove the same, so those of the latest jobs are verified once.
    fn origin(&self, manifest: &[u8], trace: &[u8]) -> Result<Arc<Origin>> {
        let digests = [Sha256::of(manifest), Sha256::of(trace)];
        let both = Sha256::of(digests.map(|digest| *digest.as_bytes()).as_flattened());
        if let Some((_, origin)) = self.proven().iter().find(|(known, _)| *known == both) {
            return Ok(origin.clone());
        }
        let origin = Arc::new(Origin::open(manifest, trace)?);
        let mut proven = self.proven();
        proven.truncate(MAX_PROVEN - 1);
        proven.push_front((both, origin.clone()));
        Ok(origin)
    }

    fn proven(&self) -> MutexGuard<'_, VecDeque<(Sha256, Arc<Origin>)>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the donor's consent, then the gate.
    pub fn admit(&self, run: &RunRequest) -> Result<Admitted> {
        self.check_memory(run.limits.memory_bytes.div_ceil(1 << 20))?;
        self.check_processors(run)?;
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

    /// A module has one, whatever its manifest says that it needs.
    fn check_processors(&self, run: &RunRequest) -> Result<()> {
        match run.profile {
            Profile::MicroVm { vcpus } if vcpus > self.processors => Err(Fault::wc(
                WcCode::NoEligibleNodes,
                format!(
                    "this donor gives a task {} processors, not {vcpus}",
                    self.processors
                ),
            )),
            _ => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use worldcompute_proof::Cid;
    use worldcompute_scheduler::manifest::Manifest;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed([seed; 32])
    }

    fn guard() -> Guard {
        let policy = Policy::parse(gait::starter::donor_policy(&["general"]).as_bytes()).unwrap();
        Guard::new(policy, &Config::default(), &key(1))
    }

    /// A task as `key` would send it.
    fn request(key: &SigningKey) -> DispatchRequest {
        let document = format!(
            "{{apiVersion: worldcompute/v1, kind: Job, metadata: {{name: test}}, spec: {{wasm: 'cid:{}'}}}}",
            Cid::raw(b"module")
        );
        let manifest = Manifest::parse(document.as_bytes()).unwrap();
        let manifest = manifest.resolve(|_| unreachable!()).unwrap();
        let manifest = manifest.sign(key).unwrap();
        let policy = Policy::parse(gait::starter::submitter_policy().as_bytes()).unwrap();
        let gate = Gate::new(policy, key.clone(), SystemClock::shared());
        let decision = gate.decide(&manifest.submit_intent().unwrap()).unwrap();
        DispatchRequest {
            lease_id: String::new(),
            job_id: manifest.job_id().to_string(),
            task_id: String::new(),
            task_index: 0,
            attempt: 0,
            manifest: manifest.bytes().to_vec(),
            inline_inputs: Vec::new(),
            trace: decision.trace().bytes().to_vec(),
            correlation_id: String::new(),
            inspected: false,
        }
    }

    #[test]
    fn what_is_proven_for_one_sender_is_refused_from_another() {
        let (guard, request) = (guard(), request(&key(2)));
        guard.check_origin(&key(2).peer_id(), &request).unwrap();
        let stranger = guard.check_origin(&key(3).peer_id(), &request);
        assert_eq!(stranger.err().unwrap().number(), Some(WcCode::Unauthorized));
        guard.check_origin(&key(2).peer_id(), &request).unwrap();
    }

    #[test]
    fn an_image_gets_no_more_processors_than_are_announced() {
        let config = Config {
            slots: 2,
            ..Config::default()
        };
        let policy = Policy::parse(gait::starter::donor_policy(&["general"]).as_bytes()).unwrap();
        let guard = Guard::new(policy, &config, &key(1));
        let from = key(2).peer_id();
        let task = guard.check_origin(&from, &request(&key(2))).unwrap();
        let mut run = task.run;
        run.limits.fuel = 0;
        for (vcpus, admitted) in [(2, true), (3, false), (64, false)] {
            run.profile = Profile::MicroVm { vcpus };
            assert_eq!(guard.admit(&run).is_ok(), admitted, "{vcpus}");
        }
    }

    #[test]
    fn bytes_beside_the_proven_ones_are_verified() {
        let guard = guard();
        let (good, from) = (request(&key(2)), key(2).peer_id());
        let other = request(&key(2));
        guard.check_origin(&from, &good).unwrap();
        guard.check_origin(&from, &other).unwrap();
        let crossed = DispatchRequest {
            trace: other.trace,
            ..good.clone()
        };
        let mut broken = good.clone();
        *broken.manifest.last_mut().unwrap() ^= 1;
        for request in [crossed, broken] {
            assert!(guard.check_origin(&from, &request).is_err());
        }
        let elsewhere = DispatchRequest {
            job_id: other.job_id,
            ..good
        };
        assert!(guard.check_origin(&from, &elsewhere).is_err());
    }

    #[test]
    fn no_more_than_the_latest_origins_are_remembered() {
        let (guard, from) = (guard(), key(2).peer_id());
        for remembered in 1..=MAX_PROVEN + 1 {
            guard.check_origin(&from, &request(&key(2))).unwrap();
            assert_eq!(guard.proven().len(), remembered.min(MAX_PROVEN));
        }
    }
}
