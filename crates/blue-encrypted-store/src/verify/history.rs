//! What the audit says of partitions and epochs: how far they have come, and which have ended.
//!
//! Every commit and every rotation of a data key is one event in the transaction that makes it, so a partition's version is
//! the number of these events. A partition that is put back, alone, contradicts its lane; so does the store's own row. A
//! partition that came out of another store begins anew here: its import is its first commit, and on record.

use std::collections::{HashMap, HashSet};

use worldcompute_fault::Result;

use crate::audit::{AuditOutcome, ChainReport, CryptoAuditEvent, Lane, Operation};
use crate::keyring::Epochs;
use crate::reader::Stand;
use crate::{PartitionKey, Store};

use super::{Finding, Problem};

/// The code of a partition with versions that no event tells of.
const UNRECORDED: &str = "commits_not_on_record";
const ROLLED_BACK: &str = "version_rolled_back";

/// What the events of all lanes come to.
pub(crate) struct History {
    versions: HashMap<String, u64>,
    erased: HashSet<String>,
    /// Those that were begun and retired on record.
    pub(super) epochs: Epochs,
}

impl History {
    /// What the audit tells now, and whether it is whole.
    ///
    /// # Errors
    /// Failures of the table.
    pub(crate) async fn read(store: &Store) -> Result<(Self, ChainReport)> {
        let mut history = Self::new();
        let mut see = |_: Lane, event: &CryptoAuditEvent| history.see(event);
        let report = store.walk_chains(&mut see).await?;
        Ok((history, report))
    }

    fn new() -> Self {
        Self {
            versions: HashMap::new(),
            erased: HashSet::new(),
            epochs: Epochs::FIRST,
        }
    }

    fn see(&mut self, event: &CryptoAuditEvent) {
        if event.outcome != AuditOutcome::Success {
            return;
        }
        match event.key_id.split_once('#') {
            Some(("dek", key)) => self.see_dek(event.operation, key),
            Some(("kek", epoch)) => self.see_kek(event.operation, epoch.parse().unwrap_or(0)),
            _ => {}
        }
    }

    /// `key` is `{kind}#{id}#{version}`, or `{kind}#{id}` for all keys of a partition.
    fn see_dek(&mut self, operation: Operation, key: &str) {
        let with_version = key.matches('#').count() == 2;
        match (operation, key.rsplit_once('#')) {
            (Operation::Encrypt | Operation::Rotate, Some((pk, _))) if with_version => {
                let version = self.versions.entry(pk.to_owned()).or_default();
                *version = version.saturating_add(1);
            }
            (Operation::Erase, _) if !with_version => {
                self.erased.insert(key.to_owned());
            }
            _ => {}
        }
    }

    fn see_kek(&mut self, operation: Operation, epoch: u64) {
        let Epochs { current, floor } = &mut self.epochs;
        match operation {
            Operation::Rotate => *current = epoch.max(*current),
            Operation::Erase => *floor = epoch.saturating_add(1).max(*floor),
            _ => {}
        }
    }

    /// The partitions that it tells of.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.versions.keys().chain(&self.erased)
    }

    /// Whether a partition of that name was ever committed to, or erased.
    pub(crate) fn tells_of(&self, name: &str) -> bool {
        self.versions.contains_key(name) || self.erased.contains(name)
    }

    /// What is wrong with a partition that was found to stand so after this was read.
    pub(crate) fn contradiction(&self, key: &PartitionKey, stand: Stand) -> Option<Finding> {
        let name = key.to_string();
        let problem = match stand {
            Stand::At(_) if self.erased.contains(&name) => Problem::RolledBack,
            Stand::At(0) if self.version(&name) > 0 => Problem::Missing,
            Stand::At(version) if version < self.version(&name) => Problem::RolledBack,
            _ => return None,
        };
        Some(Finding::of(&name, None, problem, ROLLED_BACK))
    }

    /// Whether a partition has come further than this tells: so it did before it was read, or nothing was recorded.
    pub(super) fn is_behind(&self, key: &PartitionKey, stand: Stand) -> bool {
        let version = self.version(&key.to_string());
        matches!(stand, Stand::At(found) if found > version)
    }

    /// That of a partition with commits that no event tells of.
    pub(super) fn unrecorded(key: &PartitionKey) -> Finding {
        Finding::of(&key.to_string(), None, Problem::Unrecorded, UNRECORDED)
    }

    fn version(&self, name: &str) -> u64 {
        self.versions.get(name).copied().unwrap_or_default()
    }
}
