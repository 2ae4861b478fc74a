//! What was verified beside the intent, and the intent with that in the place of its own claims.

use std::borrow::Cow;

use jiff::Timestamp;
use worldcompute_fault::Result;

use crate::intent::Intent;

/// What the gate knows that the intent cannot say for itself.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    at: Timestamp,
}

impl Evidence {
    /// Nothing but the time of the evaluation.
    pub const fn at(at: Timestamp) -> Self {
        Self { at }
    }
}

/// An intent whose claims about its own evidence were replaced by what was verified; only [`Intent::prepare`] makes one.
///
/// ```compile_fail,E0451
/// # fn claim(intent: &gait::Intent, at: jiff::Timestamp) -> gait::evidence::Prepared<'_> {
/// gait::evidence::Prepared { intent: std::borrow::Cow::Borrowed(intent), at }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Prepared<'a> {
    intent: Cow<'a, Intent>,
    at: Timestamp,
}

impl Intent {
    /// This intent with `evidence` in the place of what it claims about its own evidence.
    pub fn prepare(&self, evidence: &Evidence) -> Result<Prepared<'_>> {
        let intent = if self.has_context_claims() {
            Cow::Owned(self.without_context_claims()?)
        } else {
            Cow::Borrowed(self)
        };
        Ok(Prepared {
            intent,
            at: evidence.at,
        })
    }
}

impl Prepared<'_> {
    /// The intent that is decided and whose digest the trace carries.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// When it is decided.
    pub const fn at(&self) -> Timestamp {
        self.at
    }
}

#[cfg(test)]
pub(crate) use ask::Ask;

#[cfg(test)]
mod ask {
    use super::Evidence;
    use crate::evaluate::Evaluation;
    use crate::intent::Intent;
    use crate::policy::Policy;

    /// Asks with no evidence but a fixed time.
    pub(crate) trait Ask {
        fn ask(&self, intent: &Intent) -> Evaluation;
    }

    impl Ask for Policy {
        fn ask(&self, intent: &Intent) -> Evaluation {
            let at = "2026-02-05T00:00:00Z".parse().unwrap();
            self.evaluate(&intent.prepare(&Evidence::at(at)).unwrap())
        }
    }
}
