//! Dead Simple Signing Envelope v1: a payload, what type it has, and who signed both.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use worldcompute_fault::{Fault, Result};

use crate::base64;
use crate::json::{canonical_json, from_canonical_json};
use crate::refusal::{excerpt, malformed, unproven};
use crate::signing::SigningKey;
use crate::verifying::{Signature, VerifyingKey};

/// The largest envelope read, in bytes of JSON.
pub const MAX_ENVELOPE_BYTES: usize = 16 << 20;
/// The longest payload type, in bytes.
pub const MAX_PAYLOAD_TYPE: usize = 255;
/// The most signatures one envelope carries.
pub const MAX_SIGNATURES: usize = 16;

/// A signed payload. Its payload is only worth something after [`Envelope::verify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Envelope {
    /// The type of the payload, signed along with it.
    pub payload_type: String,
    /// The payload as signed; base64 in JSON.
    #[serde(with = "base64::vec")]
    pub payload: Vec<u8>,
    /// Who signed.
    pub signatures: Vec<EnvelopeSignature>,
}

/// One signature over type and payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeSignature {
    /// The [`VerifyingKey::key_id`] of the signing key: a hint which key to try, proof of nothing.
    pub keyid: String,
    /// The signature over [`pae`].
    pub sig: Signature,
}

impl Envelope {
    /// An envelope with one signature.
    pub fn sign(payload_type: impl Into<String>, payload: Vec<u8>, key: &SigningKey) -> Self {
        let mut envelope = Self {
            payload_type: payload_type.into(),
            payload,
            signatures: Vec::new(),
        };
        envelope.add_signature(key);
        envelope
    }

    /// Signs what the others signed.
    pub fn add_signature(&mut self, key: &SigningKey) {
        let sig = key.sign(&pae(&self.payload_type, &self.payload));
        self.signatures.push(EnvelopeSignature {
            keyid: key.verifying_key().key_id(),
            sig,
        });
    }

    /// Checks that the holder of `key` signed this payload as this type.
    ///
    /// # Errors
    /// `signature_missing` when none is named after the key, `signature_duplicate` when two are,
    /// `signature_invalid` when the one is not by it.
    pub fn verify(&self, key: &VerifyingKey) -> Result<()> {
        let key_id = key.key_id();
        let mut named = self
            .signatures
            .iter()
            .filter(|signature| signature.keyid == key_id);
        match (named.next(), named.next()) {
            (Some(signature), None) => {
                key.verify(&pae(&self.payload_type, &self.payload), &signature.sig)
            }
            (None, _) => Err(unproven(
                "signature_missing",
                format!("no signature by the key {key_id}"),
            )),
            (Some(_), Some(_)) => Err(twice(&key_id)),
        }
    }

    /// The canonical JSON of the envelope.
    ///
    /// # Errors
    /// `invalid_envelope` when it is past a limit.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.check_limits()?;
        let bytes = canonical_json(self)?;
        if bytes.len() <= MAX_ENVELOPE_BYTES {
            Ok(bytes)
        } else {
            Err(too_large())
        }
    }

    /// Reads an envelope from its canonical JSON; the signatures are not checked yet.
    ///
    /// # Errors
    /// `invalid_envelope`, `signature_duplicate`, `not_canonical_json`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(too_large());
        }
        let envelope: Self = from_canonical_json(bytes, MAX_ENVELOPE_BYTES)?;
        envelope.check_limits()?;
        Ok(envelope)
    }

    fn check_limits(&self) -> Result<()> {
        if self.payload.len() > MAX_ENVELOPE_BYTES / 4 * 3 {
            return Err(too_large());
        }
        if self.payload_type.len() > MAX_PAYLOAD_TYPE {
            return Err(malformed(
                "invalid_envelope",
                "the payload type is too long",
            ));
        }
        if self.signatures.is_empty() || self.signatures.len() > MAX_SIGNATURES {
            let found = self.signatures.len();
            return Err(malformed(
                "invalid_envelope",
                format!("{found} signatures, expected 1 to {MAX_SIGNATURES}"),
            ));
        }
        let mut seen = BTreeSet::new();
        match self
            .signatures
            .iter()
            .find(|signature| !seen.insert(&signature.keyid))
        {
            Some(signature) => Err(twice(&signature.keyid)),
            None => Ok(()),
        }
    }
}

/// The bytes that are signed: DSSE's pre-authentication encoding of type and payload.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

fn twice(key_id: &str) -> Fault {
    unproven(
        "signature_duplicate",
        format!("two signatures are named after the key {}", excerpt(key_id)),
    )
}

