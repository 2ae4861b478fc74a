//! The data keys of one partition, and the rows that they are wrapped in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::hmac;
use jiff::Timestamp;
use tokio::time::Instant;
use worldcompute_fault::Result;

use crate::check::Check;
use crate::crypto::{expand, hmac_key};
use crate::envelope::Suite;
use crate::kek::{Keks, KeyLifetime};
use crate::keys::{DekContext, DekHandle, EncryptedDek};
use crate::manifest::{Manifest, SealPrefix, prefix};
use crate::name::{self, SortKey, parse_key_id, parse_time, time};
use crate::plan::Stray;
use crate::record::Scope;
use crate::row::{Row, SEAL};
use crate::table::{Action, When};

const ATTRIBUTES: [&str; 13] = [
    "pk",
    "sk",
    "entity_type",
    "created_at",
    "updated_at",
    "env",
    "wrap_nonce",
    "wrapped",
    "commit",
    "kcv",
    KEK_EPOCH,
    "status",
    SEAL,
];
const KEK_EPOCH: &str = "kek_epoch";
/// The most data keys that a partition has at a time.
pub(crate) const MAX_DATA_KEYS: usize = 64;
/// New content is encrypted with it.
const ACTIVE: &str = "active";
/// Old content is decrypted with it.
const DECRYPT_ONLY: &str = "decrypt-only";

/// A data key and the keys derived from it.
pub(crate) struct DataKey {
    pub(crate) version: u32,
    pub(crate) dek: DekHandle,
    pub(crate) seal_key: hmac::Key,
    pub(crate) manifest_key: hmac::Key,
    pub(crate) nonce_key: hmac::Key,
    unwrapped_at: Instant,
    uses: AtomicU64,
}

impl DataKey {
    pub(crate) fn new(version: u32, dek: DekHandle) -> Result<Self> {
        let derive = |label: &[u8]| expand(dek.bytes(), label).map(|key| hmac_key(&key));
        Ok(Self {
            version,
            seal_key: derive(b"blue/v1/seal")?,
            manifest_key: derive(b"blue/v1/manifest")?,
            nonce_key: derive(b"blue/v1/nonce")?,
            dek,
            unwrapped_at: Instant::now(),
            uses: AtomicU64::new(1),
        })
    }

    /// Whether one more load may use it without unwrapping it again. That counts as a use.
    fn lives(&self, lifetime: KeyLifetime) -> bool {
        self.unwrapped_at.elapsed() < lifetime.max_age
            && self.uses.fetch_add(1, Ordering::Relaxed) < lifetime.max_uses
    }
}

/// What is known of the row that a data key is kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The epoch of the key that wraps it.
    pub(crate) epoch: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) seal: SealPrefix,
    /// Whether the row says so; the manifest decides.
    pub(crate) active: bool,
}

/// The data keys of one partition.
#[derive(Clone)]
pub(crate) struct Keyring {
    partition: name::Id,
    keys: BTreeMap<u32, (Arc<DataKey>, Kept)>,
    active: Option<u32>,
}

impl Keyring {
    pub(crate) fn empty(scope: &Scope) -> Self {
        Self {
            partition: scope.key.id.clone(),
            keys: BTreeMap::new(),
            active: None,
        }
    }

    /// The key of that version.
    pub(crate) fn get(&self, version: u32) -> Option<&DataKey> {
        self.keys.get(&version).map(|(key, _)| &**key)
    }

    /// The key that a `key_id` names.
    pub(crate) fn named(&self, key_id: &str) -> Result<&DataKey, Check> {
        let version = parse_key_id(&self.partition, key_id).ok_or(Check::Attributes)?;
        self.get(version).ok_or(Check::Kcv)
    }

    /// The key for new content, if there is any key yet: the one that the manifest's root is sealed under; without a
    /// root, the newest.
    pub(crate) fn active(&self) -> Option<&DataKey> {
        self.get(self.active?)
    }

