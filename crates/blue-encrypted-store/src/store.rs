//! The store: one table.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
#[cfg(any(feature = "embedded", test))]
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use tokio::time::Instant;
use worldcompute_fault::{Category, Fault, Result};

use crate::anchor::Anchor;
use crate::audit::{Audit, AuditParts, Recorded, Signer};
use crate::backend::Backend;
use crate::check::Check;
#[cfg(any(feature = "embedded", feature = "aws", test))]
use crate::client;
use crate::config::{Limits, StoreConfig, StorePath};
use crate::counted::Counted;
#[cfg(any(feature = "embedded", test))]
use crate::embedded::{self, Engine};
use crate::flight::Flight;
use crate::identity::{self, Opened, Opener, StoreRow};
use crate::kek::{Keks, OWN};
use crate::keyring::Wrapping;
use crate::keys::KekContext;
use crate::manifest::prefix;
use crate::metrics::{Metrics, SCOPE};
use crate::name::Kinds;
use crate::partition::Shared;
use crate::record::Scope;
use crate::row::Row;
use crate::sources::Sources;
use crate::table::Table;
use crate::task::blocking;
use crate::{Id, KeyProvider, Kind, Partition, PartitionKey};

/// One table, opened with one user's keys. Cheap to clone; the table is closed when the last clone, the last
/// [`Partition`] of it and the last [`crate::Snapshot`], whose decryptions are recorded there, are dropped.
/// [`Store::close`] before that, lest the record of the last reads is lost.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) table: Table,
    pub(crate) anchor: Arc<Anchor>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) keks: Keks,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    /// The store's own row as it was last read.
    row: Mutex<KnownRow>,
    /// For how long it is believed: as long as a key is used.
    row_lifetime: Duration,
    /// Those who wait for it to be read again.
    learning: Flight,
    /// The partitions that somebody holds a handle on.
    partitions: Mutex<HashMap<PartitionKey, Weak<Shared>>>,
    pub(crate) kinds: Kinds,
}

struct KnownRow {
    row: StoreRow,
    read_at: Instant,
}

impl KnownRow {
    fn now(row: StoreRow) -> Self {
        let read_at = Instant::now();
        Self { row, read_at }
    }
}

impl Inner {
    pub(crate) fn wrapping(&self) -> Wrapping<'_> {
        let row = self.row();
        Wrapping {
            keks: &self.keks,
            epochs: row.epochs,
            row: prefix(&row.seal),
        }
    }

    /// Its own row, as this process knows it.
    pub(crate) fn row(&self) -> StoreRow {
        let known = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        known.row.clone()
    }

    /// Takes `new` for its own row, unless it knows a later one: of two who ask at a time, the first may be answered last.
    pub(crate) fn set_row(&self, new: StoreRow) {
        self.keks.retire(new.epochs.floor);
        let mut known = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        if new.epochs.reach(known.row.epochs) {
            *known = KnownRow::now(new);
        }
    }

    /// Reads the store's row again when it was last read as long ago as a key lives: nobody uses an epoch for longer that
    /// somebody else has retired.
    pub(crate) async fn learn(&self) -> Result<()> {
        match self.is_informed() {
            true => Ok(()),
            false => self.learn_anew().await,
        }
    }

    /// Reads the store's row again, or waits for who is reading it. Not for those who need to know what it is from now on.
    pub(crate) async fn learn_anew(&self) -> Result<()> {
        let refresh = Box::pin(async { self.refresh().await.map(drop) });
        self.learning.join(refresh).await
    }

    /// The same for those who have seen that something has changed: who began to read it before is not waited for.
    pub(crate) async fn learn_from_now_on(&self) -> Result<()> {
        let refresh = Box::pin(async { self.refresh().await.map(drop) });
        self.learning.join_next(refresh).await
    }

    fn is_informed(&self) -> bool {
        let known = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        known.read_at.elapsed() < self.row_lifetime
    }

    /// Whether this process may still use the store's keys: its provider has been asked lately, and did not refuse.
    pub(crate) async fn check_lease(&self) -> Result<()> {
        self.keks.get(self.row().epochs.current).await.map(drop)
    }

    pub(crate) fn id(&self) -> &str {
        &self.keks.owner.store
    }

    /// What is wrong with the store's own row, if anything is.
    ///
    /// # Errors
    /// Those of the provider of keys.
    pub(crate) async fn check_own_row(&self, row: &Row) -> Result<Option<Check>> {
        let known = self.row();
        let later = |found: StoreRow| found.epochs != known.epochs;
        if StoreRow::read(row).is_ok_and(later)
            && let Err(fault) = self.learn_from_now_on().await
        {
            return match fault.category() {
                Category::VerificationFailed => Ok(Some(Check::Seal)),
                _ => Err(fault),
            };
        }
        let kek = self.keks.get(self.row().epochs.current).await?;
        Ok(identity::check(row, self.id(), &kek).err())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.id())
    }
}

