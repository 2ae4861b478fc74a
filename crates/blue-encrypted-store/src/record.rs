//! A record as a row: how it is built, verified and read.

use jiff::Timestamp;
use serde_json::Value;
use worldcompute_fault::{Category, Fault, Result};

use crate::check::Check;
use crate::crypto::TAG_BYTES;
use crate::draft::{Clear, json};
use crate::envelope::{self, Binding, Sealed, Suite};
use crate::keyring::{DataKey, Keyring};
use crate::manifest::{Listed, prefix};
use crate::name::{PartitionKey, Place, SortKey, key_id, parse_time, time};
use crate::plaintext::Plaintext;
use crate::row::{Row, SEAL};
use crate::{Entity, Stored};

/// An upper bound of what a row has besides its fields: names and values of the envelope's attributes, the tag, the keys
/// (twice: table and index), the listed status.
pub(crate) const OVERHEAD_BYTES: usize = 2048;

/// The attributes of the envelope. No cleartext field has one of these names.
const ENVELOPE: [&str; 15] = [
    "pk",
    "sk",
    "entity_type",
    "created_at",
    "updated_at",
    "content_encrypted",
    "content_nonce",
    "key_id",
    "aad_hash",
    "env",
    "ver",
    "commit",
    "seal",
    STATUS_KEY,
    STATUS_SORT,
];
/// The partition key of the index `ByStatus`.
pub(crate) const STATUS_KEY: &str = "gsi1pk";
/// The sort key of the index `ByStatus`.
pub(crate) const STATUS_SORT: &str = "gsi1sk";
/// Names that further indexes will need.
const INDEX_PREFIX: &str = "gsi";

/// Whether a cleartext field must not have this name.
pub(crate) fn is_reserved(name: &str) -> bool {
    ENVELOPE.contains(&name) || name.starts_with(INDEX_PREFIX)
}

/// The same the other way round, as the compiler asks it of derived types.
pub const fn is_field_name(name: &str) -> bool {
    let mut reserved = ENVELOPE.as_slice();
    while let [known, rest @ ..] = reserved {
        if equal(known.as_bytes(), name.as_bytes()) {
            return false;
        }
        reserved = rest;
    }
    !matches!(name.as_bytes(), [b'g', b's', b'i', ..])
}

const fn equal(mut one: &[u8], mut other: &[u8]) -> bool {
    while let ([a, rest @ ..], [b, others @ ..]) = (one, other) {
        if *a != *b {
            return false;
        }
        (one, other) = (rest, others);
    }
    one.is_empty() && other.is_empty()
}

/// The partition that rows belong to, and the store that it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) store: String,
    pub(crate) key: PartitionKey,
}

/// What is written into a row.
pub(crate) struct Content<'a> {
    pub(crate) place: &'a Place,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) version: u64,
    pub(crate) clear: Clear,
    pub(crate) sealed: &'a [u8],
}

/// Encrypts and seals a record.
pub(crate) fn build(
    scope: &Scope,
    key: &DataKey,
    content: Content<'_>,
    random: &[u8; 32],
) -> Result<(Row, Listed)> {
    let Content { place, version, .. } = content;
    let key_id = key_id(&scope.key.id, key.version);
    let binding = Binding {
        suite: Suite::CURRENT,
        store: &scope.store,
        key_id: &key_id,
        aad: scope.key.aad(place),
        version,
    };
    let sealed = envelope::seal(
        key.dek.bytes(),
        &key.nonce_key,
        &binding,
        random,
        content.sealed,
    )?;
    let mut row = enveloped(scope, place, &binding, content.created_at, sealed);
    put_clear(&mut row, scope, content.clear, content.updated_at);
    let seal = prefix(&row.seal(&key.seal_key));
    Ok((row, Listed { version, seal }))
}

/// A row as it is before it has any cleartext field.
fn enveloped(
    scope: &Scope,
    place: &Place,
    binding: &Binding<'_>,
    created_at: Timestamp,
    sealed: Sealed,
) -> Row {
    let mut row = Row::new(
        &scope.key.to_string(),
        &place.sort_key(),
        &place.record.entity_type,
    );
    row.set_text("created_at", time(created_at));
    row.set_text("key_id", binding.key_id);
    row.set_text("aad_hash", hex::encode(binding.aad));
    row.set_integer("env", u64::from(binding.suite.byte()));
    row.set_integer("ver", binding.version);
    row.set_bytes("content_encrypted", sealed.ciphertext);
    row.set_bytes("content_nonce", sealed.nonce);
    row.set_bytes("commit", sealed.commitment);
    row
}

/// How many bytes the row of a record has whose ciphertext has `payload` bytes, under a data key and in a version.
pub(crate) fn row_bytes(
    scope: &Scope,
    place: &Place,
    (key, version): (u32, u64),
    clear: Clear,
    payload: usize,
) -> usize {
    let binding = Binding {
        suite: Suite::CURRENT,
        store: &scope.store,
        key_id: &key_id(&scope.key.id, key),
        aad: [0; 32],
        version,
    };
    let nothing = Sealed {
        nonce: [0; 12],
        commitment: [0; 32],
        ciphertext: Vec::new(),
    };
    let now = Timestamp::UNIX_EPOCH;
    let mut row = enveloped(scope, place, &binding, now, nothing);
    put_clear(&mut row, scope, clear, now);
    row.set_bytes(SEAL, [0; 32]);
    row.size().saturating_add(payload)
}

