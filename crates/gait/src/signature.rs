//! The signature object that every signed record of the format carries.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, Signature, SigningKey, VerifyingKey};

/// The only algorithm.
const ALG: &str = "ed25519";

/// An Ed25519 signature over the 32 bytes of the SHA-256 of a record's canonical JSON without signatures.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignatureObject {
    alg: String,
    #[serde(default)]
    pub(crate) key_id: String,
    sig: Signature,
    signed_digest: Sha256,
}

impl SignatureObject {
    /// Signs the canonical JSON of a record.
    pub(crate) fn sign(signable: &[u8], key: &SigningKey) -> Self {
        let signed_digest = Sha256::of(signable);
        Self {
            alg: ALG.to_owned(),
            key_id: key.verifying_key().key_id(),
            sig: key.sign(signed_digest.as_bytes()),
            signed_digest,
        }
    }

    /// Reads a signature as a manifest lists it.
    pub(crate) fn from_value(value: &Value) -> Result<Self> {
        Self::deserialize(value).map_err(|error| unverified("malformed signature").caused_by(error))
    }

    /// The signature as a manifest lists it.
    pub(crate) fn to_value(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|error| {
            Fault::new(
                Category::InternalFailure,
                "internal_failure",
                "write a signature",
            )
            .caused_by(error)
        })
    }

    /// Checks that `key` signed the canonical JSON of a record.
    pub(crate) fn verify(&self, signable: &[u8], key: &VerifyingKey) -> Result<()> {
        self.check_claims(signable, key)?;
        key.verify(self.signed_digest.as_bytes(), &self.sig)
            .map_err(|_| unverified("signature verification failed"))
    }

    /// Whether somebody signed the canonical JSON of a record, by what the signature says of itself.
    pub(crate) fn covers(&self, signable: &[u8]) -> bool {
        self.alg == ALG && self.signed_digest == Sha256::of(signable)
    }

    fn check_claims(&self, signable: &[u8], key: &VerifyingKey) -> Result<()> {
        if self.alg != ALG {
            return Err(unverified(format!(
                "unsupported signature alg {:?}",
                self.alg
            )));
        }
        if !self.key_id.is_empty() && self.key_id != key.key_id() {
            return Err(unverified("key id mismatch"));
        }
        if self.signed_digest != Sha256::of(signable) {
            return Err(unverified("signed_digest mismatch"));
        }
        Ok(())
    }
}

/// A record that does not prove what it claims: code `verification_failed`.
pub(crate) fn unverified(message: impl Into<String>) -> Fault {
    Fault::new(Category::VerificationFailed, "verification_failed", message)
}
