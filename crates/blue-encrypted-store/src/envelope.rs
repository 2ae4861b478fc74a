//! How one payload is encrypted (envelope v1).
//!
//! Every write has a key of its own: `(key, commitment) = HKDF-Expand(DEK, "blue/v1/content" ‖ suite ‖ lp(store) ‖
//! lp(key_id) ‖ aad ‖ u64 version ‖ nonce, 64)`. The commitment is stored and compared before AES-GCM is asked, because
//! AES-GCM alone accepts one ciphertext under several keys. The nonce is hedged: `HMAC(nonce key, 32 random bytes ‖ aad ‖
//! u64 version ‖ plaintext)[..12]` differs for different plaintexts even when the random bytes repeat.

use aws_lc_rs::hmac;
use worldcompute_fault::Result;

use crate::check::Check;
use crate::crypto::{CommittedKey, Digest, GcmNonce, KEY_BYTES, lp, tag};
use crate::plaintext::Plaintext;

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
pub(crate) struct Sealed<C = Vec<u8>> {
    pub(crate) nonce: GcmNonce,
    pub(crate) commitment: Digest,
    /// Ciphertext and tag.
    pub(crate) ciphertext: C,
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
    let key = CommittedKey::derive(dek, &binding.info(nonce))?;
    Ok(Sealed {
        nonce,
        commitment: key.commitment,
        ciphertext: key.seal(nonce, &binding.aad, plaintext)?,
    })
}

/// Decrypts: the commitment first, then the tag.
pub(crate) fn open(
    dek: &[u8; KEY_BYTES],
    binding: &Binding<'_>,
    sealed: &Sealed<impl AsRef<[u8]>>,
) -> Result<Plaintext, Check> {
    let Sealed {
        nonce,
        commitment,
        ciphertext,
    } = sealed;
    CommittedKey::derive(dek, &binding.info(*nonce))
        .map_err(|_| Check::Commitment)?
        .open(commitment, *nonce, &binding.aad, ciphertext.as_ref())
}

fn hedged_nonce(
    key: &hmac::Key,
    binding: &Binding<'_>,
    random: &[u8; 32],
    plaintext: &[u8],
) -> GcmNonce {
    let mut context = hmac::Context::with_key(key);
    context.update(random);
    context.update(&binding.aad);
    context.update(&binding.version.to_be_bytes());
    context.update(plaintext);
    tag(context).first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::crypto::{expand, hmac_key, sha256};

    const DEK: [u8; KEY_BYTES] = [7; KEY_BYTES];

    fn nonce_key() -> hmac::Key {
        hmac_key(&expand(&DEK, b"blue/v1/nonce").unwrap())
    }

    fn binding() -> Binding<'static> {
        Binding {
            suite: Suite::V1,
            store: "s1",
            key_id: "dek#j1#1",
            aad: sha256(b"job:j1/entity:task/t1"),
            version: 3,
        }
    }

    fn sealed(plaintext: &[u8]) -> Sealed {
        seal(&DEK, &nonce_key(), &binding(), &[1; 32], plaintext).unwrap()
    }

    #[test]
    fn another_key_place_version_store_or_key_id_is_refused_by_the_commitment() {
        let sealed = sealed(b"secret");
        let refused = |dek: &[u8; KEY_BYTES], binding: &Binding<'_>| {
            assert_eq!(open(dek, binding, &sealed).unwrap_err(), Check::Commitment);
        };
        refused(&[8; KEY_BYTES], &binding());
        refused(
            &DEK,
            &Binding {
                store: "s2",
                ..binding()
            },
        );
        refused(
            &DEK,
            &Binding {
                key_id: "dek#j1#2",
                ..binding()
            },
        );
        refused(
            &DEK,
            &Binding {
                aad: sha256(b"elsewhere"),
                ..binding()
            },
        );
        refused(
            &DEK,
            &Binding {
                version: 4,
                ..binding()
            },
        );
    }

    #[test]
    fn fields_of_the_key_derivation_cannot_be_shifted_into_each_other() {
        let nonce = GcmNonce::default();
        let info = |store, key_id| {
            Binding {
                store,
                key_id,
                ..binding()
            }
            .info(nonce)
        };
        assert_ne!(info("ab", "c"), info("a", "bc"));
    }

    #[test]
    fn there_is_no_suite_but_the_known_ones() {
        assert_eq!(Suite::parse(1), Some(Suite::V1));
        for number in [0, 2, 255, 257, u64::MAX] {
            assert_eq!(Suite::parse(number), None);
        }
    }

    #[test]
    fn a_stuck_random_number_generator_does_not_repeat_nonces_for_different_content() {
        let mut nonces = HashSet::new();
        for version in 1..=50 {
            for plaintext in [&b"a"[..], b"b", b"ab", b""] {
                let binding = Binding {
                    version,
                    ..binding()
                };
                let sealed = seal(&DEK, &nonce_key(), &binding, &[0; 32], plaintext).unwrap();
                assert!(nonces.insert(sealed.nonce));
            }
        }
    }

    #[test]
    fn a_working_random_number_generator_makes_equal_contents_look_different() {
        let other = seal(&DEK, &nonce_key(), &binding(), &[2; 32], b"secret").unwrap();
        let first = sealed(b"secret");
        assert_ne!(first.nonce, other.nonce);
        assert_ne!(first.ciphertext, other.ciphertext);
        assert_ne!(first.commitment, other.commitment, "a key of its own");
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(plaintext in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(&*open(&DEK, &binding(), &sealed(&plaintext)).unwrap(), &plaintext);
        }

        #[test]
        fn any_changed_byte_is_refused(
            plaintext in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            change in 1_u8..,
        ) {
            let mut changed = sealed(&plaintext);
            let ciphertext = changed.ciphertext.len();
            match at.index(12 + 32 + ciphertext) {
                at @ 0..12 => changed.nonce[at] ^= change,
                at @ 12..44 => changed.commitment[at - 12] ^= change,
                at => changed.ciphertext[at - 44] ^= change,
            }
            let found = open(&DEK, &binding(), &changed).unwrap_err();
            prop_assert!(matches!(found, Check::Commitment | Check::Tag));
        }

        #[test]
        fn a_ciphertext_that_is_longer_or_shorter_is_refused(
            plaintext in prop::collection::vec(any::<u8>(), 0..100),
            cut in 1_usize..20,
        ) {
            let whole = sealed(&plaintext);
            let mut short = whole.clone();
            short.ciphertext.truncate(whole.ciphertext.len().saturating_sub(cut));
            let mut long = whole;
            long.ciphertext.extend(vec![0; cut]);
            for changed in [short, long] {
                prop_assert_eq!(open(&DEK, &binding(), &changed).unwrap_err(), Check::Tag);
            }
        }
    }
}
