//! A donor's signed word on one lease, checked against what it was asked to do.

use std::fmt;

use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_ledger::receipt::{ExecutorReceipt, Receipt, Status};
use worldcompute_proof::{PeerId, Sha256, canonical_json};
use worldcompute_sandbox::RunRequest;

use crate::LeaseId;
use crate::evidence::told_profile;
use crate::manifest::VerifiedManifest;

/// A receipt whose signature is its executor's and whose every fact is the one of the lease. Only [`Execution::verify`]
/// makes one.
#[derive(Clone)]
pub struct Execution {
    pub(super) lease: LeaseId,
    pub(super) executor: PeerId,
    pub(super) status: Status,
    pub(super) error: Option<String>,
    /// The number of the exit from the executor's sandbox.
    pub(super) exit: u64,
    pub(super) receipt: Vec<u8>,
}

impl Execution {
    /// Verifies the receipt that came back for `lease` of the job of `manifest`.
    ///
    /// # Errors
    /// WC-009 for bytes that are no receipt, carry another signature than the executor's, or are about another lease,
    /// task, request or submitter.
    pub fn verify(receipt: &[u8], lease: LeaseId, manifest: &VerifiedManifest) -> Result<Self> {
        let opened = ExecutorReceipt::open(receipt)?;
        let receipt = opened.receipt();
        let request = manifest.task(lease.task.index)?;
        check_names(receipt, lease, manifest)?;
        check_request(receipt, &request)?;
        let decided = receipt.decision.intent_digest == request.intent()?.digest();
        holds(decided, "the donor's gate decided on another intent")?;
        let sent = receipt.submitter_decision.intent_digest == manifest.submit_intent()?.digest();
        holds(sent, "it names another decision of the submitter's gate")?;
        Ok(Self {
            lease,
            executor: receipt.executor,
            status: receipt.outcome.status,
            error: receipt.outcome.error.clone(),
            exit: receipt.sequence,
            receipt: opened.bytes().to_vec(),
        })
    }

    /// How the run ended.
    pub const fn status(&self) -> Status {
        self.status
    }

    /// Who ran it.
    pub const fn executor(&self) -> PeerId {
        self.executor
    }
}

impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Execution({} by {}: {})",
            self.lease,
            self.executor,
            self.status.as_str()
        )
    }
}

fn check_names(receipt: &Receipt, lease: LeaseId, manifest: &VerifiedManifest) -> Result<()> {
    holds(
        receipt.lease_id == lease.to_string(),
        "it is about another lease",
    )?;
    holds(
        receipt.job_id == manifest.job_id().to_string(),
        "it is about another job",
    )?;
    holds(
        lease.task.job == manifest.job_id(),
        "the lease is of another job",
    )?;
    holds(
        receipt.task_index == lease.task.index,
        "it is about another task",
    )?;
    holds(
        receipt.attempt == lease.attempt,
        "it is about another attempt",
    )?;
    holds(
        receipt.manifest_cid == *manifest.cid(),
        "it names another manifest",
    )?;
    holds(
        receipt.submitter == *manifest.submitter(),
        "it names another submitter",
    )
}

fn check_request(receipt: &Receipt, request: &RunRequest) -> Result<()> {
    let digest = Sha256::of(canonical_json(request)?);
    holds(receipt.request_digest == digest, "it names another request")?;
    holds(
        receipt.workload_cid == request.workload,
        "it names another module",
    )?;
    holds(
        receipt.stdin == request.stdin,
        "it names another standard input",
    )?;
    let read = receipt.inputs.iter().map(|input| (&input.path, input.cid));
    holds(
        read.eq(request.inputs.iter().map(|input| (&input.path, input.cid))),
        "it names other inputs",
    )?;
    let limits = &receipt.limits;
    let granted = (
        limits.fuel,
        limits.memory_bytes,
        limits.wall_ms,
        limits.output_bytes,
    );
    let asked = &request.limits;
    let asked = (
        asked.fuel,
        asked.memory_bytes,
        asked.wall_ms,
        asked.output_bytes,
    );
    holds(granted == asked, "it names other limits")?;
    holds(
        receipt.profile == told_profile(request.profile),
        "it names another profile",
    )?;
    check_outputs(receipt, request)
}

fn check_outputs(receipt: &Receipt, request: &RunRequest) -> Result<()> {
    if receipt.outcome.status != Status::Succeeded {
        return Ok(());
    }
    let kept = receipt.outcome.outputs.iter().map(|output| &output.name);
    holds(
        kept.eq(request.outputs.iter().map(|output| &output.name)),
        "it keeps other outputs",
    )?;
    let mut sizes = receipt.outcome.outputs.iter().zip(&request.outputs);
    holds(
        sizes.all(|(kept, asked)| kept.size <= asked.max_bytes),
        "one of its outputs exceeds its limit",
    )
}

fn holds(condition: bool, otherwise: &str) -> Result<()> {
    if condition {
        return Ok(());
    }
    Err(Fault::wc(
        WcCode::LedgerVerificationFailed,
        format!("receipt: {otherwise}"),
    ))
}
