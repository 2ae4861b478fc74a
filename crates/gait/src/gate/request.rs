//! What a caller brings besides the intent.

use jiff::Timestamp;
use worldcompute_fault::Result;
use worldcompute_proof::VerifyingKey;

use super::Outputs;
use crate::approval::Redemptions;
use crate::broker::Broker;
use crate::context_envelope::ContextEnvelope;
use crate::environment::Environment;
use crate::evidence::Evidence;
use crate::inventory::Inventory;
use crate::kill_switch::KillSwitch;
use crate::limits::{MAX_FIELD, at_most};
use crate::mcp_trust::TrustDecision;
use crate::rate_limit::Counters;
use crate::scripts::Registry;
use crate::session::SessionLog;
use crate::{approval, delegation};

/// Everything that may take part in a decision; what is left out takes no part, and what needs it is refused.
#[derive(Default)]
pub struct Request<'a> {
    /// The name of the conversation, for the trace.
    pub correlation_id: &'a str,
    /// The time by which the policy is asked, if not the present. Tokens, limits and the kill switch go by the present.
    pub at: Option<Timestamp>,
    /// What the agent consulted.
    pub envelope: Option<&'a ContextEnvelope>,
    /// What the operator knows of the tools.
    pub inventory: Option<&'a Inventory>,
    /// The kill switch; one that cannot be read stops everything.
    pub kill_switch: Option<KillSwitch<'a>>,
    /// The approved scripts, verified.
    pub scripts: Option<&'a Registry>,
    /// The approvals.
    pub approvals: Presented<'a, approval::Token>,
    /// A reference for the trace while no token is valid.
    pub approval_ref: &'a str,
    /// Where tokens that are good for one decision are remembered.
    pub redemptions: Option<Redemptions<'a>>,
    /// Whether every approval is good for one decision only, whatever its token says.
    pub single_use: bool,
    /// The delegations.
    pub delegations: Presented<'a, delegation::Token>,
    /// The counters behind the limits.
    pub counters: Option<Counters<'a>>,
    /// The broker of credentials.
    pub broker: Option<Brokering<'a>>,
    /// What is known of a call between an agent and its tools; nobody approves there.
    pub boundary: Option<&'a AtBoundary>,
    /// Only say what would be decided: nothing is used up, and nothing is permitted.
    pub simulate: bool,
    /// The session that the decision is numbered in.
    pub session: Option<SessionLog<'a>>,
    /// Where the evidence is written; nowhere if left out.
    pub outputs: Option<&'a Outputs>,
}

impl<'a> Request<'a> {
    /// `request_too_large` for a text that no trace has room for: it must cost nothing before that shows.
    pub(super) fn check(&self) -> Result<()> {
        let texts = [
            ("approval_ref bytes", self.approval_ref),
            ("correlation_id bytes", self.correlation_id),
        ];
        texts
            .into_iter()
            .try_for_each(|(what, text)| at_most(what, text.len(), MAX_FIELD, "request_too_large"))
    }

    /// What was verified beside the intent, at the time that the request says or at `now`.
    pub(super) fn evidence(&self, now: Timestamp) -> Evidence<'a> {
        Evidence::at(self.at.unwrap_or(now))
            .with_envelope(self.envelope)
            .with_inventory(self.inventory)
    }
}

/// What stops a call between an agent and its tools, beside the policy's rules.
#[derive(Clone, Debug, Default)]
pub struct AtBoundary {
    /// What the policy's clause on servers says, if it has one.
    pub trust: Option<TrustDecision>,
    /// Why the call is stopped whatever the policy says, as stable codes.
    pub stops: Vec<String>,
}

/// Tokens, and the key that should have signed them: the gate's own where none is given.
pub struct Presented<'a, T> {
    /// The tokens.
    pub tokens: &'a [T],
    /// The key.
    pub key: Option<VerifyingKey>,
}

impl<T> Default for Presented<'_, T> {
    fn default() -> Self {
        Self {
            tokens: &[],
            key: None,
        }
    }
}

/// A broker and what it is asked for beyond what the policy says.
pub struct Brokering<'a> {
    /// The broker.
    pub broker: &'a Broker,
    /// The name of the credential, instead of the policy's; empty for that.
    pub reference: &'a str,
    /// Further scopes.
    pub scopes: &'a [String],
    /// Where a broker may look.
    pub environment: &'a dyn Environment,
}
