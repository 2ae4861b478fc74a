//! The store's own row: its id, whose it is, which key it was set up with, and which epochs of keys it uses.

use std::sync::Arc;

use jiff::Timestamp;
use worldcompute_fault::{Category, Fault, Result};

use crate::META;
use crate::anchor::{Anchor, Identity};
use crate::check::Check;
use crate::config::StoreConfig;
use crate::crypto::{expand, hmac_key, same};
use crate::envelope::Suite;
use crate::keyring::Epochs;
use crate::keys::{KCV_BYTES, KekContext, KekHandle, KeyError, KeyProvider, UmkHandle, kcv};
use crate::name::{parse_time, time};
use crate::row::{Row, SEAL};
use crate::sources::Sources;
use crate::table::Table;
use crate::task::blocking;

/// The partition key of the store's own row. No partition has it: theirs contain a `#`.
pub(crate) const STORE: &str = "store";
/// The most epochs that data keys may be wrapped under at a time.
pub(crate) const MAX_EPOCHS: u64 = 16;
/// The attribute of the oldest epoch in use; not there while that is the first.
const FLOOR: &str = "min_kek_epoch";
const STORE_ID_BYTES: usize = 16;
const KCV: &str = "kcv";
const ATTRIBUTES: [&str; 12] = [
    "pk",
    "sk",
    "entity_type",
    "created_at",
    "store_id",
    "tenant",
    "user",
    "kek_epoch",
    FLOOR,
    "env",
    KCV,
    SEAL,
];

/// An identified store and the key that wraps its data keys.
pub(crate) struct Opened {
    pub(crate) row: StoreRow,
    pub(crate) kek: KekHandle,
    /// The key of what outlives all epochs.
    pub(crate) own: KekHandle,
}

/// Whether a row is the one that says which store this is, written with `kek`, the key of its current epoch.
pub(crate) fn check(row: &Row, store: &str, kek: &KekHandle) -> Result<(), Check> {
    let found = StoreRow::read(row)?;
    if found.store != store {
        return Err(Check::Address);
    }
    let key = seal_key(kek).map_err(|_| Check::Seal)?;
    row.check_seal(&key).map(drop)
}

/// Who opens a store: where from, with which keys, for whom.
pub(crate) struct Opener<'a> {
    pub(crate) table: &'a Table,
    pub(crate) anchor: Arc<Anchor>,
    pub(crate) keys: &'a dyn KeyProvider,
    pub(crate) config: &'a StoreConfig,
    /// Whether to set up a store where there is none.
    pub(crate) set_up: bool,
}

