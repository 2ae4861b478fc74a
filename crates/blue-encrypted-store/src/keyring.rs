//! The data keys of one partition, and the rows that they are wrapped in.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use worldcompute_fault::Result;

use crate::check::Check;
use crate::crypto::{expand, hmac_key};
use crate::envelope::Suite;
use crate::kek::Keks;
use crate::keys::{DekContext, DekHandle, EncryptedDek};
use crate::name::{self, SortKey, parse_key_id, parse_time, time};
use crate::record::Scope;
use crate::row::{Row, SEAL};

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
    "kek_epoch",
    "status",
    SEAL,
];
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
        })
    }
}

/// The data keys of one partition.
pub(crate) struct Keyring {
    partition: name::Id,
    keys: BTreeMap<u32, DataKey>,
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
        self.keys.get(&version)
    }

    /// The key that a `key_id` names.
    pub(crate) fn named(&self, key_id: &str) -> Result<&DataKey, Check> {
        let version = parse_key_id(&self.partition, key_id).ok_or(Check::Attributes)?;
        self.get(version).ok_or(Check::Kcv)
    }

    /// The key for new content, if there is any key yet.
    pub(crate) fn active(&self) -> Option<&DataKey> {
        self.get(self.active?)
    }

    pub(crate) fn add(&mut self, key: DataKey, active: bool) {
        if active {
            self.active = self.active.max(Some(key.version));
        }
        self.keys.insert(key.version, key);
    }
}

/// The key that wraps the data keys, and who can use it.
#[derive(Clone, Copy)]
pub(crate) struct Wrapping<'a> {
    pub(crate) keks: &'a Keks,
    pub(crate) epoch: u64,
}

impl Wrapping<'_> {
    /// A first data key for a partition without any, and the row to keep it in.
    pub(crate) async fn first(&self, scope: &Scope, now: Timestamp) -> Result<Row> {
        let version = 1;
        let context = context(scope, version, self.epoch);
        let kek = self.keks.get(self.epoch).await?;
        let (dek, wrapped) = self
            .keks
            .provider
            .generate_dek(&kek, &context)
            .await
            .map_err(|error| error.at(&scope.key))?;
        Ok(dek_row(scope, &DataKey::new(version, dek)?, &wrapped, now))
    }

    /// Unwraps every data key of a partition. Any that fails is an error: a missing key would hide records.
    pub(crate) async fn open(&self, scope: &Scope, rows: Vec<Row>) -> Result<Keyring> {
        let mut keyring = Keyring::empty(scope);
        for row in rows {
            let place = format!("{}: {}", scope.key, row.text("sk").unwrap_or(name::DEK));
            let parsed = parse(scope, &row).map_err(|check| {
                check.failed(&place, "the wrapped data key is not as it was written")
            })?;
            if parsed.dek.epoch != self.epoch {
                let why = format!("it is wrapped under key epoch {}", parsed.dek.epoch);
                return Err(Check::Attributes.failed(&place, why));
            }
            let context = context(scope, parsed.version, parsed.dek.epoch);
            let kek = self.keks.get(parsed.dek.epoch).await?;
            let dek = self
                .keks
                .provider
                .decrypt_dek(&kek, &parsed.dek, &context)
                .await
                .map_err(|error| error.at(&place))?;
            let key = DataKey::new(parsed.version, dek)?;
            row.check_seal(&key.seal_key)
                .map_err(|check| check.failed(&place, "its attributes were changed"))?;
            keyring.add(key, parsed.active);
        }
        Ok(keyring)
    }
}

fn context(scope: &Scope, version: u32, epoch: u64) -> DekContext {
    DekContext {
        store: scope.store.clone(),
        partition: scope.key.clone(),
        version,
        epoch,
    }
}

pub(crate) fn dek_row(scope: &Scope, key: &DataKey, dek: &EncryptedDek, now: Timestamp) -> Row {
    let sk = SortKey::Dek(key.version).to_string();
    let mut row = Row::new(&scope.key.to_string(), &sk, name::DEK);
    row.set_text("created_at", time(now));
    row.set_text("updated_at", time(now));
    row.set_integer("env", u64::from(dek.suite.byte()));
    row.set_bytes("wrap_nonce", dek.nonce);
    row.set_bytes("wrapped", dek.wrapped);
    row.set_bytes("commit", dek.commitment);
    row.set_bytes("kcv", dek.kcv);
    row.set_integer("kek_epoch", dek.epoch);
    row.set_text("status", ACTIVE);
    row.seal(&key.seal_key);
    row
}

struct Parsed {
    version: u32,
    active: bool,
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
    for name in ["created_at", "updated_at"] {
        parse_time(row.text(name)?).ok_or(Check::Attributes)?;
    }
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
        epoch: row.integer("kek_epoch")?,
    };
    Ok(Parsed {
        version,
        active: status == ACTIVE,
        dek,
    })
}
