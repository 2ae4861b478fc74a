//! Where the audit of one store ends and that of another goes on: a table that moves to another backend.

use worldcompute_fault::Result;

use super::{Audit, Audited, CryptoAuditEvent, Draft, Lane, Operation};
use crate::Store;
use crate::crypto::{Digest, hmac};

/// One end of a boundary, as the event on the other side names it.
struct Far<'a> {
    store: &'a str,
    lane: Lane,
    seq: u64,
    hash: Digest,
    mac: Digest,
}

impl Far<'_> {
    /// `chain#{store}#{lane:02}#{seq}#{hash}#{mac}`, in place of a key.
    fn draft(&self) -> Draft {
        let (hash, mac) = (hex::encode(self.hash), hex::encode(self.mac));
        let name = format!(
            "chain#{}#{:02}#{}#{hash}#{mac}",
            self.store, self.lane.0, self.seq
        );
        Draft::new(Operation::Boundary, name)
    }
}

impl Store {
    /// Records in both stores that this one goes on where `old` ends, lane by lane: in `old` the beginning of this store's
    /// lane, and here the end that `old` has then, each with the MAC of its own side.
    ///
    /// # Errors
    /// As [`Store::close`]. What was recorded before a failure stays; repeating it adds a later boundary.
    pub async fn continue_audit_of(&self, old: &Self) -> Result<()> {
        let (old, new) = (&old.0.audit, &self.0.audit);
        for lane in Lane::all() {
            let hash = lane.genesis(&new.signer.store);
            let beginning = Far {
                store: &new.signer.store,
                lane,
                seq: 0,
                hash,
                mac: hmac(&new.signer.event_key, &hash),
            };
            let end = old.append(lane, beginning.draft()).await?;
            let end = Far {
                store: &old.signer.store,
                lane,
                seq: end.seq,
                hash: end.event_hash,
                mac: end.event_mac,
            };
            new.append(lane, end.draft()).await?;
        }
        Ok(())
    }
}

impl Audit {
    /// Writes one event and gives it back as it is in the table.
    pub(crate) async fn append(&self, lane: Lane, draft: Draft) -> Result<CryptoAuditEvent> {
        let done = self
            .transact(lane, &lane.pk(), Vec::new(), vec![draft])
            .await?;
        let Audited::Done(Some(mark)) = done else {
            return Err(super::lane::overtaken(lane));
        };
        let seq = mark.version();
        self.remember(lane, mark).await?;
        let event = self.reader(lane).event(seq).await?;
        event.map_err(|broken| self.broken(lane, broken))
    }
}
