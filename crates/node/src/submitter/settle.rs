//! What a donor's reply is worth: nothing, until its receipt has been compared with what was asked, the decisions it names
//! have been checked, and every byte it names is here.

use std::sync::Arc;

use worldcompute_content::ContentStore;
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_ledger::receipt::{ExecutorReceipt, Receipt};
use worldcompute_mesh::Mesh;
use worldcompute_mesh::wire::DispatchReply;
use worldcompute_proof::{Cid, PeerId};
use worldcompute_scheduler::LeaseId;
use worldcompute_scheduler::broker::Execution;
use worldcompute_scheduler::manifest::VerifiedManifest;

use crate::{api, decisions};

/// What was asked, and of whom.
#[derive(Clone)]
pub struct Asked {
    /// The lease under which the task was to run.
    pub lease: LeaseId,
    /// Who was asked.
    pub donor: PeerId,
    /// What the task is a part of.
    pub manifest: Arc<VerifiedManifest>,
}

/// Checks, fetches and keeps what the reply names.
///
/// # Errors
/// WC-009 for a receipt that is not the word of the donor that was asked, about what was asked.
pub async fn settle(
    asked: &Asked,
    reply: DispatchReply,
    content: &Arc<ContentStore>,
    mesh: &Mesh,
) -> Result<Execution> {
    let execution = Execution::verify(&reply.receipt, asked.lease, &asked.manifest)?;
    if execution.executor() != asked.donor {
        return Err(refused(asked, "another node signed it"));
    }
    let opened = ExecutorReceipt::open(&reply.receipt)?;
    check_decisions(asked, opened.receipt(), &reply.trace, content)?;
    keep(&reply.trace, content).await?;
    for cid in named(opened.receipt()) {
        if !content.has(&cid)? {
            keep(&bytes_of(&cid, asked, &reply, mesh).await?, content).await?;
        }
    }
    Ok(execution)
}

/// Both decisions that the receipt refers to must be here, signed by the right key, and allow.
fn check_decisions(
    asked: &Asked,
    receipt: &Receipt,
    trace: &[u8],
    content: &ContentStore,
) -> Result<()> {
    if decisions::allowed_by(trace, &asked.donor)? != receipt.decision {
        return Err(refused(asked, "the donor's decision is another"));
    }
    let own = content
        .get(&receipt.submitter_decision.trace_cid)
        .map_err(|_| refused(asked, "it names a decision that was never made here"))?;
    if decisions::allowed_by(&own, asked.manifest.submitter())? != receipt.submitter_decision {
        return Err(refused(asked, "this node's decision is another"));
    }
    Ok(())
}

fn named(receipt: &Receipt) -> Vec<Cid> {
    let outcome = &receipt.outcome;
    [outcome.stdout_cid, outcome.stderr_cid]
        .into_iter()
        .chain(outcome.outputs.iter().map(|output| output.cid))
        .collect()
}

/// Taken from the reply where they travelled along, else fetched from the donor.
async fn bytes_of(cid: &Cid, asked: &Asked, reply: &DispatchReply, mesh: &Mesh) -> Result<Vec<u8>> {
    if cid.matches(&reply.output) {
        return Ok(reply.output.clone());
    }
    let inline = reply
        .outputs
        .iter()
        .find(|blob| blob.cid == *cid)
        .and_then(|blob| blob.inline.as_ref());
    match inline {
        Some(bytes) if cid.matches(bytes) => Ok(bytes.to_vec()),
        Some(_) => Err(refused(asked, &format!("the bytes of {cid} are others"))),
        None => {
            mesh.fetch(asked.donor, cid, api::MAX_CONTENT_BYTES as u64)
                .await
        }
    }
}

async fn keep(bytes: &[u8], content: &Arc<ContentStore>) -> Result<()> {
    let (content, bytes) = (content.clone(), bytes.to_vec());
    let kept = tokio::task::spawn_blocking(move || content.put(&bytes)).await;
    kept.map_err(|error| Fault::wc(WcCode::Internal, error.to_string()))?
        .map(|_| ())
}

fn refused(asked: &Asked, why: &str) -> Fault {
    let message = format!(
        "the receipt of {} for {} was refused: {why}",
        asked.donor, asked.lease
    );
    Fault::wc(WcCode::LedgerVerificationFailed, message)
}
