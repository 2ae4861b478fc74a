//! What a receipt has to say about the request it answers.

use worldcompute_fault::Result;
use worldcompute_ledger::receipt::{Input, Limits, Profile, Receipt};
use worldcompute_proof::{Cid, PeerId, Sha256};
use worldcompute_sandbox::{self as sandbox, RunRequest};

/// The part of a receipt that follows from the run request alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The job.
    pub job_id: String,
    /// The task's place in the job.
    pub task_index: u32,
    /// Whose job it is.
    pub submitter: PeerId,
    /// The module.
    pub workload_cid: Cid,
    /// SHA-256 of the canonical JSON of the request.
    pub request_digest: Sha256,
    /// What the task reads on standard input.
    pub stdin: Option<Cid>,
    /// The files that the task can read.
    pub inputs: Vec<Input>,
    /// What it may use.
    pub limits: Limits,
    /// How it sees the world.
    pub profile: Profile,
}

impl Asked {
    /// What the request asks.
    ///
    /// # Errors
    /// WC-001 for a request that exceeds its own limits.
    pub fn by(request: &RunRequest) -> Result<Self> {
        let input = |mount: &sandbox::Mount| Input {
            path: mount.path.clone(),
            cid: mount.cid,
        };
        let sandbox::Limits {
            fuel,
            memory_bytes,
            wall_ms,
            output_bytes,
        } = request.limits;
        Ok(Self {
            job_id: request.job_id.clone(),
            task_index: request.task_index,
            submitter: request.submitter,
            workload_cid: request.workload,
            request_digest: request.digest()?,
            stdin: request.stdin,
            inputs: request.inputs.iter().map(input).collect(),
            limits: Limits {
                fuel,
                memory_bytes,
                wall_ms,
                output_bytes,
            },
            profile: told_profile(request.profile),
        })
    }

    /// What the receipt says was asked.
    pub fn told_by(receipt: &Receipt) -> Self {
        Self {
            job_id: receipt.job_id.clone(),
            task_index: receipt.task_index,
            submitter: receipt.submitter,
            workload_cid: receipt.workload_cid,
            request_digest: receipt.request_digest,
            stdin: receipt.stdin,
            inputs: receipt.inputs.clone(),
            limits: receipt.limits,
            profile: receipt.profile,
        }
    }

    /// The first field in which the two differ.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        let same = [
            ("job_id", self.job_id == other.job_id),
            ("task_index", self.task_index == other.task_index),
            ("submitter", self.submitter == other.submitter),
            ("workload_cid", self.workload_cid == other.workload_cid),
            ("stdin", self.stdin == other.stdin),
            ("inputs", self.inputs == other.inputs),
            ("limits", self.limits == other.limits),
            ("profile", self.profile == other.profile),
            (
                "request_digest",
                self.request_digest == other.request_digest,
            ),
        ];
        same.into_iter()
            .find(|(_, same)| !same)
            .map(|(field, _)| field)
    }
}

/// A profile in the words of a receipt.
pub const fn told_profile(profile: sandbox::Profile) -> Profile {
    match profile {
        sandbox::Profile::Deterministic { seed } => Profile::Deterministic { seed },
        sandbox::Profile::MicroVm { vcpus } => Profile::MicroVm { vcpus },
    }
}
