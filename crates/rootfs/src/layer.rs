//! The names of layers.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use worldcompute_fault::{Fault, Result};

use crate::refusal::{refuse, shown};

/// SHA-256 of a layer's archive, unpacked: an entry of `rootfs.diff_ids` in an image's configuration. Written
/// `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DiffId([u8; 32]);

impl DiffId {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn of_hash(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }
}

impl From<[u8; 32]> for DiffId {
    fn from(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl FromStr for DiffId {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text
            .strip_prefix("sha256:")
            .filter(|digits| !digits.bytes().any(|byte| byte.is_ascii_uppercase()));
        let mut digest = [0; 32];
        digits
            .and_then(|digits| hex::decode_to_slice(digits, &mut digest).ok())
            .map(|()| Self(digest))
            .ok_or_else(|| {
                let message = format!("{} is no diff id", shown(text.as_bytes()));
                refuse("invalid_diff_id", message, "write sha256: and 64 digits")
            })
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