    /// The active key and what is known of its row.
    pub(crate) fn active_row(&self) -> Option<(&DataKey, Kept)> {
        let (key, kept) = self.keys.get(&self.active?)?;
        Some((key, *kept))
    }

    /// Holds while the active key's row is the one that is known.
    pub(crate) fn held(&self, scope: &Scope) -> Option<Action> {
        let (key, kept) = self.active_row()?;
        Some(Action::Check {
            pk: scope.key.to_string(),
            sk: SortKey::Dek(key.version).to_string(),
            when: When::Sealed(kept.seal),
        })
    }

    /// The version after the newest there is; none when there are as many keys as there may be.
    pub(crate) fn next_version(&self) -> Option<u32> {
        let (newest, _) = self.keys.last_key_value()?;
        let next = newest.checked_add(1)?;
        (self.keys.len() < MAX_DATA_KEYS).then_some(next)
    }

    /// The key in a row that it was read from before.
    fn of_row(&self, row: &Row) -> Option<(Arc<DataKey>, Kept)> {
        let Some(SortKey::Dek(version)) = SortKey::parse(row.text("sk").ok()?) else {
            return None;
        };
        let (key, kept) = self.keys.get(&version)?;
        let seal = row.check_seal(&key.seal_key).ok()?;
        (prefix(&seal) == kept.seal).then(|| (key.clone(), *kept))
    }

    /// Takes a key's row for the one that is there.
    pub(crate) fn replace(&mut self, key: Arc<DataKey>, kept: Kept) {
        self.keys.insert(key.version, (key, kept));
    }

    /// Adds a key, which becomes the active one if it is the newest.
    pub(crate) fn add(&mut self, key: Arc<DataKey>, kept: Kept) {
        self.active = self.active.max(Some(key.version));
        self.replace(key, kept);
    }

    /// Has the key of that version encrypt new content.
    pub(crate) fn activate(&mut self, version: u32) {
        self.active = Some(version);
    }

    /// The rows of keys that were replaced and that nothing in `manifest` needs any more.
    pub(crate) fn unneeded(&self, manifest: &Manifest) -> Vec<Stray> {
        let older = self.keys.range(..self.active.unwrap_or_default());
        let unneeded = older.filter(|(version, _)| !manifest.needs_key(**version));
        let stray = |(version, (_, kept)): (&u32, &(_, Kept))| Stray {
            sk: SortKey::Dek(*version).to_string(),
            seal: kept.seal,
            bytes: 0,
        };
        unneeded.map(stray).collect()
    }

    /// Lets go of the keys in these rows.
    pub(crate) fn forget(&mut self, rows: &[Stray]) {
        let gone = |version: u32| {
            let sk = SortKey::Dek(version).to_string();
            rows.iter().any(|row| row.sk == sk)
        };
        self.keys.retain(|version, _| !gone(*version));
    }
}

/// Which key-encryption keys a store uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epochs {
    /// New wrappings are under this one.
    pub(crate) current: u64,
    /// Wrappings under older ones are refused.
    pub(crate) floor: u64,
}

impl Epochs {
    /// Whether nothing of it is older than `known`.
    pub(crate) const fn reach(self, known: Self) -> bool {
        self.current >= known.current && self.floor >= known.floor
    }

    /// Those of a new store.
    pub(crate) const FIRST: Self = Self {
        current: 1,
        floor: 1,
    };
}

/// Who wraps and unwraps data keys, and under which epochs. All of it happens here.
#[derive(Clone, Copy)]
pub(crate) struct Wrapping<'a> {
    pub(crate) keks: &'a Keks,
    pub(crate) epochs: Epochs,
    /// The seal of the store's row that says so.
    pub(crate) row: SealPrefix,
}

