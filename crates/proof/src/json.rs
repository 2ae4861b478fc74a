//! JSON with one spelling per value (RFC 8785) and no room for two readers to disagree (RFC 7493).

mod jcs;
mod wiped;

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Number, Value};
use worldcompute_fault::{Fault, Result};

pub use self::wiped::wipe;
use crate::refusal::{excerpt, malformed, unproven};

/// The largest JSON text read, in bytes.
pub const MAX_JSON_BYTES: usize = 16 << 20;
/// How deep arrays and objects may nest.
pub const MAX_JSON_DEPTH: usize = 64;
/// The largest integer that every reader of JSON understands alike: 2^53 - 1 (RFC 7493, 2.2).
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The RFC 8785 bytes of `value`. They are the only copy that it leaves of texts that are values: members of objects too,
/// and whatever is outgrown on the way, are wiped.
///
/// # Errors
/// `not_canonical_json` when it has no JSON form (NaN, infinity, keys that are not text, a key
/// twice, nesting deeper than [`MAX_JSON_DEPTH`]);
/// `inexact_number` for an integer beyond ±(2^53 - 1), which RFC 8785 would silently round.
pub fn canonical_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    jcs::to_vec(value)
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
        return Err(malformed(
            "invalid_json",
            "JSON must not start with a byte order mark",
        ));
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth: 0 }
        .deserialize(&mut reader)
        .map_err(invalid)?;
    reader.end().map_err(invalid)?;
    Ok(value)
}

/// A JSON value that is read as [`parse_json_strict`] reads it, for those who read a long text piece by piece.
#[derive(Clone, Debug, PartialEq)]
pub struct StrictJson(pub Value);

impl<'de> Deserialize<'de> for StrictJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Strict { depth: 0 }.deserialize(deserializer).map(Self)
    }
}

/// Reads a `T` from the one text that [`canonical_json`] gives for it, of at most `limit` bytes.
///
/// # Errors
/// `invalid_json` when it is no `T`; `not_canonical_json` when it is spelled in any other way,
/// which includes members that `T` does not know.
pub fn from_canonical_json<T: Serialize + DeserializeOwned>(
    text: &[u8],
    limit: usize,
) -> Result<T> {
    check_size(text, limit)?;
    let value: T = serde_json::from_slice(text).map_err(invalid)?;
    if canonical_json(&value)? == text {
        Ok(value)
    } else {
        Err(unproven(
            "not_canonical_json",
            "the bytes are not the canonical JSON (RFC 8785) of their value",
        ))
    }
}

fn check_size(text: &[u8], limit: usize) -> Result<()> {
    if text.len() <= limit {
        return Ok(());
    }
    Err(malformed(
        "invalid_json",
        format!("JSON of {} bytes exceeds the limit of {limit}", text.len()),
    ))
}

fn invalid(error: serde_json::Error) -> Fault {
    malformed("invalid_json", format!("not strict JSON: {error}"))
}

