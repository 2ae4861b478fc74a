//! From what a run did to what its submitter gets: the receipt, the reply, and the copy that answers a second asking.

use gait::Decision;
use jiff::Timestamp;
use serde_bytes::ByteBuf;
use worldcompute_content::ContentStore;
use worldcompute_fault::Result;
use worldcompute_ledger::receipt::{self, Receipt, bounded_error};
use worldcompute_mesh::wire::{DispatchReply, DispatchRequest, DispatchStatus, OutputBlob};
use worldcompute_proof::{Cid, PeerId, SigningKey, canonical_cbor, from_canonical_cbor};
use worldcompute_sandbox::{Outcome, Status};

use super::guard::Task;
use crate::{decisions, receipts};

/// Results up to this size travel in the reply; larger ones are fetched by their names.
const MAX_INLINE_BYTES: usize = 1 << 20;

/// How much all inline results of one reply may have together.
const MAX_INLINE_TOTAL: usize = 4 << 20;

/// The name under which standard error travels among the outputs.
pub const STDERR: &str = "stderr";

/// One run, as its receipt describes it.
pub struct Attempt<'a> {
    pub request: &'a DispatchRequest,
    pub task: &'a Task,
    pub path: receipt::Path,
    pub exit: u64,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub executor: &'a PeerId,
    pub decision: &'a Decision,
}

impl Attempt<'_> {
    /// Keeps the results, signs the receipt, and makes the reply.
    pub fn write_up(
        self,
        outcome: Outcome,
        key: &SigningKey,
        content: &ContentStore,
    ) -> Result<DispatchReply> {
        let stdout = content.put(&outcome.stdout)?;
        let stderr = content.put(&outcome.stderr)?;
        let outputs = outcome
            .outputs
            .iter()
            .map(|output| kept(output, content))
            .collect::<Result<Vec<_>>>()?;
        let receipt = self.receipt(&outcome, stdout, stderr, outputs.clone())?;
        let signed = receipt.sign(key)?;
        let mut blobs = Blobs::default();
        blobs.add(STDERR, stderr, outcome.stderr);
        for (output, kept) in outcome.outputs.into_iter().zip(outputs) {
            blobs.add(&kept.name, kept.cid, output.bytes);
        }
        Ok(DispatchReply {
            task_id: self.request.task_id.clone(),
            status: status(outcome.status),
            output: if outcome.stdout.len() <= MAX_INLINE_BYTES {
                outcome.stdout
            } else {
                Vec::new()
            },
            output_cid: Some(stdout),
            duration_ms: outcome.wall_ms,
            error: outcome.error.as_deref().map(bounded_error),
            receipt: signed.bytes().to_vec(),
            trace: self.decision.trace().bytes().to_vec(),
            outputs: blobs.blobs,
        })
    }

    fn receipt(
        &self,
        outcome: &Outcome,
        stdout: Cid,
        stderr: Cid,
        outputs: Vec<receipt::Output>,
    ) -> Result<Receipt> {
        let run = &self.task.run;
        Ok(Receipt {
            job_id: run.job_id.clone(),
            task_index: run.task_index,
            attempt: self.request.attempt,
            lease_id: self.request.lease_id.clone(),
            manifest_cid: *self.task.manifest.cid(),
            workload_cid: run.workload,
            request_digest: receipts::request_digest(run)?,
            stdin: run.stdin,
            inputs: receipts::inputs(run),
            limits: receipts::limits(run),
            profile: receipts::profile(run),
            executor: *self.executor,
            submitter: run.submitter,
            sequence: self.exit,
            decision: decisions::reference(self.decision),
            submitter_decision: self.task.submission.reference(),
            outcome: receipt::Outcome {
                status: receipts::status(outcome.status),
                exit_code: outcome.exit_code,
                stdout_cid: stdout,
                stderr_cid: stderr,
                outputs,
                fuel_used: outcome.fuel_used,
                wall_ms: outcome.wall_ms,
                error: outcome.error.as_deref().map(bounded_error),
            },
            started_at: self.started_at,
            ended_at: self.ended_at,
            path: self.path,
        })
    }
}

/// Results that travel in the reply, within the limits of a frame.
#[derive(Default)]
struct Blobs {
    blobs: Vec<OutputBlob>,
    inline: usize,
}

impl Blobs {
    fn add(&mut self, name: &str, cid: Cid, bytes: Vec<u8>) {
        let size = bytes.len();
        let fits = size <= MAX_INLINE_BYTES && self.inline + size <= MAX_INLINE_TOTAL;
        self.inline += if fits { size } else { 0 };
        let inline = fits.then(|| ByteBuf::from(bytes));
        self.blobs.push(OutputBlob {
            name: name.to_owned(),
            cid,
            size: size as u64,
            inline,
        });
    }
}

fn kept(output: &worldcompute_sandbox::Output, content: &ContentStore) -> Result<receipt::Output> {
    let cid = content.put(&output.bytes)?;
    Ok(receipt::Output {
        name: output.name.clone(),
        cid,
        size: output.bytes.len() as u64,
    })
}

const fn status(status: Status) -> DispatchStatus {
    match status {
        Status::Succeeded => DispatchStatus::Succeeded,
        Status::TimedOut => DispatchStatus::Timeout,
        Status::Cancelled => DispatchStatus::Preempted,
        Status::Failed
        | Status::Trapped
        | Status::OutOfFuel
        | Status::OutOfMemory
        | Status::OutputLimit => DispatchStatus::Failed,
    }
}

/// A reply as it is kept for a second asking: without the bytes that the content store has.
pub fn stored(reply: &DispatchReply) -> Result<Vec<u8>> {
    let outputs = reply
        .outputs
        .iter()
        .map(|blob| OutputBlob {
            inline: None,
            ..blob.clone()
        })
        .collect();
    canonical_cbor(&DispatchReply {
        output: Vec::new(),
        outputs,
        ..reply.clone()
    })
}

/// The kept reply, with standard output where it is small enough to travel along; the rest is fetched by name.
pub fn stored_reply(bytes: &[u8], content: &ContentStore) -> Result<DispatchReply> {
    let mut reply: DispatchReply = from_canonical_cbor(bytes)?;
    if let Some(cid) = &reply.output_cid
        && content.size(cid)? <= MAX_INLINE_BYTES as u64
    {
        reply.output = content.get(cid)?;
    }
    Ok(reply)
}