impl Wrapping<'_> {
    /// A new data key, and the row to keep it in.
    pub(crate) async fn fresh(&self, scope: &Scope, version: u32, now: Timestamp) -> Result<Row> {
        let epoch = self.epochs.current;
        let kek = self.keks.get(epoch).await?;
        let made = self
            .keks
            .provider
            .generate_dek(&kek, &context(scope, version, epoch))
            .await;
        let (dek, wrapped) = made.map_err(|error| error.at(&scope.key))?;
        let kept = Kept {
            created_at: now,
            active: true,
            ..Kept::default()
        };
        let key = DataKey::new(version, dek)?;
        Ok(dek_row(scope, &key, &wrapped, kept, now))
    }

    /// The row of a data key that is there, wrapped anew under the current epoch.
    pub(crate) async fn again(
        &self,
        scope: &Scope,
        key: &DataKey,
        kept: Kept,
        now: Timestamp,
    ) -> Result<Row> {
        let epoch = self.epochs.current;
        let kek = self.keks.get(epoch).await?;
        let wrapped = self
            .keks
            .provider
            .encrypt_dek(&kek, &key.dek, &context(scope, key.version, epoch))
            .await
            .map_err(|error| error.at(&scope.key))?;
        Ok(dek_row(scope, key, &wrapped, kept, now))
    }

    /// How many keys are wrapped under an older epoch.
    pub(crate) fn count_outdated(&self, keyring: &Keyring) -> usize {
        let kept = keyring.keys.values();
        kept.filter(|(_, kept)| kept.epoch < self.epochs.current)
            .count()
    }

    /// The rows of all keys that are wrapped under an older epoch, wrapped anew: the seal of the old row with each.
    pub(crate) async fn outdated(
        &self,
        scope: &Scope,
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<Vec<(SealPrefix, Row)>> {
        let mut rows = Vec::new();
        for (key, kept) in keyring.keys.values() {
            if kept.epoch < self.epochs.current {
                rows.push((kept.seal, self.again(scope, key, *kept, now).await?));
            }
        }
        Ok(rows)
    }

    /// Unwraps every data key of a partition. Any that fails is an error: a missing key would hide records.
    pub(crate) async fn open(&self, scope: &Scope, rows: Vec<Row>) -> Result<Keyring> {
        self.open_knowing(&Keyring::empty(scope), scope, rows).await
    }

    /// The same, but for the keys whose rows are those that `known` was read from: they are not unwrapped again.
    pub(crate) async fn open_knowing(
        &self,
        known: &Keyring,
        scope: &Scope,
        rows: Vec<Row>,
    ) -> Result<Keyring> {
        if rows.len() > MAX_DATA_KEYS {
            let why = format!("there are more than {MAX_DATA_KEYS} data keys");
            return Err(Check::Attributes.failed(&scope.key, why));
        }
        let mut keyring = Keyring::empty(scope);
        for row in rows {
            let (key, kept) = match self.recall(known, &row).await? {
                Some(known) => known,
                None => self.open_one(scope, &row).await?,
            };
            keyring.add(key, kept);
        }
        Ok(keyring)
    }

    /// A data key that is known from this very row. The key that wraps it is asked for all the same: with its end nobody
    /// reads any more.
    async fn recall(&self, known: &Keyring, row: &Row) -> Result<Option<(Arc<DataKey>, Kept)>> {
        let found = known.of_row(row).filter(|(key, kept)| {
            self.check_epoch(kept.epoch).is_ok() && key.lives(self.keks.lifetime())
        });
        if let Some((_, kept)) = &found {
            self.keks.get(kept.epoch).await?;
        }
        Ok(found)
    }

    /// Unwraps the data key in a row.
    pub(crate) async fn open_one(&self, scope: &Scope, row: &Row) -> Result<(Arc<DataKey>, Kept)> {
        let place = format!("{}: {}", scope.key, row.text("sk").unwrap_or(name::DEK));
        let parsed = parse(scope, row).map_err(|check| {
            check.failed(&place, "the wrapped data key is not as it was written")
        })?;
        let epoch = parsed.dek.epoch;
        self.check_epoch(epoch).map_err(|check| {
            check.failed(&place, format!("it is wrapped under key epoch {epoch}"))
        })?;
        let kek = self.keks.get(epoch).await?;
        let dek = self
            .keks
            .provider
            .decrypt_dek(&kek, &parsed.dek, &context(scope, parsed.version, epoch))
            .await
            .map_err(|error| error.at(&place))?;
        let key = DataKey::new(parsed.version, dek)?;
        let seal = row
            .check_seal(&key.seal_key)
            .map_err(|check| check.failed(&place, "its attributes were changed"))?;
        let kept = Kept {
            epoch,
            seal: prefix(&seal),
            ..parsed.kept
        };
        Ok((Arc::new(key), kept))
    }

    fn check_epoch(&self, epoch: u64) -> Result<(), Check> {
        match epoch {
            epoch if epoch > self.epochs.current => Err(Check::Attributes),
            epoch if epoch < self.epochs.floor => Err(Check::EpochFloor),
            _ => Ok(()),
        }
    }
}

