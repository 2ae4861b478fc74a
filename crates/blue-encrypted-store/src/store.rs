//! The store: one table.

use std::future::Future;
use std::sync::Arc;

use worldcompute_fault::{Category, Fault, Result};

use crate::{Id, KeyProvider, Kind, Partition, PartitionKey, StoreConfig};

/// One table, opened with one user's keys. Cheap to clone.
#[derive(Clone)]
pub struct Store;

impl Store {
    /// Opens the store, setting it up when there is none.
    ///
    /// # Errors
    /// `encryption_key_changed`, `encryption_key_missing`, `store_corrupt`, `state_contention` (another process has it).
    pub async fn open(_config: StoreConfig, _keys: Arc<dyn KeyProvider>) -> Result<Self> {
        Err(Fault::new(Category::InternalFailure, "hollow", "hollow"))
    }

    /// A handle on one partition, whether it holds anything or not.
    ///
    /// # Errors
    /// `invalid_id`.
    pub fn partition(&self, kind: Kind, id: &str) -> Result<Partition> {
        Ok(Partition {
            key: PartitionKey {
                kind,
                id: Id::parse(id)?,
            },
        })
    }
}

/// Where a record may be found. Not authenticated: load the partition before acting on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The partition that is said to hold it.
    pub partition: PartitionKey,
    /// The record's type.
    pub entity_type: String,
    /// The status it is said to have.
    pub status: String,
}

/// Questions across partitions, whose answers are hints only.
pub trait CrossPartition {
    /// The records of `kind` that are listed under `status`, the longest unchanged first.
    ///
    /// # Errors
    /// Failures of the engine.
    fn list(&self, kind: Kind, status: &str) -> impl Future<Output = Result<Vec<Hint>>> + Send;
}

impl CrossPartition for Store {
    async fn list(&self, _kind: Kind, _status: &str) -> Result<Vec<Hint>> {
        Ok(Vec::new())
    }
}
