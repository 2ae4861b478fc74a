//! JSON with one spelling per value (RFC 8785) and no room for two readers to disagree (RFC 7493).

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::{Map, Number, Value};
use worldcompute_fault::{Fault, Result};

use crate::refusal::{excerpt, malformed, unproven};

/// The largest JSON text read, in bytes.
pub const MAX_JSON_BYTES: usize = 16 << 20;
/// How deep arrays and objects may nest.
pub const MAX_JSON_DEPTH: usize = 64;
/// The largest integer that every reader of JSON understands alike: 2^53 - 1 (RFC 7493, 2.2).
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The RFC 8785 bytes of `value`.
///
/// # Errors
/// `not_canonical_json` when it has no JSON form (NaN, infinity, keys that are not text, a key twice);
/// `inexact_number` for an integer beyond ±(2^53 - 1), which RFC 8785 would silently round.
pub fn canonical_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let bytes = serde_json_canonicalizer::to_vec(&value).map_err(no_json_form)?;
    if may_hold_inexact_integer(&bytes) {
        refuse_inexact_integers(&serde_json::to_value(value).map_err(no_json_form)?)?;
    }
    Ok(bytes)
}

/// The RFC 8785 bytes of a JSON text, which is read as [`parse_json_strict`] reads it.
///
/// # Errors
/// `invalid_json`.
pub fn canonicalize_json(text: &[u8]) -> Result<Vec<u8>> {
    canonical_json(&parse_json_strict(text)?)
}

/// Reads a JSON text of at most [`MAX_JSON_BYTES`].
///
/// Refuses what readers are known to disagree on: a key twice, lone surrogates, invalid UTF-8, a byte
/// order mark, bytes after the value, numbers outside of IEEE 754 doubles, nesting deeper than
/// [`MAX_JSON_DEPTH`]. An integer beyond ±(2^53 - 1) becomes the nearest double, as RFC 8785 reads it.
///
/// # Errors
/// `invalid_json`.
pub fn parse_json_strict(text: &[u8]) -> Result<Value> {
    parse_json_within(text, MAX_JSON_BYTES)
}

/// [`parse_json_strict`] with the caller's own limit on the size of the text, in bytes.
///
/// # Errors
/// `invalid_json`.
pub fn parse_json_within(text: &[u8], limit: usize) -> Result<Value> {
    check_size(text, limit)?;
    if text.starts_with(b"\xef\xbb\xbf") {
        return Err(malformed("invalid_json", "JSON must not start with a byte order mark"));
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth: 0 }.deserialize(&mut reader).map_err(invalid)?;
    reader.end().map_err(invalid)?;
    Ok(value)
}

/// Reads a `T` from the one text that [`canonical_json`] gives for it, of at most `limit` bytes.
///
/// # Errors
/// `invalid_json` when it is no `T`; `not_canonical_json` when it is spelled in any other way,
/// which includes members that `T` does not know.
pub fn from_canonical_json<T: Serialize + DeserializeOwned>(text: &[u8], limit: usize) -> Result<T> {
    check_size(text, limit)?;
    let value: T = serde_json::from_slice(text).map_err(invalid)?;
    if canonical_json(&value)? == text {
        Ok(value)
    } else {
        Err(unproven("not_canonical_json", "the bytes are not the canonical JSON (RFC 8785) of their value"))
    }
}

fn check_size(text: &[u8], limit: usize) -> Result<()> {
    if text.len() <= limit {
        return Ok(());
    }
    Err(malformed("invalid_json", format!("JSON of {} bytes exceeds the limit of {limit}", text.len())))
}

fn invalid(error: serde_json::Error) -> Fault {
    malformed("invalid_json", format!("not strict JSON: {error}"))
}

fn no_json_form(error: serde_json::Error) -> Fault {
    malformed("not_canonical_json", format!("no canonical JSON form: {error}"))
}

/// An integer that no double holds exactly has 16 digits or more, so most values need no second look.
fn may_hold_inexact_integer(canonical: &[u8]) -> bool {
    canonical.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()).any(|run| {
        run.len() >= 16 && run.first().is_some_and(u8::is_ascii_digit)
    })
}

fn refuse_inexact_integers(value: &Value) -> Result<()> {
    match value {
        Value::Number(number) if !is_exact(number) => Err(malformed(
            "inexact_number",
            format!("the integer {number} is beyond 2^53 - 1 and would be rounded in JSON"),
        )
        .hint("keep it within ±9007199254740991 or write it as a string")),
        Value::Array(items) => items.iter().try_for_each(refuse_inexact_integers),
        Value::Object(members) => members.values().try_for_each(refuse_inexact_integers),
        _ => Ok(()),
    }
}

/// Floats are doubles already; integers must be safe.
fn is_exact(number: &Number) -> bool {
    match (number.as_u64(), number.as_i64()) {
        (Some(integer), _) => integer <= MAX_SAFE_INTEGER,
        (None, Some(integer)) => integer.unsigned_abs() <= MAX_SAFE_INTEGER,
        (None, None) => number.is_f64(),
    }
}

/// Builds a [`Value`] and refuses what `serde_json` would let pass.
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth < MAX_JSON_DEPTH {
            return Ok(Self { depth: self.depth + 1 });
        }
        Err(E::custom(format_args!("nested deeper than {MAX_JSON_DEPTH}")))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        if value <= MAX_SAFE_INTEGER { Ok(value.into()) } else { self.visit_f64(value as f64) }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() <= MAX_SAFE_INTEGER { Ok(value.into()) } else { self.visit_f64(value as f64) }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper()?)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("key {} appears twice", excerpt(&key))));
            }
            let value = members.next_value_seed(self.deeper()?)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