/// The latest epoch that a data key's row claims to be wrapped under.
pub(crate) fn latest_epoch(rows: &[Row]) -> u64 {
    let epochs = rows.iter().filter_map(|row| row.integer(KEK_EPOCH).ok());
    epochs.max().unwrap_or_default()
}

fn context(scope: &Scope, version: u32, epoch: u64) -> DekContext {
    DekContext {
        store: scope.store.clone(),
        partition: scope.key.clone(),
        version,
        epoch,
    }
}

/// The row of a data key: of `kept` it takes when it was made and whether it is the active one.
pub(crate) fn dek_row(
    scope: &Scope,
    key: &DataKey,
    dek: &EncryptedDek,
    kept: Kept,
    now: Timestamp,
) -> Row {
    let sk = SortKey::Dek(key.version).to_string();
    let mut row = Row::new(&scope.key.to_string(), &sk, name::DEK);
    row.set_text("created_at", time(kept.created_at));
    row.set_text("updated_at", time(now));
    row.set_integer("env", u64::from(dek.suite.byte()));
    row.set_bytes("wrap_nonce", dek.nonce);
    row.set_bytes("wrapped", dek.wrapped);
    row.set_bytes("commit", dek.commitment);
    row.set_bytes("kcv", dek.kcv);
    row.set_integer(KEK_EPOCH, dek.epoch);
    row.set_text("status", if kept.active { ACTIVE } else { DECRYPT_ONLY });
    row.seal(&key.seal_key);
    row
}

struct Parsed {
    version: u32,
    kept: Kept,
    dek: EncryptedDek,
}

fn parse(scope: &Scope, row: &Row) -> Result<Parsed, Check> {
    row.only(&ATTRIBUTES)?;
    if row.text("pk")? != scope.key.to_string() || row.text("entity_type")? != name::DEK {
        return Err(Check::Address);
    }
    let Some(SortKey::Dek(version)) = SortKey::parse(row.text("sk")?) else {
        return Err(Check::Address);
    };
    let time_of = |name| parse_time(row.text(name)?).ok_or(Check::Attributes);
    let created_at = time_of("created_at")?;
    time_of("updated_at")?;
    let status = row.text("status")?;
    if ![ACTIVE, DECRYPT_ONLY].contains(&status) {
        return Err(Check::Attributes);
    }
    let dek = EncryptedDek {
        suite: Suite::parse(row.integer("env")?).ok_or(Check::Attributes)?,
        nonce: row.array("wrap_nonce")?,
        wrapped: row.array("wrapped")?,
        commitment: row.array("commit")?,
        kcv: row.array("kcv")?,
        epoch: row.integer(KEK_EPOCH)?,
    };
    Ok(Parsed {
        version,
        kept: Kept {
            created_at,
            active: status == ACTIVE,
            ..Kept::default()
        },
        dek,
    })
}

#[cfg(test)]
mod tests;
