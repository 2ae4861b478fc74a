//! The store's own row: its id, whose it is, and which key it was set up with.

use std::sync::Arc;

use worldcompute_fault::{Category, Fault, Result};

use crate::META;
use crate::anchor::{Anchor, Identity};
use crate::check::Check;
use crate::config::StoreConfig;
use crate::crypto::{expand, hmac_key, same};
use crate::envelope::Suite;
use crate::keys::{KCV_BYTES, KekContext, KekHandle, KeyError, KeyProvider, UmkHandle, kcv};
use crate::name::{parse_time, time};
use crate::row::{Row, SEAL};
use crate::sources::Sources;
use crate::table::Table;
use crate::task::blocking;

/// The partition key of the store's own row. No partition has it: theirs contain a `#`.
pub(crate) const STORE: &str = "store";
/// The epoch of the only KEK so far.
const EPOCH: u64 = 1;
const STORE_ID_BYTES: usize = 16;
const KCV: &str = "kcv";
const ATTRIBUTES: [&str; 11] = [
    "pk",
    "sk",
    "entity_type",
    "created_at",
    "store_id",
    "tenant",
    "user",
    "kek_epoch",
    "env",
    KCV,
    SEAL,
];

/// An identified store and the key that wraps its data keys.
pub(crate) struct Opened {
    pub(crate) store: String,
    pub(crate) kek: KekHandle,
    pub(crate) epoch: u64,
}

/// Whether a row is the one that says which store this is.
pub(crate) fn check(row: &Row, store: &str, kek: &KekHandle) -> Result<(), Check> {
    let found = Parsed::of(row)?;
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
        let kek = self.kek(&umk, &store, tenant, user).await?;
        let mut row = Row::new(STORE, META, STORE);
        row.set_text("created_at", time(sources.tick()));
        row.set_text("store_id", store);
        row.set_text("tenant", tenant.as_str());
        row.set_text("user", user.as_str());
        row.set_integer("kek_epoch", EPOCH);
        row.set_integer("env", u64::from(Suite::CURRENT.byte()));
        let check_value = self.check_value(&umk).await?;
        if same(&kcv(kek.bytes()), &check_value) {
            return Err(unsound());
        }
        row.set_bytes(KCV, check_value);
        row.seal(&seal_key(&kek)?);
        Ok(row)
    }

    async fn identify(&self, row: &Row) -> Result<Opened> {
        let found = Parsed::of(row)
            .map_err(|check| check.failed(STORE, "the store's row is not as it was written"))?;
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
        let kek = self.kek(&umk, &found.store, tenant, user).await?;
        if row.check_seal(&seal_key(&kek)?).is_err() {
            return Err(self.diagnose(row, &found, &umk, &kek, known).await?);
        }
        if known.is_none() {
            self.remember(&found.store, &umk).await?;
        }
        Ok(Opened {
            store: found.store,
            kek,
            epoch: EPOCH,
        })
    }

    /// Why the row's seal does not hold: another key than at set-up, another owner, or a row that somebody changed.
    ///
    /// The key check value beside the table decides about the key; without it, the one in the row does, unless the seal
    /// shows that just that value was changed.
    async fn diagnose(
        &self,
        row: &Row,
        found: &Parsed,
        umk: &UmkHandle,
        kek: &KekHandle,
        known: Option<Identity>,
    ) -> Result<Fault> {
        let ours = self.check_value(umk).await?;
        let same_key = match known {
            Some(known) => known.kcv == hex::encode(ours),
            None => same(&found.kcv, &ours) || holds_with_kcv(row, ours, kek)?,
        };
        if !same_key {
            return Ok(key_changed());
        }
        let theirs = self
            .kek(umk, &found.store, &found.tenant, &found.user)
            .await?;
        if row.check_seal(&seal_key(&theirs)?).is_ok() {
            return Ok(another_owner(found));
        }
        Ok(Check::Seal.failed(STORE, "the store's row was changed"))
    }

    async fn remember(&self, store: &str, umk: &UmkHandle) -> Result<()> {
        let identity = Identity {
            store: store.to_owned(),
            kcv: hex::encode(self.check_value(umk).await?),
        };
        let anchor = self.anchor.clone();
        blocking(move || anchor.remember(identity)).await
    }

    async fn kek(
        &self,
        umk: &UmkHandle,
        store: &str,
        tenant: &str,
        user: &str,
    ) -> Result<KekHandle> {
        let context = KekContext {
            epoch: EPOCH,
            ..KekContext::of(store, tenant, user)
        };
        let kek = self.keys.derive_kek(umk, &context).await;
        kek.map_err(|error| error.at(STORE))
    }

    /// The key check value of the master key: that of the KEK of no store.
    async fn check_value(&self, umk: &UmkHandle) -> Result<[u8; KCV_BYTES]> {
        let nowhere = KekContext::of("", "", "");
        let kek = self.keys.derive_kek(umk, &nowhere).await;
        Ok(kcv(kek.map_err(|error| error.at(STORE))?.bytes()))
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

/// Two contexts gave one key.
fn unsound() -> Fault {
    let message = "the key provider gives the same key for different purposes";
    Fault::new(
        Category::VerificationFailed,
        "key_provider_unsound",
        message,
    )
    .hint("do not use this key service: it ignores what it is asked to authenticate")
}

fn another_owner(found: &Parsed) -> Fault {
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

struct Parsed {
    store: String,
    tenant: String,
    user: String,
    kcv: [u8; KCV_BYTES],
}

impl Parsed {
    fn of(row: &Row) -> Result<Self, Check> {
        row.only(&ATTRIBUTES)?;
        if row.text("entity_type")? != STORE {
            return Err(Check::Address);
        }
        parse_time(row.text("created_at")?).ok_or(Check::Attributes)?;
        Suite::parse(row.integer("env")?).ok_or(Check::Attributes)?;
        row.array::<32>(SEAL)?;
        if row.integer("kek_epoch")? != EPOCH {
            return Err(Check::Attributes);
        }
        Ok(Self {
            store: row.text("store_id")?.to_owned(),
            tenant: row.text("tenant")?.to_owned(),
            user: row.text("user")?.to_owned(),
            kcv: row.array(KCV)?,
        })
    }
}
