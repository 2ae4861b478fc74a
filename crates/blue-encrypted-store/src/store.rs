//! The store: one table.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use worldcompute_fault::Result;

use crate::anchor::Anchor;
use crate::config::{StoreConfig, StorePath};
use crate::embedded::{Engine, beside};
use crate::identity::{Opened, Opener};
use crate::keyring::Wrapping;
use crate::name::{Place, SortKey};
use crate::partition::Shared;
use crate::record::Scope;
use crate::sources::Sources;
use crate::table::Table;
use crate::task::blocking;
use crate::{Id, KeyProvider, Kind, Partition, PartitionKey};

/// One table, opened with one user's keys. Cheap to clone; the table is closed when the last clone, and the last
/// [`Partition`] of it, is dropped.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) table: Table,
    pub(crate) anchor: Arc<Anchor>,
    pub(crate) sources: Sources,
    keys: Arc<dyn KeyProvider>,
    opened: Opened,
    /// The partitions that somebody holds a handle on.
    partitions: Mutex<HashMap<PartitionKey, Weak<Shared>>>,
}

impl Inner {
    pub(crate) fn wrapping(&self) -> Wrapping<'_> {
        Wrapping {
            provider: &*self.keys,
            kek: &self.opened.kek,
            epoch: self.opened.epoch,
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.id())
    }
}

impl Store {
    /// Opens the store, setting it up when there is none. Needs a tokio runtime with its timers enabled.
    ///
    /// # Errors
    /// `encryption_key_changed` (it was set up with another key), `encryption_key_missing`, `encryption_key_malformed`,
    /// `insecure_permissions`, `store_of_another_owner`, `store_corrupt` (the file is damaged), `state_contention`
    /// (another process has it); `seal_mismatch`, `attributes_malformed`, `address_mismatch`, `manifest_mismatch` when
    /// the store's own row was changed, replaced or removed.
    pub async fn open(config: StoreConfig, keys: Arc<dyn KeyProvider>) -> Result<Self> {
        let path = config.path.clone();
        let anchor = config.anchor.clone();
        let (engine, anchor) = blocking(move || match path {
            StorePath::Memory => Ok((Engine::memory()?, Anchor::memory())),
            StorePath::File(path) => {
                let engine = Engine::file(&path)?;
                let anchor = anchor.unwrap_or_else(|| beside(&path, "anchor"));
                Ok((engine, Anchor::file(&anchor)?))
            }
        })
        .await?;
        Self::open_on(&engine, Arc::new(anchor), config, keys, Sources::system()).await
    }

    pub(crate) async fn open_on(
        engine: &Engine,
        anchor: Arc<Anchor>,
        config: StoreConfig,
        keys: Arc<dyn KeyProvider>,
        sources: Sources,
    ) -> Result<Self> {
        let config = StoreConfig {
            tenant: Id::parse(&config.tenant)?.to_string(),
            user: Id::parse(&config.user)?.to_string(),
            ..config
        };
        let table = Table::embedded(engine);
        table.ensure().await?;
        let opener = Opener {
            table: &table,
            anchor: anchor.clone(),
            keys: &*keys,
            config: &config,
        };
        let opened = opener.open(&sources).await?;
        Ok(Self(Arc::new(Inner {
            table,
            anchor,
            sources,
            keys,
            opened,
            partitions: Mutex::default(),
        })))
    }

    /// The store's id: made at its set-up, part of every key.
    pub fn id(&self) -> &str {
        &self.0.opened.store
    }

    /// Whether the keys of partitions of `kind` are to be had: for those who promise to write one. Reads nothing.
    ///
    /// # Errors
    /// Why not, as the first commit would say it.
    pub async fn check_keys(&self, kind: Kind) -> Result<()> {
        let checked = self.0.keys.check_kind(self.id(), kind).await;
        checked.map_err(|error| error.at(kind.as_str()))
    }

    /// A handle on one partition, whether it holds anything or not.
    ///
    /// # Errors
    /// `invalid_id`.
    pub fn partition(&self, kind: Kind, id: &str) -> Result<Partition> {
        let key = PartitionKey {
            kind,
            id: Id::parse(id)?,
        };
        let mut partitions = self
            .0
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = partitions.get(&key).and_then(Weak::upgrade) {
            return Ok(Partition(shared));
        }
        partitions.retain(|_, shared| shared.strong_count() > 0);
        let shared = Arc::new(Shared {
            store: self.0.clone(),
            scope: Arc::new(Scope {
                store: self.0.opened.store.clone(),
                key: key.clone(),
            }),
            open: tokio::sync::Mutex::default(),
        });
        partitions.insert(key, Arc::downgrade(&shared));
        Ok(Partition(shared))
    }
}

/// The most records that one status lists.
pub const MAX_HINTS: usize = 200_000;

/// Where a record may be found. Not authenticated: load the partition before acting on it.
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
        let found = self.0.table.by_status(status, MAX_HINTS).await?;
        Ok(found
            .iter()
            .filter_map(|(pk, sk)| hint(kind, pk, sk, status))
            .collect())
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