/// The same payload with other cleartext fields: sealed anew, not encrypted anew.
pub(crate) fn rebuild(
    scope: &Scope,
    keyring: &Keyring,
    old: &VerifiedRow,
    clear: Clear,
    updated_at: Timestamp,
) -> Result<(Row, Listed), Check> {
    let key = keyring.get(old.key_version).ok_or(Check::Attributes)?;
    let mut row = old.row.clone();
    row.0
        .retain(|name, _| ENVELOPE.contains(&name.as_str()) && !name.starts_with(INDEX_PREFIX));
    put_clear(&mut row, scope, clear, updated_at);
    let (version, seal) = (old.version, prefix(&row.seal(&key.seal_key)));
    Ok((row, Listed { version, seal }))
}

fn put_clear(row: &mut Row, scope: &Scope, clear: Clear, updated_at: Timestamp) {
    row.set_text("updated_at", time(updated_at));
    if let Some(status) = clear.listed_as {
        row.set_text(STATUS_KEY, format!("status#{status}"));
        row.set_text(
            STATUS_SORT,
            format!("{}#{}", time(updated_at), scope.key.id),
        );
    }
    row.0.extend(clear.fields);
}

/// A row whose seal holds. Whether it is live is for the manifest to say.
#[derive(Debug)]
pub(crate) struct VerifiedRow {
    pub(crate) place: Place,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) version: u64,
    pub(crate) suite: Suite,
    pub(crate) key_version: u32,
    pub(crate) seal: [u8; 32],
    row: Row,
}

/// Checks everything about a row but whether it is live.
pub(crate) fn verify(scope: &Scope, keyring: &Keyring, row: Row) -> Result<VerifiedRow, Check> {
    if row.text("pk")? != scope.key.to_string() {
        return Err(Check::Address);
    }
    let Some(SortKey::Record(place)) = SortKey::parse(row.text("sk")?) else {
        return Err(Check::Address);
    };
    if row.text("entity_type")? != place.record.entity_type {
        return Err(Check::Address);
    }
    let time_of = |name| parse_time(row.text(name)?).ok_or(Check::Attributes);
    let (created_at, updated_at) = (time_of("created_at")?, time_of("updated_at")?);
    let suite = Suite::parse(row.integer("env")?).ok_or(Check::Attributes)?;
    let version = row.integer("ver")?;
    row.array::<12>("content_nonce")?;
    row.array::<32>("commit")?;
    row.text("aad_hash")?;
    if version == 0 || row.bytes("content_encrypted")?.len() < TAG_BYTES {
        return Err(Check::Attributes);
    }
    let key = keyring.named(row.text("key_id")?)?;
    let (key_version, seal) = (key.version, row.check_seal(&key.seal_key)?);
    Ok(VerifiedRow {
        place,
        created_at,
        updated_at,
        version,
        suite,
        key_version,
        seal,
        row,
    })
}

impl VerifiedRow {
    /// Decrypts the payload: canonical JSON.
    pub(crate) fn payload(&self, scope: &Scope, keyring: &Keyring) -> Result<Plaintext, Check> {
        let key = keyring.get(self.key_version).ok_or(Check::Attributes)?;
        let binding = Binding {
            suite: self.suite,
            store: &scope.store,
            key_id: &key_id(&scope.key.id, self.key_version),
            aad: scope.key.aad(&self.place),
            version: self.version,
        };
        let sealed = Sealed {
            nonce: self.row.array("content_nonce")?,
            commitment: self.row.array("commit")?,
            ciphertext: self.row.bytes("content_encrypted")?,
        };
        envelope::open(key.dek.bytes(), &binding, &sealed)
    }

    /// The row itself.
    pub(crate) const fn row(&self) -> &Row {
        &self.row
    }

    /// Takes it out.
    pub(crate) fn into_row(self) -> Row {
        self.row
    }

    /// Bytes of ciphertext.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.row.bytes("content_encrypted").map_or(0, <[u8]>::len)
    }

    /// Bytes of the whole row.
    pub(crate) fn size(&self) -> usize {
        self.row.size()
    }

    /// What a manifest that lists this row says of it.
    pub(crate) fn listed(&self) -> Listed {
        Listed {
            version: self.version,
            seal: prefix(&self.seal),
        }
    }

    /// Reads the record that was written as an `E`.
    pub(crate) fn decode<E: Entity>(&self, scope: &Scope, keyring: &Keyring) -> Result<E> {
        let record = &self.place.record;
        let payload = self.payload(scope, keyring).map_err(|check| {
            check.failed(
                format_args!("{}: {record}", scope.key),
                "the payload does not open",
            )
        })?;
        let fields = self.row.0.iter().filter(|(name, _)| !is_reserved(name));
        let clear = serde_json::from_value(Value::Object(json(fields)))
            .or_else(|error| serde_json::from_value(Value::Null).map_err(|_| error))
            .map_err(|error| not_an_entity::<E>(scope, error.classify()))?;
        let sealed = serde_json::from_slice(&payload)
            .map_err(|error| not_an_entity::<E>(scope, error.classify()))?;
        E::join(record.id.clone(), clear, sealed)
    }
}

/// The record with the proof that it was there.
pub(crate) fn stored<E: Entity>(
    scope: &Scope,
    keyring: &Keyring,
    row: &std::sync::Arc<VerifiedRow>,
) -> Result<Stored<E>> {
    Ok(Stored {
        value: row.decode(scope, keyring)?,
        row: row.clone(),
    })
}

/// The text of the error may quote the payload, so only its category is told.
fn not_an_entity<E: Entity>(scope: &Scope, why: serde_json::error::Category) -> Fault {
    let message = format!(
        "{}: a record of type {} does not have the fields of this version of the program ({why:?} error)",
        scope.key,
        E::TYPE
    );
    Fault::new(Category::InvalidInput, "invalid_record", message)
        .hint("read it with the version of the program that wrote it")
}