impl Store {
    /// Opens the store. One in the embedded engine is set up when there is none; every other has to be there
    /// ([`Store::set_up`]), unless [`StoreConfig::must_exist`] says otherwise. Needs a tokio runtime with its timers enabled.
    ///
    /// # Errors
    /// `encryption_key_changed` (it was set up with another key), `encryption_key_missing`, `encryption_key_malformed`,
    /// `insecure_permissions`, `store_of_another_owner`, `store_corrupt` (the file is damaged), `state_contention`
    /// (another process has it); `audit_chain_broken` (the audit is not what it was); `seal_mismatch`, `attributes_malformed`, `address_mismatch`, `manifest_mismatch` when
    /// the store's own row was changed, replaced or removed.
    ///
    /// `invalid_table_name`, `keys_of_another_realm` (a key file and AWS, or the reverse), `another_store`
    /// ([`StoreConfig::store_id`]; nothing is made then), `another_table` (the anchor knows a store, and its table is not
    /// there), `encryption_key_unconfirmed` (not the key that the store's row names, and no anchor that says whether the
    /// row is as it was written), `table_not_found`, `table_malformed`, `store_not_set_up`; `backend_not_built` without
    /// the feature `aws`; `region_missing`, `credentials_missing`, `credentials_refused`, `access_denied`,
    /// `endpoint_not_aws`; `store_unreachable`, `store_throttled`, `store_engine_failed`, `store_answer_malformed` from
    /// here on whenever the table is asked.
    pub async fn open(config: StoreConfig, keys: Arc<dyn KeyProvider>) -> Result<Self> {
        let set_up = matches!(config.backend, Backend::Embedded(_)) && !config.must_exist;
        Self::start(config, keys, set_up).await
    }

