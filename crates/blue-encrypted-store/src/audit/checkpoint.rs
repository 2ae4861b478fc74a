//! A statement of how far the audit has come, to be kept elsewhere.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use worldcompute_fault::Result;

use super::chain::Step;
use super::report::{ChainReport, LaneReport};
use super::{Audit, Lane};
use crate::Store;
use crate::anchor::Mark;
use crate::check::Check;
use crate::crypto::{hmac, lp, same};
use crate::name::time;

/// How far each lane had come at one time, under a MAC of the store's key. As JSON it may be kept anywhere: whoever puts
/// the table and its anchor back as they were before is found out by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditCheckpoint {
    /// The store's id.
    pub store: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The epoch of the key-encryption key that the MAC's key is derived from.
    pub kek_epoch: u64,
    /// Every lane, in their order.
    pub lanes: Vec<LaneHead>,
    /// HMAC-SHA256 of all of the above, as hex.
    pub mac: String,
}

/// How far one lane had come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneHead {
    /// Which lane.
    pub lane: u8,
    /// How many events it had.
    pub seq: u64,
    /// The hash of the last, as hex; that of the lane's beginning when there was none.
    pub event_hash: String,
}

impl AuditCheckpoint {
    fn covered(&self) -> Vec<u8> {
        let mut out = b"blue/v1/audit/checkpoint".to_vec();
        lp(&mut out, self.store.as_bytes());
        lp(&mut out, time(self.created_at).as_bytes());
        lp(&mut out, &self.kek_epoch.to_be_bytes());
        for head in &self.lanes {
            lp(&mut out, &[head.lane]);
            lp(&mut out, &head.seq.to_be_bytes());
            lp(&mut out, head.event_hash.as_bytes());
        }
        out
    }
}

impl Store {
    /// Writes what the audit holds back, verifies the end of every lane and states how far each has come.
    ///
    /// # Errors
    /// `audit_chain_broken`, `audit_unavailable`, failures of the table.
    pub async fn audit_checkpoint(&self) -> Result<AuditCheckpoint> {
        let audit = &self.0.audit;
        audit.flush_all().await?;
        let mut lanes = Vec::new();
        for lane in Lane::all() {
            let mark = audit.anchor.mark(&lane.pk());
            let head = audit.reader(lane).tail(mark.as_ref()).await?;
            let head = head.map_err(|broken| audit.broken(lane, broken))?;
            let Step { seq, hash } = head.into();
            lanes.push(LaneHead {
                lane: lane.0,
                seq,
                event_hash: hex::encode(hash),
            });
        }
        let mut checkpoint = AuditCheckpoint {
            store: self.id().to_owned(),
            created_at: audit.sources.tick(),
            kek_epoch: audit.signer.epoch,
            lanes,
            mac: String::new(),
        };
        checkpoint.mac = hex::encode(audit.checkpoint_mac(&checkpoint));
        Ok(checkpoint)
    }

    /// Whether every lane still leads over what `checkpoint` states. Only the events named there and the ends are read:
    /// [`Store::verify_chain`] reads all.
    ///
    /// # Errors
    /// `seal_mismatch` for a checkpoint that this store did not make; failures of the table.
    pub async fn verify_checkpoint(&self, checkpoint: &AuditCheckpoint) -> Result<ChainReport> {
        let audit = &self.0.audit;
        let mac = hex::encode(audit.checkpoint_mac(checkpoint));
        let is_every_lane = Lane::all()
            .map(|lane| lane.0)
            .eq(checkpoint.lanes.iter().map(|head| head.lane));
        if !same(mac.as_bytes(), checkpoint.mac.as_bytes()) || !is_every_lane {
            let why = "it was not made by this store, or changed since";
            return Err(Check::Seal.failed("the checkpoint", why));
        }
        let mut lanes = Vec::new();
        for (lane, head) in Lane::all().zip(&checkpoint.lanes) {
            let mark = (head.seq > 0).then(|| Mark::of_hex(head.seq, &head.event_hash));
            let end = audit.reader(lane).tail(mark.as_ref()).await?;
            lanes.push(audit.told(LaneReport {
                lane: lane.0,
                events: end.map_or(0, |end| end.seq),
                broken: end.err(),
            }));
        }
        Ok(ChainReport { lanes })
    }
}

impl Audit {
    fn checkpoint_mac(&self, checkpoint: &AuditCheckpoint) -> crate::crypto::Digest {
        hmac(&self.signer.checkpoint_key, &checkpoint.covered())
    }
}
