//! Signed JSON records in files: how they are read, and what their signature covers.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{SigningKey, VerifyingKey, canonical_json, parse_json_within};

use crate::clock;
use crate::in_file::InFile;
use crate::limits::{MAX_TOKEN_BYTES, from_value, invalid};
use crate::signature::{SignatureObject, unverified};
use crate::wire_time::WireTime;

/// A record as somebody wrote it: what is signed, and the signature on it.
///
/// The signature covers all members but itself, known or not, so nothing can be added to a record that verifies.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    members: Map<String, Value>,
    signature: Option<Value>,
}

/// Why a signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsigned {
    Missing,
    Invalid,
}

/// Refuses a document that is not in its canonical form: what no digest covers, blanks for one, cannot vary either.
pub(crate) fn check_form(name: &str, bytes: &[u8], value: &Value) -> Result<()> {
    match canonical_json(value).is_ok_and(|canonical| canonical == bytes) {
        true => Ok(()),
        false => Err(unverified(format!(
            "{name} is not in canonical form (RFC 8785)"
        ))),
    }
}

impl Record {
    /// Reads the file at `path`; `what` names the record in errors.
    pub(crate) fn load(what: &str, path: &Path) -> Result<Self> {
        let bytes = read_bounded(path, MAX_TOKEN_BYTES)?;
        Self::parse(what, &bytes).in_file(path)
    }

    pub(crate) fn parse(what: &str, bytes: &[u8]) -> Result<Self> {
        let limit = usize::try_from(MAX_TOKEN_BYTES).unwrap_or(usize::MAX);
        let value = parse_json_within(bytes, limit)
            .map_err(|fault| invalid(format!("parse {what}: {}", fault.message())))?;
        Self::of(what, value)
    }

    pub(crate) fn of(what: &str, value: Value) -> Result<Self> {
        let Value::Object(mut members) = value else {
            return Err(invalid(format!("parse {what}: not a JSON object")));
        };
        let signature = members.remove("signature").filter(|value| !value.is_null());
        Ok(Self { members, signature })
    }

    /// The members as a `T`.
    pub(crate) fn read<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        from_value(
            &format!("parse {what}"),
            Value::Object(self.members.clone()),
        )
    }

    /// Checks that `key` signed this record as it is.
    pub(crate) fn verify(&self, key: &VerifyingKey) -> Result<(), Unsigned> {
        let signature = self.signature.clone().ok_or(Unsigned::Missing)?;
        let signature: SignatureObject =
            serde_json::from_value(signature).map_err(|_| Unsigned::Invalid)?;
        let signable = canonical_json(&self.members).map_err(|_| Unsigned::Invalid)?;
        let verified = signature.verify(&signable, key);
        verified.map_err(|_| Unsigned::Invalid)
    }

    /// The hex SHA-256 of the public key that claims to have signed; empty when nobody does.
    pub(crate) fn key_id(&self) -> &str {
        let member = |name: &str| self.signature.as_ref()?.get(name)?.as_str();
        member("key_id").unwrap_or_default()
    }
}

/// The file of a record: its members in their own order, then its signature.
pub(crate) fn signed_file<T: Serialize>(record: &T, key: &SigningKey) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Signed<'a, T> {
        #[serde(flatten)]
        record: &'a T,
        signature: SignatureObject,
    }
    let signature = SignatureObject::sign(&canonical_json(record)?, key);
    json_file(&Signed { record, signature })
}

/// A record as files have it: indented, with a final line break.
pub(crate) fn json_file<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(record).map_err(|error| {
        Fault::new(
            Category::InternalFailure,
            "internal_failure",
            "write a record",
        )
        .caused_by(error)
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// When something that starts `now` and lasts `ttl` ends.
pub(crate) fn expiry(now: Timestamp, ttl: SignedDuration) -> Result<WireTime> {
    clock::check_set(now)?;
    if !ttl.is_positive() {
        return Err(invalid("ttl must be greater than 0"));
    }
    let end = now.checked_add(ttl);
    end.map(WireTime::at)
        .map_err(|error| invalid("ttl reaches past the end of time").caused_by(error))
}

/// Whether a schema field says nothing or `only`, as the format reads it.
pub(crate) fn is_schema(given: &str, only: &str) -> bool {
    given.is_empty() || given == only
}

/// Whether `text` is 64 hexadecimal digits, in either case, perhaps with spaces around.
pub(crate) fn is_digest(text: &str) -> bool {
    let text = text.trim();
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
