//! The name a key has on the mesh: a libp2p peer id that carries the Ed25519 key itself.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use worldcompute_fault::{Fault, Result};

use crate::refusal::malformed;
use crate::verifying::VerifyingKey;

/// An identity multihash (code 0, 36 bytes) of the protobuf `{type: Ed25519, data: 32 bytes}` (libp2p peer-ids spec).
const HEAD: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
/// `12D3KooW` and 44 more characters: every peer id of this kind has this length.
const TEXT_LENGTH: usize = 52;

/// A libp2p peer id of an Ed25519 key, spelled in base58btc (`12D3KooW...`). Ordered by the key's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PeerId(VerifyingKey);

impl PeerId {
    /// The key that this id carries.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.0
    }

    /// The binary form that libp2p uses, 38 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        [HEAD.as_slice(), &self.0.to_bytes()].concat()
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// `invalid_peer_id` for anything but an Ed25519 key's; `invalid_key` for a key that proves nothing.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let key = bytes.strip_prefix(&HEAD).ok_or_else(refused)?;
        VerifyingKey::from_bytes(key.try_into().map_err(|_| refused())?).map(Self)
    }
}

fn refused() -> Fault {
    malformed("invalid_peer_id", "not the peer id of an Ed25519 key")
        .hint("a peer id has 52 characters and starts with 12D3KooW")
}

impl From<&VerifyingKey> for PeerId {
    fn from(key: &VerifyingKey) -> Self {
        Self(*key)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.to_bytes()).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl FromStr for PeerId {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() != TEXT_LENGTH {
            return Err(refused());
        }
        let bytes = bs58::decode(text)
            .into_vec()
            .map_err(|error| refused().caused_by(error))?;
        Self::from_bytes(&bytes)
    }
}

impl PartialOrd for PeerId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PeerId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.to_bytes().cmp(&other.0.to_bytes())
    }
}

impl Hash for PeerId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerId {
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
    use crate::SigningKey;

    /// The Ed25519 vectors of libp2p's peer-ids and http-peer-id-auth specifications: seed, peer id.
    const VECTORS: [(&str, &str); 2] = [
        (
            "0000000000000000000000000000000000000000000000000000000000000000",
            "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
        ),
        (
            "7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d",
            "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
        ),
    ];

    #[test]
    fn libp2p_vectors_hold_both_ways() {
        for (seed, expected) in VECTORS {
            let key = SigningKey::from_seed(hex::decode(seed).unwrap().try_into().unwrap());
            assert_eq!(key.peer_id().to_string(), expected);
            assert_eq!(
                expected.parse::<PeerId>().unwrap().verifying_key(),
                key.verifying_key()
            );
        }
    }

    #[test]
    fn ids_of_other_keys_and_other_text_are_refused() {
        let small_order = bs58::encode([HEAD.as_slice(), &[1], &[0; 31]].concat()).into_string();
        let texts = [
            "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
            "16Uiu2HAmLhLvBoYaoZfaMUKuibM6ac163GwKY74c5kiSLg5KvLpY",
            "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3p",
            "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3p0",
            " 12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
            "",
            &small_order,
        ];
        for text in texts {
            assert!(text.parse::<PeerId>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_id_survives_its_forms_and_sorts_by_key(a: [u8; 32], b: [u8; 32]) {
            let [a, b] = [a, b].map(|seed| SigningKey::from_seed(seed).peer_id());
            prop_assert_eq!(a.to_string().parse::<PeerId>().unwrap(), a);
            prop_assert_eq!(PeerId::from_bytes(&a.to_bytes()).unwrap(), a);
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}|12D3KooW[1-9A-HJ-NP-Za-km-z]{44}") {
            if let Ok(id) = text.parse::<PeerId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
