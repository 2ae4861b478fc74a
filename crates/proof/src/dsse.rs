//! Dead Simple Signing Envelope v1: a payload, what type it has, and who signed both.

use serde::{Deserialize, Serialize};
use worldcompute_fault::{Fault, Result};

use crate::base64;
use crate::json::{canonical_json, from_canonical_json};
use crate::refusal::{malformed, unproven};
use crate::signing::SigningKey;
use crate::verifying::{Signature, VerifyingKey};

/// The largest envelope read, in bytes of JSON.
pub const MAX_ENVELOPE_BYTES: usize = 8 << 20;
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
        let mut envelope = Self { payload_type: payload_type.into(), payload, signatures: Vec::new() };
        envelope.add_signature(key);
        envelope
    }

    /// Signs what the others signed.
    pub fn add_signature(&mut self, key: &SigningKey) {
        let sig = key.sign(&pae(&self.payload_type, &self.payload));
        self.signatures.push(EnvelopeSignature { keyid: key.verifying_key().key_id(), sig });
    }

    /// Checks that the holder of `key` signed this payload as this type.
    ///
    /// # Errors
    /// `signature_missing` when none is named after the key, `signature_duplicate` when two are,
    /// `signature_invalid` when the one is not by it.
    pub fn verify(&self, key: &VerifyingKey) -> Result<()> {
        let key_id = key.key_id();
        let mut named = self.signatures.iter().filter(|signature| signature.keyid == key_id);
        match (named.next(), named.next()) {
            (Some(signature), None) => key.verify(&pae(&self.payload_type, &self.payload), &signature.sig),
            (None, _) => Err(unproven("signature_missing", format!("no signature by the key {key_id}"))),
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
        if bytes.len() <= MAX_ENVELOPE_BYTES { Ok(bytes) } else { Err(too_large()) }
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
        if self.payload_type.len() > MAX_PAYLOAD_TYPE {
            return Err(malformed("invalid_envelope", "the payload type is too long"));
        }
        if self.signatures.is_empty() || self.signatures.len() > MAX_SIGNATURES {
            let found = self.signatures.len();
            return Err(malformed("invalid_envelope", format!("{found} signatures, expected 1 to {MAX_SIGNATURES}")));
        }
        let mut seen = std::collections::BTreeSet::new();
        match self.signatures.iter().find(|signature| !seen.insert(&signature.keyid)) {
            Some(signature) => Err(twice(&signature.keyid)),
            None => Ok(()),
        }
    }
}

/// The bytes that are signed: DSSE's pre-authentication encoding of type and payload.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn twice(key_id: &str) -> Fault {
    unproven("signature_duplicate", format!("two signatures are named after the key {}", crate::refusal::excerpt(key_id)))
}

fn too_large() -> Fault {
    malformed("invalid_envelope", format!("the envelope exceeds {MAX_ENVELOPE_BYTES} bytes"))
}
