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

use crate::keep::{keep, keep_all};
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
    let (mut here, mut elsewhere) = (vec![reply.trace.clone()], Vec::new());
    for cid in named(opened.receipt()) {
        if content.has(&cid)? {
            continue;
        }
        match travelled(&cid, asked, &reply)? {
            Some(bytes) => here.push(bytes.to_vec()),
            None => elsewhere.push(cid),
        }
    }
    keep_all(content, here).await?;
    for cid in elsewhere {
        let bytes = mesh.fetch(asked.donor, &cid, api::MAX_CONTENT_BYTES as u64);
        keep(content, bytes.await?).await?;
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

/// The bytes of this name that came along with the reply, if they did.
fn travelled<'a>(cid: &Cid, asked: &Asked, reply: &'a DispatchReply) -> Result<Option<&'a [u8]>> {
    if cid.matches(&reply.output) {
        return Ok(Some(&reply.output));
    }
    let inline = reply
        .outputs
        .iter()
        .find(|blob| blob.cid == *cid)
        .and_then(|blob| blob.inline.as_ref());
    match inline {
        Some(bytes) if cid.matches(bytes) => Ok(Some(bytes)),
        Some(_) => Err(refused(asked, &format!("the bytes of {cid} are others"))),
        None => Ok(None),
    }
}

fn refused(asked: &Asked, why: &str) -> Fault {
    let message = format!(
        "the receipt of {} for {} was refused: {why}",
        asked.donor, asked.lease
    );
    Fault::wc(WcCode::LedgerVerificationFailed, message)
}