impl Opener<'_> {
    /// Identifies the store, or sets it up when the table is empty and that is wanted.
    pub(crate) async fn open(&self, sources: &Sources) -> Result<Opened> {
        if let Some(row) = self.table.get(STORE, META).await? {
            return self.identify(&row).await;
        }
        if self.anchor.identity().is_some() || !self.table.is_empty().await? {
            return self.set_up_by_another().await;
        }
        if !self.set_up {
            return Err(not_set_up());
        }
        // Whoever is quicker sets it up.
        self.table.put_new(self.new_row(sources).await?).await?;
        match self.table.get(STORE, META).await? {
            Some(row) => self.identify(&row).await,
            None => Err(Check::Manifest.failed(STORE, "the row vanished during set-up")),
        }
    }

    /// The table has rows now and had no store's own row before: somebody else has just set it up, or the row has gone.
    async fn set_up_by_another(&self) -> Result<Opened> {
        match self.table.get(STORE, META).await? {
            Some(row) => self.identify(&row).await,
            None => {
                let why = "the row that says which store this is has gone";
                Err(Check::Manifest.failed(STORE, why))
            }
        }
    }

    pub(crate) async fn new_row(&self, sources: &Sources) -> Result<Row> {
        let umk = match self.keys.get_umk().await {
            Err(KeyError::Missing(_)) => self.keys.create_umk().await,
            found => found,
        };
        let umk = umk.map_err(|error| error.at(STORE))?;
        let store = hex::encode(sources.random()?.get(..STORE_ID_BYTES).unwrap_or_default());
        let StoreConfig { tenant, user, .. } = self.config;
        let new = StoreRow {
            store,
            tenant: tenant.clone(),
            user: user.clone(),
            created_at: sources.tick(),
            epochs: Epochs::FIRST,
            kcv: self.check_value(&umk).await?,
            seal: [0; 32],
        };
        let kek = self.kek(&umk, &new, tenant, user).await?;
        let own = KekContext::of(&new.store, tenant, user);
        let own = self.derive(&umk, &own).await?;
        let others = [new.kcv, kcv(own.bytes())];
        if others.iter().any(|other| same(&kcv(kek.bytes()), other)) {
            return Err(unsound());
        }
        new.row(&kek)
    }

    async fn identify(&self, row: &Row) -> Result<Opened> {
        let found = StoreRow::parse(row)?;
        if let Some(expected) = &self.config.store_id
            && *expected != found.store
        {
            return Err(another_store(expected, &found.store));
        }
        let known = self.anchor.identity();
        if known
            .as_ref()
            .is_some_and(|known| known.store != found.store)
        {
            let why = "this is not the store that was here before";
            return Err(Check::Address.failed(STORE, why));
        }
        let umk = self.keys.get_umk().await.map_err(|error| error.at(STORE))?;
        let StoreConfig { tenant, user, .. } = self.config;
        let kek = self.kek(&umk, &found, tenant, user).await?;
        if found.check_seal(row, &kek).is_err() {
            return Err(self.diagnose(row, &found, &umk, &kek, known).await?);
        }
        let least = self.config.min_key_epoch;
        found.check_epochs(Epochs {
            current: least,
            floor: least,
        })?;
        if let Some(known) = &known {
            found.check_epochs(known.epochs())?;
        }
        if known.is_none_or(|known| known.epochs() != found.epochs) {
            self.remember(&found, &umk).await?;
        }
        let own = KekContext::of(&found.store, tenant, user);
        Ok(Opened {
            own: self.derive(&umk, &own).await?,
            row: found,
            kek,
        })
    }

    /// Why the row's seal does not hold: another key than at set-up, another owner, or a row that somebody changed.
    ///
    /// The key check value beside the table decides about the key. Without it, a key that is not the row's may be the
    /// wrong one, or the row may have been changed: nobody can tell.
    async fn diagnose(
        &self,
        row: &Row,
        found: &StoreRow,
        umk: &UmkHandle,
        kek: &KekHandle,
        known: Option<Identity>,
    ) -> Result<Fault> {
        let ours = self.check_value(umk).await?;
        match known {
            Some(known) if known.kcv != hex::encode(ours) => return Ok(key_changed()),
            None if !same(&found.kcv, &ours) && !holds_with_kcv(row, ours, kek)? => {
                return Ok(key_unconfirmed());
            }
            _ => {}
        }
        let theirs = self.kek(umk, found, &found.tenant, &found.user).await?;
        if found.check_seal(row, &theirs).is_ok() {
            return Ok(another_owner(found));
        }
        Ok(Check::Seal.failed(STORE, "the store's row was changed"))
    }

    async fn remember(&self, found: &StoreRow, umk: &UmkHandle) -> Result<()> {
        let kcv = self.check_value(umk).await?;
        let identity = Identity::new(&found.store, &kcv, found.epochs);
        let anchor = self.anchor.clone();
        blocking(move || anchor.remember(identity)).await
    }

    async fn kek(
        &self,
        umk: &UmkHandle,
        found: &StoreRow,
        tenant: &str,
        user: &str,
    ) -> Result<KekHandle> {
        let context = KekContext {
            epoch: found.epochs.current,
            ..KekContext::of(&found.store, tenant, user)
        };
        self.derive(umk, &context).await
    }

    async fn derive(&self, umk: &UmkHandle, context: &KekContext) -> Result<KekHandle> {
        let kek = self.keys.derive_kek(umk, context).await;
        kek.map_err(|error| error.at(STORE))
    }

    /// The key check value of the master key: that of the KEK of no store.
    async fn check_value(&self, umk: &UmkHandle) -> Result<[u8; KCV_BYTES]> {
        let nowhere = KekContext::of("", "", "");
        Ok(kcv(self.derive(umk, &nowhere).await?.bytes()))
    }
}

fn holds_with_kcv(row: &Row, kcv: [u8; KCV_BYTES], kek: &KekHandle) -> Result<bool> {
    let mut mended = row.clone();
    mended.set_bytes(KCV, kcv);
    Ok(mended.check_seal(&seal_key(kek)?).is_ok())
}

pub(crate) fn not_set_up() -> Fault {
    let message = "no store was set up there";
    Fault::new(Category::DependencyMissing, "store_not_set_up", message)
        .hint("set the store up, or look at the table's name, the endpoint and the region")
}

fn another_store(expected: &str, found: &str) -> Fault {
    let message = format!("this is the store {found:.80}, not {expected:.80}");
    Fault::new(Category::VerificationFailed, "another_store", message)
        .hint("look at the table's name, the endpoint and the region, and at the store's id")
}

pub(crate) fn key_changed() -> Fault {
    let message = "this is not the key that the store was set up with";
    Fault::new(
        Category::VerificationFailed,
        "encryption_key_changed",
        message,
    )
    .hint("put the store's key back, or reset the store: without that key it cannot be read")
}

