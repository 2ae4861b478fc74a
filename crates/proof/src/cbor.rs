//! Deterministic CBOR (RFC 8949, 4.2.1), the part of it that DAG-CBOR shares: no tags, no NaN, no infinity.

use std::io;

use ciborium::{Value, de, ser, value};
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
    let tree = Value::serialized(value).map_err(|value::Error::Custom(why)| no_form(&why))?;
    encode(&ordered(tree, 0)?)
}

/// Reads a `T` from the one encoding that [`canonical_cbor`] gives for it.
///
/// # Errors
/// `invalid_cbor` when it is no `T` or too large; `not_canonical_cbor` when it is encoded in any other
/// way, which includes map entries that `T` does not know and bytes after the item.
pub fn from_canonical_cbor<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if bytes.len() > MAX_CBOR_BYTES {
        return Err(malformed(
            "invalid_cbor",
            format!(
                "CBOR of {} bytes exceeds the limit of {MAX_CBOR_BYTES}",
                bytes.len()
            ),
        ));
    }
    let value: T = ciborium::de::from_reader_with_recursion_limit(bytes, MAX_CBOR_DEPTH + 1)
        .map_err(|error| {
            malformed(
                "invalid_cbor",
                format!("not the expected CBOR: {}", in_words(&error)),
            )
        })?;
    if canonical_cbor(&value)? == bytes {
        Ok(value)
    } else {
        Err(unproven(
            "not_canonical_cbor",
            "the bytes are not the deterministic CBOR (RFC 8949, 4.2.1) of their value",
        ))
    }
}

fn ordered(value: Value, depth: usize) -> Result<Value> {
    if depth > MAX_CBOR_DEPTH {
        return Err(no_form("nested too deep"));
    }
    match value {
        Value::Array(items) => items
            .into_iter()
            .map(|item| ordered(item, depth + 1))
            .collect::<Result<_>>()
            .map(Value::Array),
        Value::Map(entries) => ordered_map(entries, depth + 1),
        Value::Float(number) if !number.is_finite() => Err(no_form("a float is not finite")),
        Value::Tag(..) => Err(no_form(
            "tags, and so integers beyond 64 bits, are not used",
        )),
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
    if keyed
        .windows(2)
        .any(|pair| matches!(pair, [(a, ..), (b, ..)] if a == b))
    {
        return Err(no_form("a map key appears twice"));
    }
    Ok(Value::Map(
        keyed
            .into_iter()
            .map(|(_, key, value)| (key, value))
            .collect(),
    ))
}

fn encode(value: &Value) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).map_err(|error| match error {
        ser::Error::Io(error) => no_form(&error.to_string()),
        ser::Error::Value(why) => no_form(&why),
    })?;
    Ok(bytes)
}

/// The library shows its errors as Rust values. Bytes in memory can only fail to be read by ending.
fn in_words(error: &de::Error<io::Error>) -> String {
    match error {
        de::Error::Io(_) => "it ends too early".to_owned(),
        de::Error::Syntax(at) => format!("byte {at} begins nothing that CBOR knows"),
        de::Error::Semantic(Some(at), why) => format!("at byte {at}: {why}"),
        de::Error::Semantic(None, why) => why.clone(),
        de::Error::RecursionLimitExceeded => "nested too deep".to_owned(),
    }
}

