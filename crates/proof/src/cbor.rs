//! Deterministic CBOR (RFC 8949, 4.2.1), the part of it that DAG-CBOR shares: no tags, no NaN, no infinity.

use ciborium::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;
use worldcompute_fault::{Fault, Result};

use crate::refusal::{malformed, unproven};

/// The largest CBOR item read, in bytes.
pub const MAX_CBOR_BYTES: usize = 16 << 20;
/// How deep arrays and maps may nest.
pub const MAX_CBOR_DEPTH: usize = 64;

/// The deterministic CBOR of `value`: shortest integers, floats and lengths, definite lengths, map keys
/// in bytewise order of their encoding.
///
/// # Errors
/// `not_canonical_cbor` when it has no such form: a map key twice, a float that is not finite, an
/// integer beyond 64 bits, nesting deeper than [`MAX_CBOR_DEPTH`].
pub fn canonical_cbor<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let tree = Value::serialized(value).map_err(|error| no_form(&error.to_string()))?;
    encode(&ordered(tree, 0)?)
}

/// Reads a `T` from the one encoding that [`canonical_cbor`] gives for it.
///
/// # Errors
/// `invalid_cbor` when it is no `T` or too large; `not_canonical_cbor` when it is encoded in any other
/// way, which includes map entries that `T` does not know and bytes after the item.
pub fn from_canonical_cbor<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if bytes.len() > MAX_CBOR_BYTES {
        return Err(malformed("invalid_cbor", format!("CBOR of {} bytes exceeds the limit of {MAX_CBOR_BYTES}", bytes.len())));
    }
    let value: T = ciborium::de::from_reader_with_recursion_limit(bytes, MAX_CBOR_DEPTH + 1)
        .map_err(|error| malformed("invalid_cbor", format!("not the expected CBOR: {error}")))?;
    if canonical_cbor(&value)? == bytes {
        Ok(value)
    } else {
        Err(unproven("not_canonical_cbor", "the bytes are not the deterministic CBOR (RFC 8949, 4.2.1) of their value"))
    }
}

fn ordered(value: Value, depth: usize) -> Result<Value> {
    if depth > MAX_CBOR_DEPTH {
        return Err(no_form("nested too deep"));
    }
    match value {
        Value::Array(items) => {
            items.into_iter().map(|item| ordered(item, depth + 1)).collect::<Result<_>>().map(Value::Array)
        }
        Value::Map(entries) => ordered_map(entries, depth + 1),
        Value::Float(number) if !number.is_finite() => Err(no_form("a float is not finite")),
        Value::Tag(..) => Err(no_form("tags, and so integers beyond 64 bits, are not used")),
        plain => Ok(plain),
    }
}

fn ordered_map(entries: Vec<(Value, Value)>, depth: usize) -> Result<Value> {
    let mut keyed = entries
        .into_iter()
        .map(|(key, value)| {
            let key = ordered(key, depth)?;
            Ok((encode(&key)?, key, ordered(value, depth)?))
        })
        .collect::<Result<Vec<_>>>()?;
    keyed.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    if keyed.windows(2).any(|pair| matches!(pair, [(a, ..), (b, ..)] if a == b)) {
        return Err(no_form("a map key appears twice"));
    }
    Ok(Value::Map(keyed.into_iter().map(|(_, key, value)| (key, value)).collect()))
}

fn encode(value: &Value) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).map_err(|error| no_form(&error.to_string()))?;
    Ok(bytes)
}

fn no_form(why: &str) -> Fault {
    malformed("not_canonical_cbor", format!("no deterministic CBOR form: {why}"))
}