    /// Opens the store, and before that makes what there is not: the table, the store's own row and id, the master key.
    /// Of several that do so at once, one does and all open the same store.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn set_up(config: StoreConfig, keys: Arc<dyn KeyProvider>) -> Result<Self> {
        Self::start(config, keys, true).await
    }

    async fn start(
        mut config: StoreConfig,
        keys: Arc<dyn KeyProvider>,
        set_up: bool,
    ) -> Result<Self> {
        let expected = config.store_id.clone();
        config.must_exist |= expected.is_some();
        let set_up = set_up && expected.is_none();
        // In a box, so that the futures of those who open stay of a depth that the compiler takes.
        let opened = Box::pin(Self::connected(config, keys, set_up)).await;
        opened.map_err(|fault| match (expected, fault.code()) {
            (Some(expected), "table_not_found" | "store_not_set_up") => no_store(&expected),
            _ => fault,
        })
    }

    async fn connected(
        config: StoreConfig,
        keys: Arc<dyn KeyProvider>,
        set_up: bool,
    ) -> Result<Self> {
        config.backend.check_keys(keys.realm())?;
        config.check_table()?;
        let (client, anchor) = connect(&config).await?;
        let ground = Ground {
            table: Table::new(client, &config.table),
            anchor: Arc::new(anchor),
            set_up,
        };
        Self::open_on(ground, config, keys, Sources::system()).await
    }

    pub(crate) async fn open_on(
        ground: Ground,
        config: StoreConfig,
        keys: Arc<dyn KeyProvider>,
        sources: Sources,
    ) -> Result<Self> {
        let meter = config.meter.clone();
        let meter = meter.unwrap_or_else(|| opentelemetry::global::meter(SCOPE));
        let metrics = Metrics::new(&meter);
        let ground = Ground {
            table: ground.table.counted_by(&metrics),
            ..ground
        };
        let keys = Arc::new(Counted {
            keys,
            metrics: metrics.clone(),
        });
        let opening = Self::identified(ground, config, keys, sources, metrics.clone());
        // In a box, as those who open.
        let opened = Box::pin(opening).await;
        opened.inspect_err(|fault| metrics.failed(fault))
    }

    async fn identified(
        ground: Ground,
        config: StoreConfig,
        keys: Arc<dyn KeyProvider>,
        sources: Sources,
        metrics: Metrics,
    ) -> Result<Self> {
        let Ground {
            table,
            anchor,
            set_up,
        } = ground;
        let config = StoreConfig {
            tenant: Id::parse(&config.tenant)?.to_string(),
            user: Id::parse(&config.user)?.to_string(),
            ..config
        };
        match anchor.identity() {
            Some(known) => has_table(&table, &known.store, &config.table).await?,
            None if set_up => table.ensure().await?,
            None => table.check().await?,
        }
        let opener = Opener {
            table: &table,
            anchor: anchor.clone(),
            keys: &*keys,
            config: &config,
            set_up,
        };
        let Opened { row, kek, own } = opener.open(&sources).await?;
        let sources = Arc::new(sources);
        let principal = principal(&config)?;
        let audit = Audit::open(AuditParts {
            table: table.clone(),
            anchor: anchor.clone(),
            sources: sources.clone(),
            signer: Signer::new(&row.store, principal, &own, OWN)?,
            habits: config.habits,
            metrics: metrics.clone(),
        })
        .await?;
        audit.record_opening(row.epochs.current)?;
        let keys = Recorded {
            keys,
            audit: audit.clone(),
        };
        let owner = KekContext::of(&row.store, &config.tenant, &config.user);
        let keks = Keks::new(Arc::new(keys), owner, config.key_lifetime);
        keks.keep(row.epochs.current, kek)?;
        keks.keep(OWN, own)?;
        Ok(Self(Arc::new(Inner {
            table,
            anchor,
            sources,
            audit,
            keks,
            limits: config.limits(),
            metrics,
            row: Mutex::new(KnownRow::now(row)),
            row_lifetime: config.key_lifetime.max_age,
            learning: Flight::default(),
            partitions: Mutex::default(),
            kinds: Kinds::default(),
        })))
    }

    /// Deletes the table in the file at `path` and all that is remembered of it, for good. Whoever has it open keeps it.
    ///
    /// # Errors
    /// `state_contention` when somebody has it open; failures of the disk. Repeating it goes on where it broke off.
    #[cfg(any(feature = "embedded", test))]
    pub async fn discard(path: PathBuf) -> Result<()> {
        blocking(move || embedded::discard(&path)).await
    }

    /// The store's id: made at its set-up, part of every key.
    pub fn id(&self) -> &str {
        self.0.id()
    }

    /// Whether anything outside of the table knew this store when it was opened ([`StoreConfig::anchor`]). What nothing knew
    /// is measured by itself alone: a table that was put back as a whole is as sound as it was then.
    pub fn is_anchored(&self) -> bool {
        self.0.anchor.was_known()
    }

    /// Writes what the audit still holds back. To be called before the last handle is dropped; the others go on working.
    ///
    /// # Errors
    /// `audit_unavailable`, `audit_chain_broken`.
    pub async fn close(self) -> Result<()> {
        self.0.audit.flush_all().await
    }

    /// Whether the keys of partitions of `kind` are to be had: for those who promise to write one. Reads nothing.
    ///
    /// # Errors
    /// Why not, as the first commit would say it.
    pub async fn check_keys(&self, kind: Kind) -> Result<()> {
        let checked = self.0.keks.provider.check_kind(self.id(), kind).await;
        checked.map_err(|error| error.at(kind.as_str()))
    }

    /// A handle on one partition, whether it holds anything or not.
    ///
    /// # Errors
    /// `invalid_id`.
    pub fn partition(&self, kind: Kind, id: &str) -> Result<Partition> {
        let id = Id::parse(id)?;
        Ok(self.handle(PartitionKey { kind, id }))
    }

    /// The same by its name, `{kind}#{id}`, whether or not this program knows the kind.
    ///
    /// # Errors
    /// `invalid_id`, also for the audit's.
    pub fn partition_named(&self, name: &str) -> Result<Partition> {
        let key = self.0.kinds.partition_of_records(name)?;
        Ok(self.handle(key))
    }

    pub(crate) fn handle(&self, key: PartitionKey) -> Partition {
        let mut partitions = self
            .0
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = partitions.get(&key).and_then(Weak::upgrade) {
            return Partition(shared);
        }
        partitions.retain(|_, shared| shared.strong_count() > 0);
        let shared = Arc::new(Shared {
            store: self.0.clone(),
            scope: Arc::new(Scope {
                store: self.id().to_owned(),
                key: key.clone(),
            }),
            open: tokio::sync::Mutex::default(),
            spent: AtomicU64::default(),
        });
        partitions.insert(key, Arc::downgrade(&shared));
        Partition(shared)
    }
}

