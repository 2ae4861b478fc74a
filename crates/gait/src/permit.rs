//! The proof that the gate allowed one effect, good for that effect, once.

use std::fmt;

use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Sha256;

/// The right to do once what one intent says.
///
/// Only an allowing [`crate::Decision`] gives one, and gives it once. A permit cannot be built by hand:
///
/// ```compile_fail,E0451
/// # fn forge(intent_digest: worldcompute_proof::Sha256) -> gait::Permit {
/// gait::Permit { intent_digest, policy_digest: intent_digest, trace_id: String::new() }
/// # }
/// ```
///
/// nor copied:
///
/// ```compile_fail,E0599
/// # fn copy(permit: gait::Permit) -> (gait::Permit, gait::Permit) {
/// (permit.clone(), permit)
/// # }
/// ```
///
/// nor conjured from a default or from bytes:
///
/// ```compile_fail,E0277
/// # fn conjure() -> gait::Permit {
/// serde_json::from_str("{}").unwrap()
/// # }
/// ```
///
/// nor used twice:
///
/// ```compile_fail,E0382
/// # fn twice(permit: gait::Permit, digest: worldcompute_proof::Sha256) {
/// let _ = permit.redeem(&digest);
/// let _ = permit.redeem(&digest);
/// # }
/// ```
#[must_use = "a permit that is not redeemed allows nothing"]
pub struct Permit {
    intent_digest: Sha256,
    policy_digest: Sha256,
    trace_id: String,
}

impl Permit {
    pub(crate) const fn grant(
        intent_digest: Sha256,
        policy_digest: Sha256,
        trace_id: String,
    ) -> Self {
        Self {
            intent_digest,
            policy_digest,
            trace_id,
        }
    }

    /// The digest of the intent that was allowed.
    pub const fn intent_digest(&self) -> Sha256 {
        self.intent_digest
    }

    /// The decision that allowed it.
    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// Spends the permit on the intent with the digest `intent`.
    ///
    /// A permit for another intent is spent all the same and refused as `permit_mismatch`.
    pub fn redeem(self, intent: &Sha256) -> Result<Redeemed> {
        if self.intent_digest == *intent {
            return Ok(Redeemed(self));
        }
        let message = format!(
            "the permit of decision {} is for intent {}, not for {intent}",
            self.trace_id, self.intent_digest
        );
        Err(
            Fault::new(Category::PolicyBlocked, "permit_mismatch", message)
                .hint("ask the gate about exactly what is to be done"),
        )
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Permit({} of {})",
            self.intent_digest, self.trace_id
        )
    }
}

/// A spent permit: the proof that the effect now under way was allowed.
///
/// ```compile_fail,E0423
/// # fn forge(permit: gait::Permit) -> gait::Redeemed {
/// gait::Redeemed(permit)
/// # }
/// ```
#[derive(Debug)]
pub struct Redeemed(Permit);

impl Redeemed {
    /// The digest of the intent that was allowed.
    pub const fn intent_digest(&self) -> Sha256 {
        self.0.intent_digest
    }

    /// The digest of the policy that allowed it.
    pub const fn policy_digest(&self) -> Sha256 {
        self.0.policy_digest
    }

    /// The decision that allowed it.
    pub fn trace_id(&self) -> &str {
        &self.0.trace_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permit(digest: Sha256) -> Permit {
        Permit::grant(digest, Sha256::of(b"policy"), "t".to_owned())
    }

    #[test]
    fn a_permit_redeems_for_its_own_intent() {
        let digest = Sha256::of(b"intent");
        let redeemed = permit(digest).redeem(&digest).unwrap();
        assert_eq!(redeemed.intent_digest(), digest);
        assert_eq!(redeemed.policy_digest(), Sha256::of(b"policy"));
        assert_eq!(redeemed.trace_id(), "t");
    }

    #[test]
    fn a_permit_for_another_intent_is_refused() {
        let fault = permit(Sha256::of(b"intent"))
            .redeem(&Sha256::of(b"other"))
            .unwrap_err();
        assert_eq!(
            (fault.category(), fault.code()),
            (Category::PolicyBlocked, "permit_mismatch")
        );
    }
}
