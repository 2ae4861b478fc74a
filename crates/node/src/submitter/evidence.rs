//! The evidence of a job that has ended: written once, whole or not at all.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use worldcompute_content::ContentStore;
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_ledger::receipt::SignedReceipt;
use worldcompute_proof::{Cid, SigningKey};
use worldcompute_scheduler::evidence::{self, Contents};
use worldcompute_scheduler::manifest::VerifiedManifest;
use worldcompute_scheduler::records::Records;

/// What a bundle is made of.
pub struct Conclusion {
    pub manifest: Arc<VerifiedManifest>,
    pub records: Arc<Records>,
    pub content: Arc<ContentStore>,
    pub key: SigningKey,
    pub root: PathBuf,
}

impl Conclusion {
    /// Writes the bundle, unless it is there already; `None` for a job some of whose tasks have no receipt.
    pub async fn write(self) -> Result<Option<PathBuf>> {
        let place = self.root.join(self.manifest.job_id().to_string());
        if place.exists() {
            return Ok(Some(place));
        }
        let receipts = self.records.receipts(self.manifest.job_id()).await?;
        if receipts.len() != self.manifest.manifest().array_count as usize {
            return Ok(None);
        }
        let written = tokio::task::spawn_blocking(move || self.write_with(&receipts)).await;
        written
            .map_err(|error| Fault::wc(WcCode::Internal, error.to_string()))?
            .map(Some)
    }

    fn write_with(&self, receipts: &[SignedReceipt]) -> Result<PathBuf> {
        let traces = traces(receipts)
            .iter()
            .map(|cid| self.content.get(cid))
            .collect::<Result<Vec<_>>>()?;
        let contents = Contents {
            manifest: &self.manifest,
            receipts,
            traces: &traces,
        };
        evidence::write(
            &self.root,
            contents,
            &mut |cid, out| self.copy(cid, out),
            &self.key,
        )
    }

    fn copy(&self, cid: &Cid, out: &mut dyn Write) -> Result<()> {
        out.write_all(&self.content.get(cid)?)
            .map_err(|error| Fault::io(format!("write {cid}"), &error))
    }
}

fn traces(receipts: &[SignedReceipt]) -> BTreeSet<Cid> {
    let decisions = receipts.iter().map(SignedReceipt::receipt);
    decisions
        .flat_map(|receipt| {
            [
                receipt.decision.trace_cid,
                receipt.submitter_decision.trace_cid,
            ]
        })
        .collect()
}