fn principal(config: &StoreConfig) -> Result<String> {
    let StoreConfig { tenant, user, .. } = config;
    Ok(match &config.actor {
        Some(actor) => format!("{tenant}/{user}/{}", Id::parse(actor)?),
        None => format!("{tenant}/{user}"),
    })
}

/// What a store is opened on.
pub(crate) struct Ground {
    pub(crate) table: Table,
    pub(crate) anchor: Arc<Anchor>,
    /// Whether to make what is missing.
    pub(crate) set_up: bool,
}

/// Where a store is known, its table is there: another name, or another place, is not to be filled with an empty one.
async fn has_table(table: &Table, store: &str, name: &str) -> Result<()> {
    table.check().await.map_err(|fault| match fault.code() {
        "table_not_found" => another_table(store, name),
        _ => fault,
    })
}

fn another_table(store: &str, name: &str) -> Fault {
    let message = format!("the store {store:.80} was here, and there is no table {name} now");
    Fault::new(Category::VerificationFailed, "another_table", message).hint(
        "look at the table's name, the endpoint and the region; if the table was deleted, restore it from a backup",
    )
}

fn no_store(expected: &str) -> Fault {
    let message = format!("there is no store, and {expected:.80} has to be there");
    Fault::new(Category::VerificationFailed, "another_store", message)
        .hint("look at the table's name, the endpoint and the region, and at the store's id")
}

/// The client of the store's backend, and what is remembered outside of its table.
async fn connect(config: &StoreConfig) -> Result<(Client, Anchor)> {
    let config = config.clone();
    if let Backend::Embedded(path) = &config.backend {
        let path = path.clone();
        return blocking(move || in_process(&path, &config)).await;
    }
    let client = remote(&config.backend).await?;
    let anchor = blocking(move || match &config.anchor {
        Some(path) => anchor(path, &config),
        None if config.forgets => Ok(Anchor::memory()),
        None => Err(no_anchor()),
    });
    Ok((client, anchor.await?))
}

/// Whether a table may be put back unnoticed is for its user to say.
fn no_anchor() -> Fault {
    let message = "nothing says where to remember how far the store has come";
    Fault::new(Category::InvalidInput, "anchor_missing", message).hint(
        "name a file with StoreConfig::anchor, or say without_anchor on a machine that keeps none",
    )
}

fn anchor(path: &Path, config: &StoreConfig) -> Result<Anchor> {
    match config.leaves_anchor {
        true => Anchor::as_it_is(path),
        false => Anchor::file(path),
    }
}

#[cfg(not(any(feature = "embedded", test)))]
fn in_process(_path: &StorePath, _config: &StoreConfig) -> Result<(Client, Anchor)> {
    Err(not_built())
}

#[cfg(any(feature = "embedded", test))]
fn in_process(path: &StorePath, config: &StoreConfig) -> Result<(Client, Anchor)> {
    let StorePath::File(path) = path else {
        return Ok((client::answered_by(Engine::memory()?), Anchor::memory()));
    };
    // Looking at a link would be following it; the engine refuses one.
    if config.must_exist && path.symlink_metadata().is_err() {
        return Err(identity::not_set_up());
    }
    let engine = Engine::file(path)?;
    let anchor = match &config.anchor {
        Some(named) => anchor(named, config)?,
        None if config.forgets => Anchor::memory(),
        None => anchor(&path.with_added_extension("anchor"), config)?,
    };
    Ok((client::answered_by(engine), anchor))
}

#[cfg(feature = "aws")]
async fn remote(backend: &Backend) -> Result<Client> {
    match backend {
        Backend::Endpoint(endpoint) => Ok(client::at_endpoint(endpoint)),
        Backend::Aws(aws) => client::in_aws(aws).await,
        Backend::Embedded(_) => Err(not_built()),
    }
}

#[cfg(not(feature = "aws"))]
async fn remote(_backend: &Backend) -> Result<Client> {
    Err(not_built())
}

pub(crate) fn not_built() -> Fault {
    let message = "this program was built without what its table needs";
    Fault::new(Category::DependencyMissing, "backend_not_built", message).hint(
        "build it with the feature aws of blue-encrypted-store, or embedded for a table in the process",
    )
}
