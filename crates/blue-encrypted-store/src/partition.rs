//! One partition: load it whole, change it by batches.

use worldcompute_fault::{Category, Fault, Result};

use crate::{Batch, PartitionKey, Snapshot};

/// Counts the commits of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionVersion(pub(crate) u64);

impl PartitionVersion {
    /// Nothing was ever committed.
    pub const NONE: Self = Self(0);

    /// The number of commits.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A handle on one partition. Handles of the same partition share what they know of it.
#[derive(Clone, Debug)]
pub struct Partition {
    pub(crate) key: PartitionKey,
}

impl Partition {
    /// Which one.
    pub const fn key(&self) -> &PartitionKey {
        &self.key
    }

    /// Reads and verifies all of it; `None` when nothing was ever committed.
    ///
    /// # Errors
    /// `verification_failed` faults whose code names the check.
    pub async fn load(&self) -> Result<Option<Snapshot>> {
        Err(Fault::new(Category::InternalFailure, "hollow", "hollow"))
    }

    /// Makes all changes of `batch` or none, if the partition is still at `expected`.
    ///
    /// # Errors
    /// `state_contention` when somebody else committed first; `already_exists`, `record_not_found`.
    pub async fn commit(
        &self,
        _batch: Batch,
        _expected: PartitionVersion,
    ) -> Result<PartitionVersion> {
        Err(Fault::new(Category::InternalFailure, "hollow", "hollow"))
    }
}
