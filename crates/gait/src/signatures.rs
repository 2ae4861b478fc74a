//! The signatures of a manifest, checked one by one and reported together.

use serde_json::Value;
use worldcompute_proof::VerifyingKey;

use crate::runpack::SignatureStatus;
use crate::signature::SignatureObject;

const FAILED: &str = "signature verification failed";

/// What was found.
pub(crate) struct SignatureReport {
    pub(crate) status: SignatureStatus,
    pub(crate) errors: Vec<String>,
    pub(crate) total: usize,
    pub(crate) valid: usize,
}

/// Whether a status is good enough. A key asks for a signature: evidence whose signatures were taken away does not pass
/// for evidence that never had any.
pub(crate) const fn passes(status: SignatureStatus, asked_for: bool) -> bool {
    match status {
        SignatureStatus::Verified => true,
        SignatureStatus::Missing | SignatureStatus::Skipped => !asked_for,
        SignatureStatus::Failed => false,
    }
}

impl SignatureReport {
    /// Checks `signatures` over `signable`; `required` asks for one even without a key to check.
    pub(crate) fn of(
        signatures: &[Value],
        signable: &[u8],
        key: Option<&VerifyingKey>,
        required: bool,
    ) -> Self {
        let mut report = Self {
            status: SignatureStatus::Missing,
            errors: Vec::new(),
            total: signatures.len(),
            valid: 0,
        };
        match (signatures, key) {
            ([], None) if !required => {}
            ([], _) => report.errors.push("manifest has no signatures".to_owned()),
            (_, None) => report.skip(signatures, signable),
            (_, Some(key)) => report.check(signatures, signable, key),
        }
        report.errors.sort();
        report
    }

    /// The report as packs give it: what failed is also said as a whole.
    pub(crate) fn concluded(mut self) -> Self {
        let said = self.errors.iter().any(|error| error == FAILED);
        if self.status == SignatureStatus::Failed && !said {
            self.errors.push(FAILED.to_owned());
            self.errors.sort();
        }
        self
    }

    /// Without a key, a signature that cannot be anybody's still shows that somebody tampered.
    fn skip(&mut self, signatures: &[Value], signable: &[u8]) {
        self.errors.push("public key not configured".to_owned());
        self.status = SignatureStatus::Skipped;
        if signatures.iter().any(|one| !may_hold(one, signable)) {
            self.errors.push(FAILED.to_owned());
            self.status = SignatureStatus::Failed;
        }
    }

    /// One good signature of the key is enough, unless another claims to be the key's and is not, or cannot be
    /// anybody's: somebody tampered.
    fn check(&mut self, signatures: &[Value], signable: &[u8], key: &VerifyingKey) {
        let mut tampered = false;
        for signature in signatures {
            let read = SignatureObject::from_value(signature);
            match read.and_then(|signature| signature.verify(signable, key)) {
                Ok(()) => self.valid += 1,
                Err(fault) => {
                    self.errors.push(fault.message().to_owned());
                    tampered |= claims_to_be_of(signature, key) || !may_hold(signature, signable);
                }
            }
        }
        self.status = match self.valid > 0 && !tampered {
            true => SignatureStatus::Verified,
            false => SignatureStatus::Failed,
        };
    }
}

/// Whether somebody may have made this signature of that content.
fn may_hold(signature: &Value, signable: &[u8]) -> bool {
    SignatureObject::from_value(signature).is_ok_and(|signature| signature.covers(signable))
}

fn claims_to_be_of(signature: &Value, key: &VerifyingKey) -> bool {
    let claimed = signature.get("key_id");
    claimed.is_some_and(|claimed| *claimed == key.key_id())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use worldcompute_proof::SigningKey;

    use super::*;

    fn signed(content: &[u8], seed: u8) -> Value {
        let key = SigningKey::from_seed([seed; 32]);
        SignatureObject::sign(content, &key).to_value().unwrap()
    }

    /// Status and number of good signatures, for the key of seed 1, if it is given, and the content `it`.
    fn checked(signatures: &[Value], with_key: bool) -> (SignatureStatus, usize) {
        let key = SigningKey::from_seed([1; 32]).verifying_key();
        let key = with_key.then_some(&key);
        let report = SignatureReport::of(signatures, b"it", key, false).concluded();
        assert!(report.status == SignatureStatus::Verified || !report.errors.is_empty());
        (report.status, report.valid)
    }

    #[test]
    fn one_good_signature_is_enough_unless_another_is_the_keys_and_bent() {
        let (good, bent, others) = (signed(b"it", 1), signed(b"that", 1), signed(b"it", 2));
        let lists = [
            (vec![&others], (SignatureStatus::Failed, 0)),
            (vec![&others, &good], (SignatureStatus::Verified, 1)),
            (vec![&others, &bent], (SignatureStatus::Failed, 0)),
            (vec![&good, &bent], (SignatureStatus::Failed, 1)),
        ];
        for (list, expected) in lists {
            let list: Vec<Value> = list.into_iter().cloned().collect();
            assert_eq!(checked(&list, true), expected, "{list:?}");
        }
    }

    #[test]
    fn what_is_nobodys_signature_fails_with_a_key_and_without() {
        let good = signed(b"it", 1);
        assert_eq!(
            checked(std::slice::from_ref(&good), false),
            (SignatureStatus::Skipped, 0)
        );
        let mut extended = signed(b"it", 2);
        extended["more"] = 1.into();
        for nobodys in [
            json!("malformed"),
            json!({"alg": "x"}),
            signed(b"that", 2),
            extended,
        ] {
            let list = [good.clone(), nobodys];
            assert_eq!(
                checked(&list, true),
                (SignatureStatus::Failed, 1),
                "{list:?}"
            );
            assert_eq!(
                checked(&list, false),
                (SignatureStatus::Failed, 0),
                "{list:?}"
            );
        }
    }

    #[test]
    fn a_status_passes_unless_more_was_asked_for() {
        for (status, unasked, asked) in [
            (SignatureStatus::Verified, true, true),
            (SignatureStatus::Missing, true, false),
            (SignatureStatus::Skipped, true, false),
            (SignatureStatus::Failed, false, false),
        ] {
            assert_eq!(
                (passes(status, false), passes(status, true)),
                (unasked, asked)
            );
        }
    }
}
