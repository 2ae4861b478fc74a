//! Content identifiers: CIDv1 over SHA-256, and nothing else.

use std::fmt;
use std::str::FromStr;

use multihash::Multihash;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use worldcompute_fault::{Fault, Result};

use crate::digest::Sha256;
use crate::refusal::{excerpt, malformed};

const SHA2_256: u64 = 0x12;
/// `b` and 58 base32 digits: every identifier of this kind has this length.
const TEXT_LENGTH: usize = 59;
/// Version, codec, hash function, hash length, digest.
const BYTE_LENGTH: usize = 36;

/// What the named bytes are (multicodec table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Bytes as they are, `0x55`.
    Raw,
    /// Deterministic CBOR, `0x71`.
    DagCbor,
}

impl Codec {
    const fn number(self) -> u64 {
        match self {
            Self::Raw => 0x55,
            Self::DagCbor => 0x71,
        }
    }

    const fn of_number(number: u64) -> Option<Self> {
        match number {
            0x55 => Some(Self::Raw),
            0x71 => Some(Self::DagCbor),
            _ => None,
        }
    }
}

/// The name of some bytes: CIDv1, SHA-256, spelled in lowercase base32 (59 characters, first `b`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid {
    codec: Codec,
    digest: Sha256,
}

impl Cid {
    /// Names `bytes` as they are.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::new(Codec::Raw, Sha256::of(bytes))
    }

    /// Names `bytes` that are deterministic CBOR.
    pub fn dag_cbor(bytes: impl AsRef<[u8]>) -> Self {
        Self::new(Codec::DagCbor, Sha256::of(bytes))
    }

    /// Names the bytes that have `digest`.
    pub const fn new(codec: Codec, digest: Sha256) -> Self {
        Self { codec, digest }
    }

    /// What the bytes are.
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// The digest of the bytes.
    pub const fn digest(&self) -> Sha256 {
        self.digest
    }

    /// Whether this is the name of `bytes`.
    pub fn matches(&self, bytes: impl AsRef<[u8]>) -> bool {
        Sha256::of(bytes) == self.digest
    }

    /// The binary form, 36 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let head = [1, self.codec.number() as u8, SHA2_256 as u8, 32];
        [head.as_slice(), self.digest.as_bytes()].concat()
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// `invalid_cid` for anything but those 36 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.len() != BYTE_LENGTH {
            return Err(refused("its binary form has 36 bytes"));
        }
        let cid =
            ::cid::Cid::try_from(bytes).map_err(|error| refused("unreadable").caused_by(error))?;
        Self::of_cid(&cid)
    }

    fn of_cid(cid: &::cid::Cid) -> Result<Self> {
        if cid.version() != ::cid::Version::V1 {
            return Err(refused("only version 1 is accepted"));
        }
        let codec = Codec::of_number(cid.codec()).ok_or_else(|| {
            refused("only the codecs raw (0x55) and dag-cbor (0x71) are accepted")
        })?;
        match <[u8; 32]>::try_from(cid.hash().digest()) {
            Ok(digest) if cid.hash().code() == SHA2_256 => {
                Ok(Self::new(codec, Sha256::from_bytes(digest)))
            }
            _ => Err(refused("only sha2-256 with 32 bytes is accepted")),
        }
    }
}

fn refused(why: &str) -> Fault {
    malformed("invalid_cid", format!("not a content identifier: {why}")).hint(
        "use a CIDv1 of sha2-256 in lowercase base32, 59 characters that start with bafk or bafy",
    )
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash =
            Multihash::<64>::wrap(SHA2_256, self.digest.as_bytes()).map_err(|_| fmt::Error)?;
        write!(f, "{}", ::cid::Cid::new_v1(self.codec.number(), hash))
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cid({self})")
    }
}

impl FromStr for Cid {
    type Err = Fault;

    /// Only the canonical spelling; else `invalid_cid`.
    fn from_str(text: &str) -> Result<Self> {
        if text.len() != TEXT_LENGTH {
            return Err(refused("it has 59 characters"));
        }
        let cid =
            ::cid::Cid::from_str(text).map_err(|error| refused(&excerpt(text)).caused_by(error))?;
        let read = Self::of_cid(&cid)?;
        if read.to_string() == text {
            Ok(read)
        } else {
            Err(refused("not in canonical base32"))
        }
    }
}

impl Serialize for Cid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `ipfs add --cid-version 1 --raw-leaves` of the five bytes `hello`.
    const HELLO: &str = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq";

    #[test]
    fn a_known_identifier_names_its_bytes() {
        let cid: Cid = HELLO.parse().unwrap();
        assert_eq!(cid, Cid::raw("hello"));
        assert!(cid.matches("hello") && !cid.matches("hellp"));
        assert_eq!(Cid::from_bytes(&cid.to_bytes()).unwrap(), cid);
    }

    #[test]
    fn the_codec_is_part_of_the_name() {
        let (raw, cbor) = (Cid::raw("x"), Cid::dag_cbor("x"));
        assert_ne!(raw, cbor);
        assert_ne!(raw.to_string(), cbor.to_string());
        assert!(cbor.to_string().starts_with("bafyrei"));
        assert_eq!(cbor.to_string().parse::<Cid>().unwrap(), cbor);
    }

    #[test]
    fn other_spellings_versions_codecs_and_hashes_are_refused() {
        let upper = format!("B{}", HELLO[1..].to_uppercase());
        let last_bits = format!("{}r", &HELLO[..58]);
        let of = |head: [u8; 4]| [head.as_slice(), Sha256::of("x").as_bytes()].concat();
        let texts = [
            upper.as_str(),
            last_bits.as_str(),
            "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
            &HELLO[1..],
            "",
            "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        ];
        for text in texts {
            assert_eq!(
                text.parse::<Cid>().unwrap_err().code(),
                "invalid_cid",
                "{text:?}"
            );
        }
        let heads = [
            [0, 0x55, 0x12, 32],
            [2, 0x55, 0x12, 32],
            [1, 0x70, 0x12, 32],
            [1, 0x55, 0x1b, 32],
            [1, 0x55, 0x12, 31],
        ];
        for head in heads {
            assert!(Cid::from_bytes(&of(head)).is_err(), "{head:?}");
        }
        assert!(Cid::from_bytes(&of([1, 0x55, 0x12, 32])).is_ok());
    }

    proptest! {
        #[test]
        fn every_identifier_survives_both_forms(bytes: Vec<u8>) {
            for cid in [Cid::raw(&bytes), Cid::dag_cbor(&bytes)] {
                prop_assert_eq!(cid.to_string().parse::<Cid>().unwrap(), cid);
                prop_assert_eq!(cid.to_string().len(), TEXT_LENGTH);
                prop_assert_eq!(Cid::from_bytes(&cid.to_bytes()).unwrap(), cid);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,70}|b[a-z2-7]{58}|[bBzm][a-zA-Z0-9]{58}") {
            if let Ok(cid) = text.parse::<Cid>() {
                prop_assert_eq!(cid.to_string(), text);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(cid) = Cid::from_bytes(&bytes) {
                prop_assert_eq!(cid.to_bytes(), bytes);
            }
        }
    }
}
