//! The primitives: HKDF-Expand and HMAC over SHA-256, AES-256-GCM.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, hmac, rand};
use subtle::ConstantTimeEq;
use worldcompute_fault::{Category, Fault, Result};
use zeroize::Zeroizing;

use crate::check::Check;
use crate::plaintext::Plaintext;

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
    let mut context = hmac::Context::with_key(key);
    context.update(bytes);
    tag(context)
}

/// HMAC-SHA256 of what a context was given.
pub(crate) fn tag(context: hmac::Context) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
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
    expand_into(key, info, &mut *out)?;
    Ok(out)
}

/// [`expand`] to a length that is known when it runs: at most 255 times 32 bytes.
pub(crate) fn expand_into(key: &[u8; KEY_BYTES], info: &[u8], out: &mut [u8]) -> Result<()> {
    hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, key)
        .expand(&[info], Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .map_err(|_| broken("HKDF-Expand"))
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// A key for one ciphertext, and the proof that a ciphertext is of this key: both from one expansion.
///
/// AES-GCM alone accepts one ciphertext under several keys. So the commitment is stored beside the ciphertext and
/// compared before it is opened.
pub(crate) struct CommittedKey {
    key: Key,
    pub(crate) commitment: Digest,
}

impl CommittedKey {
    /// `HKDF-Expand(key, info, 64)`, taken apart.
    pub(crate) fn derive(key: &[u8; KEY_BYTES], info: &[u8]) -> Result<Self> {
        let okm = expand::<64>(key, info)?;
        let (first, second) = okm.split_at(KEY_BYTES);
        let (mut key, mut commitment) = (Key::default(), Digest::default());
        key.copy_from_slice(first);
        commitment.copy_from_slice(second);
        Ok(Self { key, commitment })
    }

    /// AES-256-GCM: ciphertext followed by its tag.
    pub(crate) fn seal(&self, nonce: GcmNonce, aad: &Digest, plaintext: &[u8]) -> Result<Vec<u8>> {
        gcm_seal(&self.key, nonce, aad, plaintext)
    }

    /// The plaintext, if the ciphertext is of this key and unchanged.
    pub(crate) fn open(
        &self,
        commitment: &Digest,
        nonce: GcmNonce,
        aad: &Digest,
        ciphertext: &[u8],
    ) -> Result<Plaintext, Check> {
        if !same(&self.commitment, commitment) {
            return Err(Check::Commitment);
        }
        gcm_open(&self.key, nonce, aad, ciphertext)
    }
}

/// AES-256-GCM (SP 800-38D): ciphertext followed by its tag.
pub(crate) fn gcm_seal(
    key: &Key,
    nonce: GcmNonce,
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(plaintext.len().saturating_add(TAG_BYTES));
    bytes.extend_from_slice(plaintext);
    let nonce = Nonce::assume_unique_for_key(nonce);
    gcm(key)?
        .seal_in_place_append_tag(nonce, Aad::from(aad), &mut bytes)
        .map_err(|_| broken("AES-GCM"))?;
    Ok(bytes)
}

/// The plaintext of [`gcm_seal`], if nothing was changed.
pub(crate) fn gcm_open(
    key: &Key,
    nonce: GcmNonce,
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Plaintext, Check> {
    let (content, tag) = ciphertext
        .split_last_chunk::<TAG_BYTES>()
        .ok_or(Check::Tag)?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    let mut plaintext = Plaintext::new(vec![0; content.len()]);
    gcm(key)
        .and_then(|key| {
            let opened =
                key.open_separate_gather(nonce, Aad::from(aad), content, tag, &mut plaintext);
            opened.map_err(|_| broken("AES-GCM"))
        })
        .map_err(|_| Check::Tag)?;
    Ok(plaintext)
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
    out.extend_from_slice(&length(bytes));
    out.extend_from_slice(bytes);
}

/// How many bytes there are, as [`lp`] writes it.
pub(crate) fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of a published ciphertext, with what its own expansion would have given as its commitment.
    fn committed(case: &serde_json::Value, name: &str) -> CommittedKey {
        let key: [u8; KEY_BYTES] = field(case, name).try_into().unwrap();
        CommittedKey {
            commitment: *expand(&key, b"commitment").unwrap(),
            key: Zeroizing::new(key),
        }
    }

    fn field(case: &serde_json::Value, name: &str) -> Vec<u8> {
        hex::decode(case[name].as_str().unwrap()).unwrap()
    }

    #[test]
    fn random_bytes_fill_all_there_is_and_are_never_the_same() {
        let draw = || {
            let mut bytes = [0; 32];
            random(&mut bytes).unwrap();
            bytes
        };
        let drawn: Vec<_> = (0..64).map(|_| draw()).collect();
        let different: std::collections::BTreeSet<_> = drawn.iter().collect();
        assert_eq!(different.len(), 64);
        // By chance, some byte is zero in all of them once in 2^507 runs.
        for at in 0..32 {
            assert!(drawn.iter().any(|bytes| bytes[at] != 0), "{at}");
        }
    }

    #[test]
    fn one_ciphertext_for_two_keys_is_refused_under_one_of_them() {
        let text = include_bytes!("../tests/vectors/gcm_two_key.json");
        let cases: Vec<serde_json::Value> = serde_json::from_slice(text).unwrap();
        for case in &cases {
            let nonce: GcmNonce = field(case, "nonce").try_into().unwrap();
            let aad: Digest = field(case, "aad").try_into().unwrap();
            let ciphertext = [field(case, "ct"), field(case, "tag")].concat();
            let (one, two) = (committed(case, "k1"), committed(case, "k2"));
            for (key, plaintext) in [(&one, "pt_k1"), (&two, "pt_k2")] {
                let opened = gcm_open(&key.key, nonce, &aad, &ciphertext).unwrap();
                assert_eq!(
                    *opened,
                    field(case, plaintext),
                    "AES-GCM alone accepts both"
                );
            }
            for (theirs, other) in [(&one, &two), (&two, &one)] {
                let open = |key: &CommittedKey| {
                    key.open(&theirs.commitment, nonce, &aad, &ciphertext)
                        .map(drop)
                };
                assert_eq!(open(theirs), Ok(()));
                assert_eq!(open(other), Err(Check::Commitment));
            }
        }
        println!(
            "two-key vectors: {} ciphertexts that AES-GCM accepts under two keys, each refused under the other",
            cases.len()
        );
        assert_eq!(cases.len(), 2);
    }
}
