//! What a donor's reply is worth: nothing, until its receipt has been compared with what was asked, the decisions it names
//! have been checked, and every byte it names is here.

use std::sync::Arc;

use worldcompute_content::{ContentStore, Held};
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_ledger::receipt::{ExecutorReceipt, Outcome, Receipt};
use worldcompute_mesh::Mesh;
use worldcompute_mesh::wire::DispatchReply;
use worldcompute_proof::{Cid, PeerId};
use worldcompute_scheduler::LeaseId;
use worldcompute_scheduler::broker::Execution;
use worldcompute_scheduler::manifest::VerifiedManifest;

use crate::keep::{keep, keep_all};
use crate::{api, decisions, needed};

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

/// A receipt that holds, as far as that shows without the results. Only [`verify`] makes one.
#[derive(Debug)]
pub struct Verified {
    execution: Execution,
    receipt: Receipt,
}

/// Checks the receipt of a reply. A donor that was told that the way to it is `inspected` has to say so.
///
/// # Errors
/// WC-009 for a receipt that is not the word of the donor that was asked, about what was asked.
pub fn verify(
    asked: &Asked,
    reply: &DispatchReply,
    inspected: bool,
    content: &ContentStore,
) -> Result<Verified> {
    let execution = Execution::verify(&reply.receipt, asked.lease, &asked.manifest)?;
    if execution.executor() != asked.donor {
        return Err(refused(asked, "another node signed it"));
    }
    let opened = ExecutorReceipt::open(&reply.receipt)?;
    if inspected && !opened.receipt().inspected {
        return Err(refused(asked, "it hides that TLS was opened on the way"));
    }
    let receipt = opened.receipt().clone();
    check_decisions(asked, &receipt, &reply.trace, content)?;
    Ok(Verified { execution, receipt })
}

/// Fetches and keeps what the receipt names, and holds it.
///
/// # Errors
/// WC-009 for bytes that are not those of the receipt; those of the network, where they cannot be had.
pub async fn collect(
    asked: &Asked,
    verified: Verified,
    reply: DispatchReply,
    content: &Arc<ContentStore>,
    mesh: &Mesh,
) -> Result<(Execution, Vec<Held>)> {
    let Verified { execution, receipt } = verified;
    let held = needed::hold(content, needed::of_receipt(&receipt));
    let (mut here, mut elsewhere) = (vec![reply.trace.clone()], Vec::new());
    for (cid, most) in named(&receipt) {
        if content.has(&cid)? {
            continue;
        }
        match travelled(&cid, asked, &reply)? {
            Some(bytes) => here.push(bytes.to_vec()),
            None => elsewhere.push((cid, most)),
        }
    }
    keep_all(content, here).await?;
    for (cid, most) in elsewhere {
        let most = most.min(api::MAX_CONTENT_BYTES as u64);
        keep(content, mesh.fetch(asked.donor, &cid, most).await?).await?;
    }
    match wrong_size(&receipt.outcome, receipt.limits.output_bytes, content)? {
        None => Ok((execution, held)),
        Some(why) => Err(refused(asked, &why)),
    }
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

/// The results, each with the most bytes that it can have.
fn named(receipt: &Receipt) -> Vec<(Cid, u64)> {
    let outcome = &receipt.outcome;
    let printed = [outcome.stdout_cid, outcome.stderr_cid].into_iter();
    let printed = printed.map(|cid| (cid, receipt.limits.output_bytes));
    let files = outcome.outputs.iter();
    printed
        .chain(files.map(|output| (output.cid, output.size)))
        .collect()
}

/// What the donor says of its results against what they are: countersigned, a lie would be this node's as well, and no
/// evidence could be made of it.
fn wrong_size(outcome: &Outcome, most: u64, content: &ContentStore) -> Result<Option<String>> {
    let printed = [outcome.stdout_cid, outcome.stderr_cid];
    let mut total = 0_u64;
    for cid in printed {
        total = total.saturating_add(content.size(&cid)?);
    }
    for output in &outcome.outputs {
        let size = content.size(&output.cid)?;
        if size != output.size {
            let (name, told) = (&output.name, output.size);
            return Ok(Some(format!("{name:?} has {size} bytes, not {told}")));
        }
        total = total.saturating_add(size);
    }
    Ok((total > most).then(|| format!("its results have {total} bytes, {most} is the most")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use worldcompute_content::Limits;
    use worldcompute_ledger::receipt::{Output, Status};

    /// Results that were kept, and what a donor says of them.
    fn told(size: u64, most: u64) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let content = ContentStore::open(dir.path().join("content"), Limits::default()).unwrap();
        let outcome = Outcome {
            status: Status::Succeeded,
            exit_code: Some(0),
            stdout_cid: content.put(b"12345").unwrap(),
            stderr_cid: content.put(b"").unwrap(),
            outputs: vec![Output {
                name: "result".to_owned(),
                cid: content.put(b"1234567").unwrap(),
                size,
            }],
            fuel_used: 1,
            wall_ms: 1,
            error: None,
        };
        wrong_size(&outcome, most, &content).unwrap()
    }

    #[test]
    fn results_are_as_large_as_the_receipt_says_and_within_the_limit() {
        assert_eq!(told(7, 12), None);
        assert!(told(6, 12).unwrap().contains("7 bytes, not 6"));
        assert!(told(8, 12).unwrap().contains("7 bytes, not 8"));
        assert!(told(7, 11).unwrap().contains("12 bytes, 11 is the most"));
    }
}
