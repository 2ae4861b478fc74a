//! The secret half of Ed25519: made, kept in a file that only its owner can read, and never shown.

use std::fmt;
use std::path::Path;

use ed25519_dalek::Signer as _;
use worldcompute_durable::{Mode, create_new, read_private};
use worldcompute_fault::{Category, Fault, Result};
use zeroize::Zeroizing;

use crate::base64;
use crate::peer_id::PeerId;
use crate::refusal::malformed;
use crate::verifying::{Signature, VerifyingKey, one_line};

/// Base64 of 64 bytes and a line break.
const KEY_FILE_BYTES: usize = 89;
/// The largest key file read, in bytes.
const MAX_KEY_FILE: u64 = 256;

/// An Ed25519 key that can sign. Wiped from memory on drop; its `Debug` shows the public half only.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// `entropy_unavailable`.
    pub fn generate() -> Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|error| {
            Fault::new(
                Category::InternalFailure,
                "entropy_unavailable",
                "the operating system gave no randomness",
            )
            .caused_by(error)
        })?;
        Ok(Self::from_seed(*seed))
    }

    /// The key that RFC 8032 derives from a seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// Reads a key file: one line, base64 of seed and public key (64 bytes), readable by its owner only.
    ///
    /// # Errors
    /// `insecure_permissions` and the others of reading a private file; `invalid_key` when it holds no key
    /// or a public half that is not the seed's.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = Zeroizing::new(read_private(path, MAX_KEY_FILE)?);
        Self::from_file_text(&bytes).map_err(|_| {
            malformed(
                "invalid_key",
                format!("{} holds no Ed25519 key", path.display()),
            )
            .hint("a key file is one line: base64 of the 32 byte seed and the 32 byte public key")
        })
    }

    /// Reads the text of a key file, with white space around it.
    ///
    /// # Errors
    /// `invalid_base64` when it is not base64 of 64 bytes; `invalid_key` when the public half is not the seed's.
    pub fn from_base64(text: &str) -> Result<Self> {
        Self::from_file_text(text.trim().as_bytes())
    }

    /// Makes a new key and its file.
    ///
    /// # Errors
    /// `already_exists` when there is a file: a key is never overwritten.
    pub fn create(path: &Path) -> Result<Self> {
        let key = Self::generate()?;
        create_new(path, key.file_text().as_bytes(), Mode::Private)?;
        Ok(key)
    }

    /// Reads the key file, or makes it where there is none. Two at once agree on one key.
    ///
    /// # Errors
    /// Those of [`SigningKey::load`] and [`SigningKey::create`].
    pub fn load_or_create(path: &Path) -> Result<Self> {
        match Self::create(path) {
            Err(fault) if fault.code() == "already_exists" => Self::load(path),
            made => made,
        }
    }

    /// Signs `message` (pure Ed25519, deterministic).
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature::from_bytes(self.0.sign(message).to_bytes())
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey::of(&self.0)
    }

    /// The mesh name of the public half.
    pub fn peer_id(&self) -> PeerId {
        self.verifying_key().peer_id()
    }

    /// The secret itself, for a library that has to hold the key (libp2p). Nothing else should ask.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    fn from_file_text(bytes: &[u8]) -> Result<Self> {
        let pair = base64::decode_exact::<64>(one_line(bytes)?)?;
        match ed25519_dalek::SigningKey::from_keypair_bytes(&pair) {
            Ok(key) => Ok(Self(key)),
            Err(error) => {
                Err(malformed("invalid_key", "the public half is not the seed's").caused_by(error))
            }
        }
    }

    /// The text of the key file. Made without growing, which would leave a copy of the secret in freed memory.
    pub fn file_text(&self) -> Zeroizing<String> {
        let pair = Zeroizing::new(self.0.to_keypair_bytes());
        let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES));
        base64::encode_into(&*pair, &mut text);
        text.push('\n');
        text
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(public {})", self.verifying_key())
    }
}