fn no_form(why: &str) -> Fault {
    malformed(
        "not_canonical_cbor",
        format!("no deterministic CBOR form: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    fn hex_of<T: Serialize>(value: T) -> String {
        hex::encode(canonical_cbor(&value).unwrap())
    }

    fn read<T: Serialize + DeserializeOwned>(hex: &str) -> Result<T> {
        from_canonical_cbor(&hex::decode(hex).unwrap())
    }

    #[test]
    fn rfc_8949_appendix_a_examples_hold() {
        assert_eq!(hex_of(23), "17");
        assert_eq!(hex_of(24), "1818");
        assert_eq!(hex_of(1000), "1903e8");
        assert_eq!(hex_of(u64::MAX), "1bffffffffffffffff");
        assert_eq!(hex_of(-1000), "3903e7");
        assert_eq!(hex_of(1.5), "f93e00");
        assert_eq!(hex_of(100_000.0), "fa47c35000");
        assert_eq!(hex_of(1.1), "fb3ff199999999999a");
        assert_eq!(hex_of(true), "f5");
        assert_eq!(hex_of("\u{6c34}"), "63e6b0b4");
        assert_eq!(hex_of([1, 2, 3]), "83010203");
        assert_eq!(hex_of(Option::<u8>::None), "f6");
        assert_eq!(
            hex_of(BTreeMap::from([("b", 2), ("a", 1)])),
            "a2616101616202"
        );
    }

    #[test]
    fn map_keys_stand_in_bytewise_order_of_their_encoding() {
        assert_eq!(
            hex_of(BTreeMap::from([("aa", 1), ("b", 2)])),
            "a261620262616101"
        );
        // RFC 8949, 4.2.1: 10, 100, -1.
        assert_eq!(
            hex_of(BTreeMap::from([(-1, 0), (10, 0), (100, 0)])),
            "a30a001864002000"
        );
    }

    #[test]
    fn other_encodings_of_the_same_value_are_refused() {
        type Map = BTreeMap<String, u8>;
        assert_eq!(read::<Map>("a2616101616202").unwrap().len(), 2);
        let others = [
            "a2616202616101",
            "b8026161016162026162",
            "a261610118186202",
            "bf616101616202ff",
            "a26161180161620200",
            "a3616100616101616202",
            "a2616101616202f6",
            "c1a2616101616202",
        ];
        for hex in others {
            assert!(read::<Map>(hex).is_err(), "{hex}");
        }
        assert_eq!(read::<u8>("1817").unwrap_err().code(), "not_canonical_cbor");
        assert_eq!(
            read::<f64>("fb3ff8000000000000").unwrap_err().code(),
            "not_canonical_cbor"
        );
        assert_eq!(
            read::<String>("7f6161ff").unwrap_err().code(),
            "not_canonical_cbor"
        );
    }

    #[test]
    fn what_has_no_deterministic_form_is_refused() {
        for code in [canonical_cbor(&f64::NAN), canonical_cbor(&f32::INFINITY)] {
            assert_eq!(code.unwrap_err().code(), "not_canonical_cbor");
        }
        assert!(canonical_cbor(&u128::MAX).is_err());
        assert!(
            canonical_cbor(&Value::Map(vec![
                (1.into(), 1.into()),
                (1.into(), 2.into())
            ]))
            .is_err()
        );
    }

    #[test]
    fn an_entry_that_the_type_does_not_know_is_refused() {
        #[derive(Serialize, Deserialize, Debug)]
        struct Open {
            a: u8,
        }
        assert_eq!(read::<Open>("a1616101").unwrap().a, 1);
        assert_eq!(
            read::<Open>("a2616101616202").unwrap_err().code(),
            "not_canonical_cbor"
        );
    }

    #[test]
    fn a_refusal_speaks_of_the_bytes_and_not_of_the_librarys_types() {
        let cases = [
            ("61", "it ends too early"),
            ("1c", "byte 0 begins nothing that CBOR knows"),
            ("f6", "expected string"),
        ];
        for (hex, words) in cases {
            let fault = read::<String>(hex).unwrap_err();
            assert!(fault.message().ends_with(words), "{}", fault.message());
        }
        let deep = read::<Value>(&"81".repeat(MAX_CBOR_DEPTH + 2)).unwrap_err();
        assert!(
            deep.message().ends_with("nested too deep"),
            "{}",
            deep.message()
        );
        let unserialisable = canonical_cbor(&Refusing).unwrap_err();
        assert!(unserialisable.message().ends_with(": it refuses"));
    }

    /// Has no form at all.
    struct Refusing;

    impl Serialize for Refusing {
        fn serialize<S: serde::Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it refuses"))
        }
    }

    #[test]
    fn nesting_is_read_to_the_limit_and_refused_past_it() {
        let nested = |depth: usize| hex::encode([vec![0x81; depth], vec![0]].concat());
        assert!(read::<Value>(&nested(MAX_CBOR_DEPTH)).is_ok());
        assert!(read::<Value>(&nested(MAX_CBOR_DEPTH + 1)).is_err());
        assert!(read::<Value>(&"81".repeat(100_000)).is_err());
    }

    #[test]
    fn size_is_refused_past_the_limit() {
        let bytes = |length| canonical_cbor(&Value::Bytes(vec![0; length])).unwrap();
        assert!(from_canonical_cbor::<Value>(&bytes(MAX_CBOR_BYTES - 5)).is_ok());
        assert!(from_canonical_cbor::<Value>(&bytes(MAX_CBOR_BYTES - 4)).is_err());
    }

    #[test]
    fn a_length_that_promises_more_than_there_is_costs_nothing() {
        for head in ["9b", "bb", "5b", "7b"] {
            assert!(read::<Value>(&format!("{head}ffffffffffffffff")).is_err());
            assert!(read::<Value>(&format!("{head}0000ffffffffffff00")).is_err());
        }
    }

    fn any_cbor() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>()
                .prop_filter("finite", |number| number.is_finite())
                .prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            any::<Vec<u8>>().prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(5, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(|map| {
                    Value::Map(map.into_iter().map(|(k, v)| (k.into(), v)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_bytes_read_back_to_themselves(value in any_cbor()) {
            let bytes = canonical_cbor(&value).unwrap();
            let read: Value = from_canonical_cbor(&bytes).unwrap();
            prop_assert_eq!(canonical_cbor(&read).unwrap(), bytes);
        }

        #[test]
        fn any_bytes_are_read_as_canonical_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = from_canonical_cbor::<Value>(&bytes) {
                prop_assert_eq!(canonical_cbor(&value).unwrap(), bytes);
            }
        }
    }
}
