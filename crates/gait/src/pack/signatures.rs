//! The signatures of a manifest, checked one by one and reported together.

use serde_json::Value;
use worldcompute_proof::VerifyingKey;

use crate::runpack::SignatureStatus;
use crate::signature::SignatureObject;

/// Whether a status is good enough. A key asks for a signature: evidence whose signatures were taken away does not pass
/// for evidence that never had any.
pub(super) const fn passes(status: SignatureStatus, asked_for: bool) -> bool {
    match status {
        SignatureStatus::Verified => true,
        SignatureStatus::Missing | SignatureStatus::Skipped => !asked_for,
        SignatureStatus::Failed => false,
    }
}

/// What was found.
pub(crate) struct SignatureReport {
    pub(crate) status: SignatureStatus,
    pub(crate) errors: Vec<String>,
    pub(crate) total: usize,
    pub(crate) valid: usize,
}

/// Checks `signatures` over `signable`.
pub(crate) fn check_signatures(
    signatures: &[Value],
    signable: &[u8],
    key: Option<&VerifyingKey>,
    required: bool,
) -> SignatureReport {
    let mut report = SignatureReport {
        status: SignatureStatus::Missing,
        errors: Vec::new(),
        total: signatures.len(),
        valid: 0,
    };
    match (signatures, key) {
        ([], None) if !required => {}
        ([], _) => report.errors.push("manifest has no signatures".to_owned()),
        (_, None) => {
            report.errors.push("public key not configured".to_owned());
            report.status = SignatureStatus::Skipped;
        }
        (_, Some(key)) => report.check(signatures, signable, key),
    }
    report.errors.sort();
    report
}

impl SignatureReport {
    fn check(&mut self, signatures: &[Value], signable: &[u8], key: &VerifyingKey) {
        for signature in signatures {
            match SignatureObject::from_value(signature).and_then(|one| one.holds(signable, key)) {
                Ok(holds) => self.valid += usize::from(holds),
                Err(fault) => self.errors.push(fault.message().to_owned()),
            }
        }
        match self.valid {
            0 => {
                self.status = SignatureStatus::Failed;
                self.errors.push("signature verification failed".to_owned());
            }
            _ => self.status = SignatureStatus::Verified,
        }
    }
}
