//! Standard base64 with padding (RFC 4648, section 4) in its one canonical spelling.

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use worldcompute_fault::{Fault, Result};
use zeroize::Zeroizing;

use crate::refusal::malformed;

pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Appends the encoding to `text`, which does not grow if it has room.
pub(crate) fn encode_into(bytes: &[u8], text: &mut String) {
    STANDARD.encode_string(bytes, text);
}

/// Decodes; refuses the URL alphabet, missing padding, white space and stray trailing bits.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD
        .decode(text)
        .map_err(|error| refused().caused_by(error))
}

/// Decodes exactly `N` bytes, which may be key material: no copy of them outlives the result.
pub(crate) fn decode_exact<const N: usize>(text: &str) -> Result<Zeroizing<[u8; N]>> {
    let bytes = Zeroizing::new(decode(text)?);
    match <[u8; N]>::try_from(bytes.as_slice()) {
        Ok(exact) => Ok(Zeroizing::new(exact)),
        Err(_) => Err(malformed(
            "invalid_base64",
            format!("expected base64 of {N} bytes, found {}", bytes.len()),
        )),
    }
}

fn refused() -> Fault {
    malformed(
        "invalid_base64",
        "not canonical standard base64 with padding",
    )
}

/// A byte vector spelled as base64 in JSON: use with `#[serde(with = "crate::base64::vec")]`.
pub(crate) mod vec {
    use std::borrow::Cow;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        super::decode(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4648_vectors_decode_and_encode() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in vectors {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
    }

    #[test]
    fn other_spellings_of_the_same_bytes_are_refused() {
        for text in [
            "Zg", "Zg=", "Zh==", "Zg==\n", " Zg==", "Zg===", "-_-_", "Zm9v=", "Z g=", "Zm8=Zm8=",
        ] {
            assert_eq!(
                decode(text).unwrap_err().code(),
                "invalid_base64",
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_wrong_length_is_refused() {
        assert!(decode_exact::<4>("Zm9v").is_err());
        assert!(decode_exact::<2>("Zm9v").is_err());
        assert_eq!(*decode_exact::<3>("Zm9v").unwrap(), *b"foo");
    }
}
