//! What was verified beside the intent, and the intent with that in the place of its own claims.

use std::borrow::Cow;

use jiff::Timestamp;
use worldcompute_fault::Result;

use crate::clock;
use crate::context_envelope::ContextEnvelope;
use crate::intent::Intent;
use crate::inventory::{Inventory, ToolRecord};
use crate::limits::invalid;

/// What the gate knows that the intent cannot say for itself.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    at: Timestamp,
    envelope: Option<&'a ContextEnvelope>,
    inventory: Option<&'a Inventory>,
}

impl<'a> Evidence<'a> {
    /// Nothing but the time of the evaluation.
    pub const fn at(at: Timestamp) -> Self {
        Self {
            at,
            envelope: None,
            inventory: None,
        }
    }

    /// Adds what the agent consulted.
    #[must_use]
    pub const fn with_envelope(mut self, envelope: Option<&'a ContextEnvelope>) -> Self {
        self.envelope = envelope;
        self
    }

    /// Adds what the operator knows of the tools.
    #[must_use]
    pub const fn with_inventory(mut self, inventory: Option<&'a Inventory>) -> Self {
        self.inventory = inventory;
        self
    }
}

/// An intent whose claims about its own evidence were replaced by what was verified; only [`Intent::prepare`] makes one.
///
/// ```compile_fail,E0451
/// # fn claim(prepared: gait::Prepared<'_>, at: jiff::Timestamp) -> gait::Prepared<'_> {
/// gait::Prepared { at, ..prepared }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Prepared<'a> {
    intent: Cow<'a, Intent>,
    at: Timestamp,
    context: Option<VerifiedContext>,
    inventory: Option<&'a Inventory>,
}

/// What a verified envelope says, as the clauses ask it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VerifiedContext {
    pub(crate) mode: &'static str,
    /// `None` when the evidence is dated after the evaluation.
    pub(crate) age_seconds: Option<u64>,
    refs: usize,
}

impl Intent {
    /// This intent with `evidence` in the place of what it claims about its own evidence.
    ///
    /// Refused: as `clock_not_set` a time before 1980, at which nothing would ever expire; as `invalid_input` an
    /// envelope that is not the one that the intent claims.
    pub fn prepare<'a>(&'a self, evidence: &Evidence<'a>) -> Result<Prepared<'a>> {
        clock::check_set(evidence.at)?;
        let context = evidence.envelope.map(|envelope| VerifiedContext {
            mode: envelope.mode().as_str(),
            age_seconds: envelope.age_seconds(evidence.at),
            refs: envelope.records().len(),
        });
        Ok(Prepared {
            intent: self.with_evidence(evidence, context)?,
            at: evidence.at,
            context,
            inventory: evidence.inventory,
        })
    }

    fn with_evidence<'a>(
        &'a self,
        evidence: &Evidence<'_>,
        context: Option<VerifiedContext>,
    ) -> Result<Cow<'a, Self>> {
        let tool = self.known_tool(evidence.inventory);
        if evidence.envelope.is_none() && tool.is_none() && !self.has_context_claims() {
            return Ok(Cow::Borrowed(self));
        }
        if let Some(envelope) = evidence.envelope {
            self.claims_no_other(envelope)?;
        }
        let intent = self.reclaimed(|claims| {
            if let (Some(envelope), Some(context)) = (evidence.envelope, context) {
                claims.context_set_digest = envelope.digest().to_string();
                context.mode.clone_into(&mut claims.context_evidence_mode);
                claims.context_refs = envelope.refs();
                if let Some(made) = self.created_at().get() {
                    // The digest stays the same for as long as an approval of it lasts; clauses ask for the age now.
                    let age = envelope.age_seconds(made).unwrap_or_default();
                    claims.auth_context.insert(AGE.to_owned(), age.into());
                }
            }
            for (key, value) in tool.into_iter().flat_map(ToolRecord::claims) {
                claims.auth_context.insert(key.to_owned(), value.into());
            }
        })?;
        Ok(Cow::Owned(intent))
    }

    /// What the inventory knows of the tool; of a script it is asked step by step, and the script stays as it is.
    fn known_tool<'i>(&self, inventory: Option<&'i Inventory>) -> Option<&'i ToolRecord> {
        let inventory = inventory.filter(|_| self.script().is_none());
        inventory.and_then(|inventory| inventory.tool(self.tool_name()))
    }

    fn claims_no_other(&self, envelope: &ContextEnvelope) -> Result<()> {
        let claimed = self.context();
        let digest = envelope.digest().to_string();
        let differs = |claim: &str, actual: &str| !claim.is_empty() && claim != actual;
        if differs(&claimed.context_set_digest, &digest) {
            return Err(invalid(
                "context envelope digest does not match context.context_set_digest",
            ));
        }
        if differs(&claimed.context_evidence_mode, envelope.mode().as_str()) {
            return Err(invalid(
                "context envelope evidence mode does not match context.context_evidence_mode",
            ));
        }
        Ok(())
    }
}

/// The key of `auth_context` under which the age of verified context travels, as it was when the intent was made.
pub(crate) const AGE: &str = "context_age_seconds";

impl Prepared<'_> {
    /// The intent that is decided and whose digest the trace carries.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// When it is decided.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// Where what is known of the context comes from: `context_envelope`, `wrkr_inventory`, both joined by a comma, or
    /// nothing.
    pub fn context_source(&self) -> String {
        let envelope = self.context.map(|_| ContextEnvelope::SOURCE);
        let inventory = self.knows_a_tool().then_some(Inventory::SOURCE);
        let sources: Vec<_> = envelope.into_iter().chain(inventory).collect();
        sources.join(",")
    }

    /// How many documents the verified envelope names.
    pub fn context_ref_count(&self) -> usize {
        self.context.map_or(0, |context| context.refs)
    }

    pub(crate) const fn context(&self) -> Option<&VerifiedContext> {
        self.context.as_ref()
    }

    pub(crate) fn tool(&self, name: &str) -> Option<&ToolRecord> {
        self.inventory.and_then(|inventory| inventory.tool(name))
    }

    fn knows_a_tool(&self) -> bool {
        match self.intent.script() {
            None => self.tool(self.intent.tool_name()).is_some(),
            Some((script, _)) => script
                .steps
                .iter()
                .any(|step| self.tool(&step.tool_name).is_some()),
        }
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

#[cfg(test)]
mod tests;