fn too_large() -> Fault {
    malformed(
        "invalid_envelope",
        format!("the envelope exceeds {MAX_ENVELOPE_BYTES} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed([seed; 32])
    }

    fn signed_by(seeds: &[u8]) -> Envelope {
        let mut envelope = Envelope {
            payload_type: "t/x".into(),
            payload: b"payload".to_vec(),
            signatures: vec![],
        };
        seeds
            .iter()
            .for_each(|&seed| envelope.add_signature(&key(seed)));
        envelope
    }

    fn text_of(envelope: &Envelope) -> String {
        String::from_utf8(envelope.to_bytes().unwrap()).unwrap()
    }

    fn code<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().code().to_owned()
    }

    #[test]
    fn the_specification_s_example_is_encoded_as_it_says() {
        let encoded = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(
            encoded,
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn each_signer_is_verified_and_nobody_else() {
        let envelope = signed_by(&[1, 2]);
        let read = Envelope::from_bytes(&envelope.to_bytes().unwrap()).unwrap();
        assert_eq!(read, envelope);
        read.verify(&key(1).verifying_key()).unwrap();
        read.verify(&key(2).verifying_key()).unwrap();
        assert_eq!(
            code(read.verify(&key(3).verifying_key())),
            "signature_missing"
        );
    }

    #[test]
    fn a_changed_type_payload_or_key_name_does_not_verify() {
        let signer = key(1).verifying_key();
        let good = signed_by(&[1]);
        let retyped = Envelope {
            payload_type: "t/y".into(),
            ..good.clone()
        };
        let shifted = Envelope {
            payload_type: "t/x 7".into(),
            ..good.clone()
        };
        let repaid = Envelope {
            payload: b"payloae".to_vec(),
            ..good.clone()
        };
        for envelope in [retyped, shifted, repaid] {
            assert_eq!(code(envelope.verify(&signer)), "signature_invalid");
        }
        let mut renamed = good;
        renamed.signatures[0].keyid = key(2).verifying_key().key_id();
        assert_eq!(code(renamed.verify(&signer)), "signature_missing");
        assert_eq!(
            code(renamed.verify(&key(2).verifying_key())),
            "signature_invalid"
        );
    }

    #[test]
    fn two_signatures_under_one_name_are_refused() {
        let mut envelope = signed_by(&[1, 1]);
        assert_eq!(
            code(envelope.verify(&key(1).verifying_key())),
            "signature_duplicate"
        );
        assert_eq!(code(envelope.to_bytes()), "signature_duplicate");
        envelope.signatures[1].sig = Signature::from_bytes([0; 64]);
        assert_eq!(
            code(envelope.verify(&key(1).verifying_key())),
            "signature_duplicate"
        );
    }

    #[test]
    fn limits_hold_at_and_past() {
        let seeds: Vec<u8> = (0..=MAX_SIGNATURES as u8).collect();
        assert!(signed_by(&seeds[1..]).to_bytes().is_ok());
        assert_eq!(code(signed_by(&seeds).to_bytes()), "invalid_envelope");
        assert_eq!(code(signed_by(&[]).to_bytes()), "invalid_envelope");
        let typed = |length| Envelope::sign("x".repeat(length), vec![], &key(1)).to_bytes();
        assert!(typed(MAX_PAYLOAD_TYPE).is_ok());
        assert_eq!(code(typed(MAX_PAYLOAD_TYPE + 1)), "invalid_envelope");
        let sized = |length| Envelope::sign("x", vec![0; length], &key(1)).to_bytes();
        assert!(sized(MAX_ENVELOPE_BYTES / 4 * 3 - 1024).is_ok());
        assert_eq!(
            code(sized(MAX_ENVELOPE_BYTES / 4 * 3 + 1)),
            "invalid_envelope"
        );
        assert_eq!(
            code(Envelope::from_bytes(&vec![b' '; MAX_ENVELOPE_BYTES + 1])),
            "invalid_envelope"
        );
    }

    #[test]
    fn other_spellings_of_the_envelope_are_refused() {
        let text = text_of(&signed_by(&[1]));
        let respelled = [
            text.replace(':', ": "),
            text.replace("==", ""),
            text.replace("\"payload\":", "\"payload\":\"\",\"payload\":"),
            text.replace("\"payload\"", "\"Payload\""),
            text.replace('}', ",\"x\":1}"),
            format!("{text}\n"),
        ];
        for text in respelled {
            assert!(Envelope::from_bytes(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn every_flipped_bit_is_refused_or_does_not_verify() {
        let signer = key(1).verifying_key();
        let bytes = signed_by(&[1]).to_bytes().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let verified =
                Envelope::from_bytes(&bent).and_then(|envelope| envelope.verify(&signer));
            assert!(verified.is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn types_and_payloads_never_run_into_each_other(a: (String, Vec<u8>), b: (String, Vec<u8>)) {
            prop_assert_eq!(pae(&a.0, &a.1) == pae(&b.0, &b.1), a == b);
        }

        #[test]
        fn any_envelope_survives_its_bytes(payload_type in ".{0,50}", payload: Vec<u8>, seed: u8) {
            let envelope = Envelope::sign(payload_type, payload, &key(seed));
            let read = Envelope::from_bytes(&envelope.to_bytes().unwrap()).unwrap();
            read.verify(&key(seed).verifying_key()).unwrap();
            prop_assert_eq!(read, envelope);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Envelope::from_bytes(&bytes);
        }
    }
}
