//! Ed25519 as RFC 8032 says and stricter: one signature per key and message, no key that proves nothing.

#![expect(clippy::unwrap_used, reason = "test helpers may fail loudly")]

use proptest::prelude::*;
use worldcompute_proof::{Signature, SigningKey, VerifyingKey};

/// RFC 8032, 7.1: seed, public key, message, signature.
const RFC_8032: [[&str; 4]; 4] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
    [
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ],
];

/// The eight points of small order, then the other encodings that some readers take for them.
const PROVES_NOTHING: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

/// The order of the base point, little-endian.
const GROUP_ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

fn array<const N: usize>(hex: &str) -> [u8; N] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

#[test]
fn rfc_8032_vectors_hold() {
    for [seed, public, message, signature] in RFC_8032 {
        let key = SigningKey::from_seed(array(seed));
        let message = hex::decode(message).unwrap();
        assert_eq!(hex::encode(key.verifying_key().to_bytes()), public);
        assert_eq!(hex::encode(key.sign(&message).to_bytes()), signature);
        let read = VerifyingKey::from_bytes(&array(public)).unwrap();
        read.verify(&message, &Signature::from_bytes(array(signature)))
            .unwrap();
    }
}

#[test]
fn another_key_or_message_does_not_verify() {
    let signature = key().sign(b"message");
    let other = SigningKey::from_seed([8; 32]).verifying_key();
    assert_eq!(
        other.verify(b"message", &signature).unwrap_err().code(),
        "signature_invalid"
    );
    assert_eq!(
        key()
            .verifying_key()
            .verify(b"massage", &signature)
            .unwrap_err()
            .code(),
        "signature_invalid"
    );
    assert!(key().verifying_key().verify(b"", &signature).is_err());
}

#[test]
fn every_flipped_bit_of_a_signature_is_refused() {
    let signature = key().sign(b"message").to_bytes();
    for bit in 0..signature.len() * 8 {
        let mut bent = signature;
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(
            key()
                .verifying_key()
                .verify(b"message", &Signature::from_bytes(bent))
                .is_err(),
            "bit {bit}"
        );
    }
}

#[test]
fn every_flipped_bit_of_a_key_is_refused() {
    let signature = key().sign(b"message");
    let public = key().verifying_key().to_bytes();
    for bit in 0..public.len() * 8 {
        let mut bent = public;
        bent[bit / 8] ^= 1 << (bit % 8);
        let verified =
            VerifyingKey::from_bytes(&bent).and_then(|key| key.verify(b"message", &signature));
        assert!(verified.is_err(), "bit {bit}");
    }
}

#[test]
fn a_signature_with_the_group_order_added_is_refused() {
    let good = key().sign(b"message").to_bytes();
    let order: [u8; 32] = array(GROUP_ORDER);
    let mut malleable = good;
    let mut carry = 0;
    for (byte, add) in malleable[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert!(carry == 0 && malleable != good);
    assert!(
        key()
            .verifying_key()
            .verify(b"message", &Signature::from_bytes(malleable))
            .is_err()
    );
}

#[test]
fn points_of_small_order_and_other_encodings_are_no_keys() {
    for hex in PROVES_NOTHING {
        assert_eq!(
            VerifyingKey::from_bytes(&array(hex)).unwrap_err().code(),
            "invalid_key",
            "{hex}"
        );
    }
    let no_point = [vec![2], vec![0; 31]].concat();
    assert!(VerifyingKey::from_bytes(&no_point.try_into().unwrap()).is_err());
}

/// y + p in place of y, where y is so small that 255 bits hold it: the same point, of large order, in other bytes.
#[test]
fn a_key_has_one_encoding() {
    for y in [3, 4, 5, 6, 9, 10, 14, 15, 16, 18] {
        for sign in [0, 0x80] {
            let mut canonical = [0; 32];
            (canonical[0], canonical[31]) = (y, sign);
            assert!(VerifyingKey::from_bytes(&canonical).is_ok(), "{y}");
            let mut other = [0xff; 32];
            (other[0], other[31]) = (0xed + y, 0x7f | sign);
            let fault = VerifyingKey::from_bytes(&other).unwrap_err();
            assert_eq!(fault.code(), "invalid_key", "{y}");
        }
    }
}

#[test]
fn a_signature_whose_nonce_point_has_small_order_is_refused() {
    for hex in PROVES_NOTHING {
        let forged: [u8; 64] = [array::<32>(hex), [0; 32]].concat().try_into().unwrap();
        assert!(
            key()
                .verifying_key()
                .verify(b"message", &Signature::from_bytes(forged))
                .is_err(),
            "{hex}"
        );
    }
}

#[test]
fn a_key_is_read_from_base64_of_32_bytes_only() {
    let public = key().verifying_key();
    assert_eq!(
        VerifyingKey::from_base64(&public.to_base64()).unwrap(),
        public
    );
    let text = public.to_base64();
    for other in [
        text.trim_end_matches('='),
        &format!("{text}\n"),
        &text[4..],
        "",
    ] {
        assert!(VerifyingKey::from_base64(other).is_err(), "{other:?}");
    }
}

#[test]
fn a_key_is_named_by_the_digest_of_its_bytes() {
    let [_, public, ..] = RFC_8032[0];
    let id = VerifyingKey::from_bytes(&array(public)).unwrap().key_id();
    assert_eq!(
        id,
        "21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9"
    );
}

#[test]
fn keys_and_signatures_are_base64_in_json() {
    let (public, signature) = (key().verifying_key(), key().sign(b""));
    let json = serde_json::to_string(&(public, signature)).unwrap();
    assert_eq!(json, format!("[\"{public}\",\"{signature}\"]"));
    assert_eq!(
        serde_json::from_str::<(VerifyingKey, Signature)>(&json).unwrap(),
        (public, signature)
    );
    assert!(serde_json::from_str::<Signature>("\"AAAA\"").is_err());
}

proptest! {
    #[test]
    fn every_signature_verifies_and_is_always_the_same(seed: [u8; 32], message: Vec<u8>) {
        let key = SigningKey::from_seed(seed);
        let signature = key.sign(&message);
        key.verifying_key().verify(&message, &signature).unwrap();
        prop_assert_eq!(key.sign(&message), signature);
    }

    #[test]
    fn any_key_and_signature_are_read_or_refused(public: [u8; 32], signature: [[u8; 32]; 2], message: Vec<u8>) {
        let signature = Signature::from_bytes(signature.concat().try_into().unwrap());
        if let Ok(key) = VerifyingKey::from_bytes(&public) {
            prop_assert_eq!(key.to_bytes(), public);
            prop_assert!(key.verify(&message, &signature).is_err());
        }
    }
}
