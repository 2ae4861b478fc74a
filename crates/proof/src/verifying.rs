//! The public half of Ed25519 (RFC 8032), checked so strictly that a signature has one form and one key.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use worldcompute_fault::{Fault, Result};

use crate::base64;
use crate::digest::Sha256;
use crate::peer_id::PeerId;
use crate::refusal::{malformed, unproven};

/// A public-key file is 44 characters and a line break.
const MAX_KEY_FILE: u64 = 256;

/// An Ed25519 public key: canonically encoded and of large order. Base64 of 32 bytes in text and JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Reads the 32 bytes.
    ///
    /// # Errors
    /// `invalid_key` when they are no point, not its canonical encoding, or a point of small order
    /// (under which one signature fits many messages).
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes)
            .map_err(|error| refused("not a point of the curve").caused_by(error))?;
        if !is_canonical(bytes) {
            return Err(refused("not the canonical encoding"));
        }
        if key.is_weak() {
            Err(refused("a point of small order"))
        } else {
            Ok(Self(key))
        }
    }

    /// The public half of a key that was made from a seed: its clamped scalar cannot give a point of small order.
    pub(crate) fn of(key: &ed25519_dalek::SigningKey) -> Self {
        Self(key.verifying_key())
    }

    /// Reads base64 of the 32 bytes.
    ///
    /// # Errors
    /// `invalid_base64`, or those of [`VerifyingKey::from_bytes`].
    pub fn from_base64(text: &str) -> Result<Self> {
        Self::from_bytes(&*base64::decode_exact::<32>(text)?)
    }

    /// Reads a public-key file: one line, base64 of 32 bytes.
    ///
    /// # Errors
    /// Those of reading the file, `invalid_key`, `invalid_base64`.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = worldcompute_durable::read_bounded(path, MAX_KEY_FILE)?;
        Self::from_base64(one_line(&bytes)?)
    }

    /// The 32 bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Base64 of the 32 bytes.
    pub fn to_base64(&self) -> String {
        base64::encode(self.0.as_bytes())
    }

    /// The hexadecimal SHA-256 of the 32 bytes, which names the key in signatures.
    pub fn key_id(&self) -> String {
        Sha256::of(self.0.as_bytes()).to_string()
    }

    /// The libp2p name of the key.
    pub fn peer_id(&self) -> PeerId {
        PeerId::from(self)
    }

    /// Checks that the holder of this key signed `message`.
    ///
    /// # Errors
    /// `signature_invalid`; among others for a malleable signature (S not reduced) and for small-order points.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<()> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0.verify_strict(message, &signature).map_err(|_| {
            unproven(
                "signature_invalid",
                format!("the signature is not by the key {}", self.key_id()),
            )
        })
    }
}

/// The text of a key file: what stands before its optional line break.
pub(crate) fn one_line(bytes: &[u8]) -> Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|_| refused("not base64 text"))?;
    Ok(text.strip_suffix('\n').unwrap_or(text))
}

/// Whether the y coordinate is below the field's prime 2^255 - 19 (RFC 8032, 5.1.3).
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = bytes;
    high & 0x7f != 0x7f || middle.iter().any(|&byte| byte != 0xff) || *low < 0xed
}

fn refused(why: &str) -> Fault {
    malformed("invalid_key", format!("not an Ed25519 public key: {why}"))
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

impl Hash for VerifyingKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_bytes().hash(state);
    }
}

impl Serialize for VerifyingKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VerifyingKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_base64(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// An Ed25519 signature, 64 bytes; base64 in text and JSON. Says nothing until a [`VerifyingKey`] has checked it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Takes any 64 bytes.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Reads base64 of 64 bytes.
    ///
    /// # Errors
    /// `invalid_base64`.
    pub fn from_base64(text: &str) -> Result<Self> {
        Ok(Self(*base64::decode_exact::<64>(text)?))
    }

    /// The 64 bytes.
    pub const fn to_bytes(&self) -> [u8; 64] {
        self.0
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::encode(&self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_base64(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
