//! Lists across partitions: hints, and what is true of them.

use std::fmt;
use std::future::Future;

use worldcompute_fault::{Category, Fault, Result};

use crate::name::{Place, SortKey};
use crate::verify::history::History;
use crate::{Id, Kind, PartitionKey, Snapshot, Store};

/// The most records that one status lists.
pub const MAX_HINTS: usize = 200_000;

/// Where a record may be found. Not authenticated: [`Store::confirm`] it before acting on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The partition that is said to hold it.
    pub partition: PartitionKey,
    /// The record's type.
    pub entity_type: String,
    /// The record's id, empty for [`crate::META`].
    pub id: String,
    /// The status it is said to have.
    pub status: String,
}

/// Questions across partitions, whose answers are hints only.
pub trait CrossPartition {
    /// The records in partitions of `kind` that are listed under `status` ([`crate::Entity::listed_as`]), the longest
    /// unchanged first.
    ///
    /// # Errors
    /// `too_many_rows` when more than [`MAX_HINTS`] records of all kinds are listed under it; failures of the engine.
    fn list(&self, kind: Kind, status: &str) -> impl Future<Output = Result<Vec<Hint>>> + Send;
}

impl CrossPartition for Store {
    async fn list(&self, kind: Kind, status: &str) -> Result<Vec<Hint>> {
        let found = self.0.table.by_status(status, MAX_HINTS);
        let found = self.0.metrics.of("list", found).await?;
        Ok(found
            .iter()
            .filter_map(|(pk, sk)| hint(kind, pk, sk, status))
            .collect())
    }
}

impl Store {
    /// The partition that a hint leads to, if it holds the record that the hint names. Which status that has is for the
    /// record to say: the index may be behind.
    ///
    /// `None` when it does not, when the partition was erased, and when what is there is a stranger's: rows that do not
    /// verify, in a partition that neither the anchor nor the audit has ever heard of. To tell that, the audit is read:
    /// [`Store::confirming`] for a whole list reads it once.
    ///
    /// # Errors
    /// Those of [`crate::Partition::load`], for every other partition that does not verify; `audit_chain_broken` when the
    /// audit cannot tell.
    pub async fn confirm(&self, hint: &Hint) -> Result<Option<Snapshot>> {
        // In a box, so that the futures of those who list stay of a depth that the compiler takes.
        Box::pin(self.confirming().confirm(hint)).await
    }

    /// The same for the hints of one list, which was made before.
    pub const fn confirming(&self) -> Confirming<'_> {
        Confirming {
            store: self,
            history: None,
        }
    }
}

/// Who confirms the hints of one list.
pub struct Confirming<'a> {
    store: &'a Store,
    /// What the audit told when the first partition did not verify. Whatever the list names and was ever committed is in it.
    history: Option<History>,
}

impl Confirming<'_> {
    /// What [`Store::confirm`] says.
    ///
    /// # Errors
    /// As [`Store::confirm`].
    pub async fn confirm(&mut self, hint: &Hint) -> Result<Option<Snapshot>> {
        match self.store.handle(hint.partition.clone()).load().await {
            Ok(found) => Ok(found.filter(|snapshot| snapshot.holds(&hint.entity_type, &hint.id))),
            Err(fault) if fault.code() == "partition_erased" => Ok(None),
            Err(fault) if fault.category() == Category::VerificationFailed => {
                Box::pin(self.refuse_known(&hint.partition, fault)).await?;
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    /// The fault of a partition that anything but the table knows.
    async fn refuse_known(&mut self, key: &PartitionKey, fault: Fault) -> Result<()> {
        let name = key.to_string();
        let is_anchored = self.store.0.anchor.mark(&name).is_some();
        if is_anchored || self.history().await?.tells_of(&name) {
            return Err(fault);
        }
        tracing::warn!(
            partition = name,
            code = fault.code(),
            "rows of a stranger are passed over"
        );
        Ok(())
    }

    async fn history(&mut self) -> Result<&History> {
        let history = match self.history.take() {
            Some(history) => history,
            None => {
                let (history, audit) = History::read(self.store).await?;
                audit.check()?;
                history
            }
        };
        Ok(self.history.insert(history))
    }
}

impl fmt::Debug for Confirming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Confirming({:?})", self.store)
    }
}

/// `None` for partitions of other kinds, and for keys that this store does not write.
fn hint(kind: Kind, pk: &str, sk: &str, status: &str) -> Option<Hint> {
    let id = pk.strip_prefix(kind.as_str())?.strip_prefix('#')?;
    let Some(SortKey::Record(Place { record, .. })) = SortKey::parse(sk) else {
        return None;
    };
    Some(Hint {
        partition: PartitionKey {
            kind,
            id: Id::parse(id).ok()?,
        },
        entity_type: record.entity_type,
        id: record.id,
        status: status.to_owned(),
    })
}
