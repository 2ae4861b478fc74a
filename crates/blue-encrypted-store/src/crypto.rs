//! The primitives: HKDF-Expand and HMAC over SHA-256, AES-256-GCM.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, hmac, rand};
use subtle::ConstantTimeEq;
use worldcompute_fault::{Category, Fault, Result};
use zeroize::Zeroizing;

use crate::check::Check;

/// Bytes of every key.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes of an AES-GCM tag.
pub(crate) const TAG_BYTES: usize = 16;

/// A key in memory: wiped on drop, never printed.
pub(crate) type Key = Zeroizing<[u8; KEY_BYTES]>;
/// An AES-GCM nonce.
pub(crate) type GcmNonce = [u8; NONCE_LEN];
/// A SHA-256 digest or HMAC.
pub(crate) type Digest = [u8; 32];

/// SHA-256 (FIPS 180-4).
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// HMAC-SHA256 (RFC 2104) under a prepared key.
pub(crate) fn hmac(key: &hmac::Key, bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(key, bytes).as_ref());
    out
}

/// Prepares an HMAC-SHA256 key.
pub(crate) fn hmac_key(key: &[u8; KEY_BYTES]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key)
}

/// Compares without telling by its duration where two secrets differ.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// HKDF-Expand-SHA256 (RFC 5869, 2.3) with a uniformly random `key` as the pseudorandom key.
pub(crate) fn expand<const N: usize>(
    key: &[u8; KEY_BYTES],
    info: &[u8],
) -> Result<Zeroizing<[u8; N]>> {
    let mut out = Zeroizing::new([0; N]);
    hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, key)
        .expand(&[info], Length(N))
        .and_then(|okm| okm.fill(&mut *out))
        .map_err(|_| broken("HKDF-Expand"))?;
    Ok(out)
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// A fresh key for one ciphertext, and what proves that it is this key (the second half of the same expansion).
pub(crate) fn committed_key(key: &[u8; KEY_BYTES], info: &[u8]) -> Result<(Key, Digest)> {
    let okm = expand::<64>(key, info)?;
    let (mut key, mut commitment) = (Key::default(), Digest::default());
    let (first, second) = okm.split_at(KEY_BYTES);
    key.copy_from_slice(first);
    commitment.copy_from_slice(second);
    Ok((key, commitment))
}

/// AES-256-GCM: ciphertext followed by its tag.
pub(crate) fn gcm_seal(
    key: &Key,
    nonce: GcmNonce,
    aad: &Digest,
    plaintext: &[u8],
) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(plaintext.len().saturating_add(TAG_BYTES));
    bytes.extend_from_slice(plaintext);
    gcm(key)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            &mut bytes,
        )
        .map_err(|_| broken("AES-GCM"))?;
    Ok(bytes)
}

/// The plaintext, or [`Check::Tag`].
pub(crate) fn gcm_open(
    key: &Key,
    nonce: GcmNonce,
    aad: &Digest,
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Check> {
    let mut bytes = Zeroizing::new(ciphertext.to_vec());
    let length = gcm(key)
        .map_err(|_| Check::Tag)?
        .open_in_place(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            &mut bytes,
        )
        .map_err(|_| Check::Tag)?
        .len();
    bytes.truncate(length);
    Ok(bytes)
}

fn gcm(key: &Key) -> Result<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, &**key)
        .map(LessSafeKey::new)
        .map_err(|_| broken("AES-GCM"))
}

/// Random bytes of the operating system's generator.
pub(crate) fn random(out: &mut [u8]) -> Result<()> {
    rand::fill(out).map_err(|_| broken("the random number generator"))
}

fn broken(what: &str) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "crypto_failed",
        format!("{what} failed"),
    )
}

/// Appends `bytes` with its length before it (32 bits, big endian), so that no two lists of fields have one encoding.
pub(crate) fn lp(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}
