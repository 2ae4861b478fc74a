//! A partition as it was at one version.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use worldcompute_fault::Result;

use crate::audit::{Audit, AuditOutcome, Draft, Lane, Operation};
use crate::erasure::erased;
use crate::keyring::Keyring;
use crate::name::RecordId;
use crate::record::{Scope, VerifiedRow, stored};
use crate::{Entity, PartitionVersion, Stored};

/// Every live record of one partition, verified against its manifest. Payloads are decrypted when they are asked for, and
/// that is on record before they are handed out.
#[derive(Clone)]
pub struct Snapshot {
    scope: Arc<Scope>,
    keyring: Arc<Keyring>,
    audit: Arc<Audit>,
    version: PartitionVersion,
    records: BTreeMap<RecordId, Arc<VerifiedRow>>,
    uncommitted: Vec<String>,
}

impl fmt::Debug for Snapshot {
    /// Without any content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, version, .. } = self;
        write!(f, "Snapshot({} at version {version})", scope.key)
    }
}

impl Snapshot {
    pub(crate) fn new(
        scope: Arc<Scope>,
        keyring: Arc<Keyring>,
        audit: Arc<Audit>,
        version: u64,
        records: BTreeMap<RecordId, Arc<VerifiedRow>>,
        uncommitted: Vec<String>,
    ) -> Self {
        Self {
            scope,
            keyring,
            audit,
            version: PartitionVersion::new(version),
            records,
            uncommitted,
        }
    }

    /// The version to commit against.
    pub const fn version(&self) -> PartitionVersion {
        self.version
    }

    /// How many records there are, of all types.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The sort keys of rows that no manifest lists: left over from a commit that was interrupted, or put there by
    /// somebody else. They are ignored; the next commit sweeps those that this store wrote.
    pub fn uncommitted(&self) -> &[String] {
        &self.uncommitted
    }

    /// Whether it has a record of that type and id.
    pub(crate) fn holds(&self, entity_type: &str, id: &str) -> bool {
        let record = RecordId {
            entity_type: entity_type.to_owned(),
            id: id.to_owned(),
        };
        self.records.contains_key(&record)
    }

    /// The records of one type, oldest first.
    ///
    /// # Errors
    /// `commitment_mismatch`, `tag_mismatch`; `invalid_record` when a record does not have the fields of an `E`;
    /// `audit_unavailable`, `audit_chain_broken` when the decryption cannot be recorded; `partition_erased` since this process
    /// knows that the partition was erased.
    pub fn entities<E: Entity>(&self) -> Result<Vec<Stored<E>>> {
        let first = RecordId {
            entity_type: E::TYPE.to_owned(),
            id: String::new(),
        };
        let mut found: Vec<_> = self
            .records
            .range(first..)
            .take_while(|(record, _)| record.entity_type == E::TYPE)
            .map(|(_, row)| row)
            .collect();
        found.sort_by_key(|row| row.created_at);
        self.decrypt(&found)
    }

    /// The record of that type and id.
    ///
    /// # Errors
    /// As [`Snapshot::entities`].
    pub fn get<E: Entity>(&self, id: &str) -> Result<Option<Stored<E>>> {
        let record = RecordId {
            entity_type: E::TYPE.to_owned(),
            id: id.to_owned(),
        };
        let Some(row) = self.records.get(&record) else {
            return Ok(None);
        };
        Ok(self.decrypt(&[row])?.pop())
    }

    /// Where every record counts as read: puts that on record before the snapshot is handed out.
    pub(crate) async fn hand_out(&self) -> Result<()> {
        if !self.audit.is_strict() {
            return Ok(());
        }
        let rows: Vec<_> = self.records.values().collect();
        self.record(&rows, AuditOutcome::Success)?;
        self.audit.flush(Lane::of(&self.scope.key)).await
    }

    fn decrypt<E: Entity>(&self, rows: &[&Arc<VerifiedRow>]) -> Result<Vec<Stored<E>>> {
        if self.audit.has_ended(&self.scope.key) {
            return Err(erased(&self.scope.key, "meanwhile"));
        }
        let mut records = Vec::with_capacity(rows.len());
        for row in rows {
            match stored(&self.scope, &self.keyring, row) {
                Ok(record) => records.push(record),
                Err(fault) => {
                    self.audit.metrics().failed(&fault);
                    self.record(&[row], AuditOutcome::of(&fault))?;
                    return Err(fault);
                }
            }
        }
        if !self.audit.is_strict() {
            self.record(rows, AuditOutcome::Success)?;
        }
        Ok(records)
    }

    /// One event a data key.
    fn record(&self, rows: &[&Arc<VerifiedRow>], outcome: AuditOutcome) -> Result<()> {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for row in rows {
            let count = counts.entry(row.key_version).or_default();
            *count = count.saturating_add(1);
        }
        for (version, count) in counts {
            let draft = Draft::dek(Operation::Decrypt, &self.scope.key, version);
            let draft = draft.times(count).ended(outcome);
            self.audit.record(Lane::of(&self.scope.key), draft)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::keyring::{DataKey, Kept};
    use crate::keys::DekHandle;
    use crate::lab::{Lab, MemoryKey, Task, partition, put};
    use crate::metrics::tests::Tally;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_payload_that_does_not_open_is_counted() {
        let (lab, tally) = (Lab::new(), Tally::new());
        let keys = Arc::new(MemoryKey([1; 32]));
        let store = lab.try_store_with(tally.config(), keys).await.unwrap();
        let handle = partition(&store, "j1");
        put(&handle, &[("t1", "x")]).await;
        let mut snapshot = handle.load().await.unwrap().unwrap();
        let other = DekHandle::new(Zeroizing::new([9; 32]));
        let other = Arc::new(DataKey::new(1, other).unwrap());
        Arc::make_mut(&mut snapshot.keyring).replace(other, Kept::default());
        let fault = snapshot.get::<Task>("t1").err().unwrap();
        assert_eq!(fault.code(), "commitment_mismatch");
        let name = "blue.store.check.failed{code=commitment_mismatch}";
        assert_eq!(tally.of(name), 1);
    }
}