/// Builds a [`Value`] and refuses what `serde_json` would let pass.
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth < MAX_JSON_DEPTH {
            return Ok(Self {
                depth: self.depth + 1,
            });
        }
        Err(E::custom(format_args!(
            "nested deeper than {MAX_JSON_DEPTH}"
        )))
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
        if value <= MAX_SAFE_INTEGER {
            Ok(value.into())
        } else {
            self.visit_f64(value as f64)
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() <= MAX_SAFE_INTEGER {
            Ok(value.into())
        } else {
            self.visit_f64(value as f64)
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
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
                return Err(A::Error::custom(format_args!(
                    "key {} appears twice",
                    excerpt(&key)
                )));
            }
            let value = members.next_value_seed(self.deeper()?)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn refused(text: impl AsRef<[u8]>) -> Fault {
        let text = text.as_ref();
        parse_json_strict(text).expect_err(&String::from_utf8_lossy(text))
    }

    #[test]
    fn what_readers_disagree_on_is_refused() {
        let texts: [&[u8]; 18] = [
            b"{\"a\":1,\"a\":1}",
            b"{\"a\":{\"b\":1,\"\\u0062\":2}}",
            b"\"\\ud800\"",
            b"\"\\udc00\\ud800\"",
            b"\"\xff\"",
            b"\"\xed\xa0\x80\"",
            b"\xef\xbb\xbf{}",
            b"{} {}",
            b"{}\0",
            b"[1,]",
            b"01",
            b"+1",
            b"1e400",
            b"-1e400",
            b"NaN",
            b"'a'",
            b"\"\n\"",
            b"/**/1",
        ];
        for text in texts {
            assert_eq!(refused(text).code(), "invalid_json");
        }
    }

    #[test]
    fn a_value_read_piece_by_piece_is_read_as_strictly() {
        let read = |text: &str| serde_json::from_str::<Vec<StrictJson>>(text);
        assert_eq!(read("[{\"a\":1}]").unwrap(), [StrictJson(json!({"a": 1}))]);
        for text in [
            "[{\"a\":1,\"a\":1}]",
            "[1e400]",
            &"[".repeat(MAX_JSON_DEPTH + 3),
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_of_another_spelling_is_the_same_key() {
        assert!(
            refused(br#"{"a":1,"\u0061":2}"#)
                .message()
                .contains("appears twice")
        );
    }

    #[test]
    fn a_hostile_key_is_quoted_short_and_escaped() {
        let key = format!("\\u001b[2J{}", "x".repeat(1000));
        let message = refused(format!("{{\"{key}\":1,\"{key}\":2}}"))
            .message()
            .to_owned();
        assert!(
            message.len() < 250 && !message.contains('\u{1b}'),
            "{message}"
        );
    }

    #[test]
    fn nesting_is_read_to_the_limit_and_refused_past_it() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |depth: usize| format!("{}0{}", open.repeat(depth), close.repeat(depth));
            assert!(parse_json_strict(nested(MAX_JSON_DEPTH).as_bytes()).is_ok());
            assert!(
                refused(nested(MAX_JSON_DEPTH + 1))
                    .message()
                    .contains("nested deeper")
            );
            assert_eq!(refused(open.repeat(1_000_000)).code(), "invalid_json");
        }
    }

    #[test]
    fn size_is_read_to_the_limit_and_refused_past_it() {
        assert!(parse_json_within(b"[10]", 4).is_ok());
        assert!(
            parse_json_within(b"[100]", 4)
                .unwrap_err()
                .message()
                .contains("limit of 4")
        );
        assert!(
            from_canonical_json::<u8>(b"100", 2)
                .unwrap_err()
                .message()
                .contains("limit of 2")
        );
    }

    #[test]
    fn an_integer_that_json_would_round_is_refused_when_written() {
        let limit = MAX_SAFE_INTEGER;
        assert_eq!(canonical_json(&limit).unwrap(), b"9007199254740991");
        assert_eq!(
            canonical_json(&-(limit as i64)).unwrap(),
            b"-9007199254740991"
        );
        for inexact in [
            json!(limit + 1),
            json!(-(limit as i64) - 1),
            json!({"a": [u64::MAX]}),
            json!(1_u64 << 60),
        ] {
            assert_eq!(
                canonical_json(&inexact).unwrap_err().code(),
                "inexact_number",
                "{inexact}"
            );
        }
        assert!(canonical_json(&u128::MAX).is_err());
    }

    #[test]
    fn digits_in_text_and_large_floats_are_no_inexact_integers() {
        assert_eq!(
            canonical_json("99999999999999999999").unwrap(),
            b"\"99999999999999999999\""
        );
        assert_eq!(canonical_json(&1e20).unwrap(), b"100000000000000000000");
        assert_eq!(
            canonicalize_json(b"[18446744073709551615]").unwrap(),
            b"[18446744073709552000]"
        );
    }

    #[test]
    fn what_has_no_json_form_is_refused() {
        assert_eq!(
            canonical_json(&f64::NAN).unwrap_err().code(),
            "not_canonical_json"
        );
        assert_eq!(
            canonical_json(&f64::INFINITY).unwrap_err().code(),
            "not_canonical_json"
        );
        assert!(canonical_json(&HashMap::from([(vec![1], 1)])).is_err());
    }

    #[test]
    fn only_the_canonical_spelling_is_read_as_canonical() {
        type Map = std::collections::BTreeMap<String, f64>;
        assert_eq!(
            from_canonical_json::<Map>(br#"{"a":1,"b":0.5}"#, 100)
                .unwrap()
                .len(),
            2
        );
        let others: [&[u8]; 7] = [
            br#"{"b":0.5,"a":1}"#,
            br#"{"a":1, "b":0.5}"#,
            br#"{"a":1.0,"b":0.5}"#,
            br#"{"a":1,"b":5e-1}"#,
            br#"{"\u0061":1,"b":0.5}"#,
            br#"{"a":7,"a":1,"b":0.5}"#,
            b"{\"a\":1,\"b\":0.5}\n",
        ];
        for text in others {
            let code = from_canonical_json::<Map>(text, 100)
                .unwrap_err()
                .code()
                .to_owned();
            assert_eq!(
                code,
                "not_canonical_json",
                "{}",
                String::from_utf8_lossy(text)
            );
        }
    }

    #[test]
    fn a_member_that_the_type_does_not_know_is_refused() {
        #[derive(Serialize, serde::Deserialize)]
        struct Open {
            a: u8,
        }
        assert_eq!(
            from_canonical_json::<Open>(br#"{"a":1}"#, 100).unwrap().a,
            1
        );
        let fault = from_canonical_json::<Open>(br#"{"a":1,"b":2}"#, 100)
            .err()
            .unwrap();
        assert_eq!(fault.code(), "not_canonical_json");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..=MAX_SAFE_INTEGER).prop_map(Value::from),
            (-(MAX_SAFE_INTEGER as i64)..0).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_text_is_a_fixed_point(value in any_json()) {
            let canonical = canonical_json(&value).unwrap();
            prop_assert_eq!(canonicalize_json(&canonical).unwrap(), canonical.clone());
            let spaced = serde_json::to_vec_pretty(&value).unwrap();
            prop_assert_eq!(canonicalize_json(&spaced).unwrap(), canonical);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = parse_json_strict(&bytes);
        }

        #[test]
        fn what_is_read_has_a_canonical_form(text in r#"[\[\]{}:,"\\u0-9a-f.eE+\- ntrsl]{0,40}"#) {
            if let Ok(value) = parse_json_strict(text.as_bytes()) {
                prop_assert!(canonical_json(&value).is_ok());
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "stricter than serde_json");
            }
        }
    }
}
