//! How one payload is encrypted (envelope v1).
//!
//! Every write has a key of its own: `(key, commitment) = HKDF-Expand(DEK, "blue/v1/content" ‖ suite ‖ lp(store) ‖
//! lp(key_id) ‖ aad ‖ u64 version ‖ nonce, 64)`. The commitment is stored and compared before AES-GCM is asked, because
//! AES-GCM alone accepts one ciphertext under several keys. The nonce is hedged: `HMAC(nonce key, 32 random bytes ‖ aad ‖
//! u64 version ‖ plaintext)[..12]` differs for different plaintexts even when the random bytes repeat.

use aws_lc_rs::hmac;
use worldcompute_fault::Result;
use zeroize::Zeroizing;

use crate::check::Check;
use crate::crypto::{
    Digest, GcmNonce, KEY_BYTES, committed_key, gcm_open, gcm_seal, hmac as mac, lp, same,
};

/// A set of algorithms. One byte on the wire; there is none without encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Suite {
    /// AES-256-GCM, HKDF-SHA256 with commitment, HMAC-SHA256.
    V1 = 1,
}

impl Suite {
    /// What new rows are written with.
    pub(crate) const CURRENT: Self = Self::V1;

    /// The suite of that number; every other number is refused.
    pub(crate) const fn parse(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            _ => None,
        }
    }

    /// Its number.
    pub(crate) const fn byte(self) -> u8 {
        self as u8
    }
}

/// What a ciphertext is bound to.
pub(crate) struct Binding<'a> {
    pub(crate) suite: Suite,
    pub(crate) store: &'a str,
    pub(crate) key_id: &'a str,
    /// SHA-256 of the canonical address.
    pub(crate) aad: Digest,
    /// The record's content version.
    pub(crate) version: u64,
}

impl Binding<'_> {
    fn info(&self, nonce: GcmNonce) -> Vec<u8> {
        let mut info = b"blue/v1/content".to_vec();
        info.push(self.suite.byte());
        lp(&mut info, self.store.as_bytes());
        lp(&mut info, self.key_id.as_bytes());
        info.extend_from_slice(&self.aad);
        info.extend_from_slice(&self.version.to_be_bytes());
        info.extend_from_slice(&nonce);
        info
    }
}

/// An encrypted payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) nonce: GcmNonce,
    pub(crate) commitment: Digest,
    /// Ciphertext and tag.
    pub(crate) ciphertext: Vec<u8>,
}

/// Encrypts `plaintext`; `random` need not be fresh for this to be safe, only for equal plaintexts to look different.
pub(crate) fn seal(
    dek: &[u8; KEY_BYTES],
    nonce_key: &hmac::Key,
    binding: &Binding<'_>,
    random: &[u8; 32],
    plaintext: &[u8],
) -> Result<Sealed> {
    let nonce = hedged_nonce(nonce_key, binding, random, plaintext);
    let (key, commitment) = committed_key(dek, &binding.info(nonce))?;
    let ciphertext = gcm_seal(&key, nonce, &binding.aad, plaintext)?;
    Ok(Sealed {
        nonce,
        commitment,
        ciphertext,
    })
}

/// Decrypts: the commitment first, then the tag.
pub(crate) fn open(
    dek: &[u8; KEY_BYTES],
    binding: &Binding<'_>,
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, Check> {
    let (key, commitment) =
        committed_key(dek, &binding.info(sealed.nonce)).map_err(|_| Check::Commitment)?;
    if !same(&commitment, &sealed.commitment) {
        return Err(Check::Commitment);
    }
    gcm_open(&key, sealed.nonce, &binding.aad, &sealed.ciphertext)
}

fn hedged_nonce(
    key: &hmac::Key,
    binding: &Binding<'_>,
    random: &[u8; 32],
    plaintext: &[u8],
) -> GcmNonce {
    let mut input = Zeroizing::new(Vec::with_capacity(plaintext.len().saturating_add(72)));
    input.extend_from_slice(random);
    input.extend_from_slice(&binding.aad);
    input.extend_from_slice(&binding.version.to_be_bytes());
    input.extend_from_slice(plaintext);
    let mut nonce = GcmNonce::default();
    for (out, byte) in nonce.iter_mut().zip(mac(key, &input)) {
        *out = byte;
    }
    nonce
}
