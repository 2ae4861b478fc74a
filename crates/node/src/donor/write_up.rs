//! From what a run did to what its submitter gets: the receipt, the reply, and the copy that answers a second asking.

use std::mem::take;
use std::sync::Arc;

use gait::Decision;
use jiff::Timestamp;
use serde_bytes::ByteBuf;
use worldcompute_content::{ContentStore, Held};
use worldcompute_fault::Result;
use worldcompute_ledger::receipt::{self, Receipt, Status, bounded_error};
use worldcompute_mesh::wire::{DispatchReply, DispatchRequest, DispatchStatus, OutputBlob};
use worldcompute_proof::{Cid, PeerId, SigningKey, canonical_cbor, from_canonical_cbor};
use worldcompute_scheduler::evidence::told_profile;

use super::ended::Ended;
use super::guard::Task;
use crate::keep::{Kept, keep, keep_all};
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
    /// Keeps the results and holds them, signs the receipt, and makes the reply.
    pub async fn write_up(
        self,
        mut outcome: Ended,
        key: &SigningKey,
        content: &Arc<ContentStore>,
    ) -> Result<(DispatchReply, Vec<Held>)> {
        let files = take(&mut outcome.outputs).into_iter();
        let (names, files): (Vec<_>, Vec<_>) = files.map(|file| (file.name, file.bytes)).unzip();
        let (stdout, stderr, files) = tokio::try_join!(
            keep(content, take(&mut outcome.stdout)),
            keep(content, take(&mut outcome.stderr)),
            keep_all(content, files),
        )?;
        let outputs = names.iter().zip(&files).map(output).collect();
        let receipt = self.receipt(&outcome, stdout.cid, stderr.cid, outputs)?;
        let signed = receipt.sign(key)?;
        let mut blobs = Blobs::default();
        blobs.held.push(stdout.held);
        blobs.add(STDERR.to_owned(), stderr);
        for (name, file) in names.into_iter().zip(files) {
            blobs.add(name, file);
        }
        let reply = DispatchReply {
            task_id: self.request.task_id.clone(),
            status: status(outcome.status),
            output_cid: Some(stdout.cid),
            output: if stdout.bytes.len() <= MAX_INLINE_BYTES {
                stdout.bytes
            } else {
                Vec::new()
            },
            duration_ms: outcome.wall_ms,
            error: outcome.error.as_deref().map(bounded_error),
            receipt: signed.bytes().to_vec(),
            trace: self.decision.trace().bytes().to_vec(),
            outputs: blobs.blobs,
        };
        Ok((reply, blobs.held))
    }

    fn receipt(
        &self,
        outcome: &Ended,
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
            manifest_cid: *self.task.origin.manifest.cid(),
            workload_cid: run.workload,
            request_digest: receipts::request_digest(run)?,
            stdin: run.stdin,
            inputs: receipts::inputs(run),
            limits: receipts::limits(run),
            profile: told_profile(run.profile),
            machine: outcome.machine,
            executor: *self.executor,
            submitter: run.submitter,
            sequence: self.exit,
            decision: decisions::reference(self.decision),
            submitter_decision: self.task.origin.submission.reference(),
            outcome: receipt::Outcome {
                status: outcome.status,
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
            inspected: self.request.inspected,
        })
    }
}

/// Results that travel in the reply, within the limits of a frame.
#[derive(Default)]
struct Blobs {
    blobs: Vec<OutputBlob>,
    inline: usize,
    held: Vec<Held>,
}

impl Blobs {
    fn add(&mut self, name: String, Kept { cid, bytes, held }: Kept) {
        let size = bytes.len();
        self.held.push(held);
        let fits = size <= MAX_INLINE_BYTES && self.inline + size <= MAX_INLINE_TOTAL;
        self.inline += if fits { size } else { 0 };
        let inline = fits.then(|| ByteBuf::from(bytes));
        self.blobs.push(OutputBlob {
            name,
            cid,
            size: size as u64,
            inline,
        });
    }
}

fn output((name, file): (&String, &Kept)) -> receipt::Output {
    receipt::Output {
        name: name.clone(),
        cid: file.cid,
        size: file.bytes.len() as u64,
    }
}

const fn status(status: Status) -> DispatchStatus {
    match status {
        Status::Succeeded => DispatchStatus::Succeeded,
        Status::TimedOut => DispatchStatus::Timeout,
        Status::Cancelled => DispatchStatus::Preempted,
        _ => DispatchStatus::Failed,
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
