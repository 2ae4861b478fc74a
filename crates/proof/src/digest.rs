//! SHA-256 (FIPS 180-4) as a value.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::Digest as _;
use worldcompute_fault::{Fault, Result};

use crate::refusal::malformed;

/// A SHA-256 digest, spelled as 64 lowercase hexadecimal digits in text and JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The digest and the length of all that `reader` gives, in constant memory.
    ///
    /// # Errors
    /// The reader's own.
    pub fn of_reader(reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hasher = Hasher::new();
        let length = io::copy(&mut { reader }, &mut hasher)?;
        Ok((hasher.finish(), length))
    }

    /// A digest computed elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// SHA-256 over bytes that come in pieces; also an [`io::Write`].
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next piece.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes);
    }

    /// The digest of all pieces in order.
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl FromStr for Sha256 {
    type Err = Fault;

    /// Only 64 lowercase hexadecimal digits; else `invalid_digest`.
    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        let lowercase = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if lowercase => Ok(Self(bytes)),
            _ => Err(malformed(
                "invalid_digest",
                "a SHA-256 digest is 64 lowercase hexadecimal digits",
            )),
        }
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn fips_180_vectors_hold() {
        assert_eq!(Sha256::of("abc").to_string(), ABC);
        assert_eq!(
            Sha256::of("").to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn a_stream_has_the_digest_of_its_bytes() {
        let bytes = vec![7; 100_000];
        assert_eq!(
            Sha256::of_reader(bytes.as_slice()).unwrap(),
            (Sha256::of(&bytes), 100_000)
        );
    }

    #[test]
    fn only_one_spelling_is_read() {
        assert_eq!(ABC.parse::<Sha256>().unwrap(), Sha256::of("abc"));
        for text in [
            &ABC.to_uppercase(),
            &ABC[1..],
            &format!("{ABC}00"),
            &ABC.replace('b', "g"),
            "",
        ] {
            assert_eq!(
                text.parse::<Sha256>().unwrap_err().code(),
                "invalid_digest",
                "{text:?}"
            );
        }
    }
}