fn key_unconfirmed() -> Fault {
    let message = "this is not the key that the store's row names, and nothing outside of the table confirms the row";
    Fault::new(
        Category::VerificationFailed,
        "encryption_key_unconfirmed",
        message,
    )
    .hint("put the store's key and its anchor back from a backup; the table may have been tampered with, so keep it as evidence")
}

/// Two contexts gave one key.
pub(crate) fn unsound() -> Fault {
    let message = "the key provider gives the same key for different purposes";
    Fault::new(
        Category::VerificationFailed,
        "key_provider_unsound",
        message,
    )
    .hint("do not use this key service: it ignores what it is asked to authenticate")
}

fn another_owner(found: &StoreRow) -> Fault {
    let message = format!(
        "the store belongs to user {} of tenant {}",
        found.user, found.tenant
    );
    Fault::new(Category::InvalidInput, "store_of_another_owner", message)
        .hint("open it for its tenant and user, or choose another path")
}

fn seal_key(kek: &KekHandle) -> Result<aws_lc_rs::hmac::Key> {
    Ok(hmac_key(&*expand(kek.bytes(), b"blue/v1/store")?))
}

/// What the store's own row says.
#[derive(Clone)]
pub(crate) struct StoreRow {
    pub(crate) store: String,
    tenant: String,
    user: String,
    created_at: Timestamp,
    pub(crate) epochs: Epochs,
    pub(crate) kcv: [u8; KCV_BYTES],
    /// All zero before the row is written.
    pub(crate) seal: [u8; 32],
}

impl StoreRow {
    /// Whether it holds is for [`StoreRow::check_seal`] to say.
    pub(crate) fn parse(row: &Row) -> Result<Self> {
        Self::read(row)
            .map_err(|check| check.failed(STORE, "the store's row is not as it was written"))
    }

    pub(crate) fn read(row: &Row) -> Result<Self, Check> {
        row.only(&ATTRIBUTES)?;
        if row.text("entity_type")? != STORE {
            return Err(Check::Address);
        }
        Suite::parse(row.integer("env")?).ok_or(Check::Attributes)?;
        Ok(Self {
            store: row.text("store_id")?.to_owned(),
            tenant: row.text("tenant")?.to_owned(),
            user: row.text("user")?.to_owned(),
            created_at: parse_time(row.text("created_at")?).ok_or(Check::Attributes)?,
            epochs: epochs(row)?,
            kcv: row.array(KCV)?,
            seal: row.array(SEAL)?,
        })
    }

    /// Whether it was written with `kek`, the key of its current epoch.
    pub(crate) fn check_seal(&self, row: &Row, kek: &KekHandle) -> Result<()> {
        row.check_seal(&seal_key(kek)?)
            .map(drop)
            .map_err(|check| check.failed(STORE, "the store's row was changed"))
    }

    /// Refuses a row that is older than `known`.
    pub(crate) fn check_epochs(&self, known: Epochs) -> Result<()> {
        if self.epochs.reach(known) {
            return Ok(());
        }
        let Epochs { current, floor } = self.epochs;
        let why = format!(
            "its keys are at epoch {current}, from {floor} on, and were at epoch {}, from {} on",
            known.current, known.floor
        );
        Err(Check::VersionFloor.failed(STORE, why))
    }

    /// The same with other epochs.
    pub(crate) fn at(&self, epochs: Epochs) -> Self {
        Self {
            epochs,
            ..self.clone()
        }
    }

    /// As it is written, sealed with `kek`, the key of its current epoch.
    pub(crate) fn row(&self, kek: &KekHandle) -> Result<Row> {
        let mut row = Row::new(STORE, META, STORE);
        row.set_text("created_at", time(self.created_at));
        row.set_text("store_id", self.store.as_str());
        row.set_text("tenant", self.tenant.as_str());
        row.set_text("user", self.user.as_str());
        row.set_integer("kek_epoch", self.epochs.current);
        if self.epochs.floor > 1 {
            row.set_integer(FLOOR, self.epochs.floor);
        }
        row.set_integer("env", u64::from(Suite::CURRENT.byte()));
        row.set_bytes(KCV, self.kcv);
        row.seal(&seal_key(kek)?);
        Ok(row)
    }
}

fn epochs(row: &Row) -> Result<Epochs, Check> {
    let floor = match row.0.contains_key(FLOOR) {
        true => row.integer(FLOOR)?,
        false => 1,
    };
    let current = row.integer("kek_epoch")?;
    let live = current.checked_sub(floor).ok_or(Check::Attributes)?;
    if floor == 0 || live >= MAX_EPOCHS {
        return Err(Check::Attributes);
    }
    Ok(Epochs { current, floor })
}
