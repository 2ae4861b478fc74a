//! How a decision came about, for those who show it.

use super::outputs::Written;
use crate::approval::Approvals;
use crate::broker::Credential;
use crate::delegation::Chain;
use crate::kill_switch;
use crate::policy::why_not::Cause;
use crate::rate_limit::Usage;
use crate::verdict::Verdict;

/// What took part in a decision beside the policy and the intent.
#[derive(Debug, Default)]
pub struct Account {
    /// What was verified of the context.
    pub context: VerifiedContext,
    /// What the kill switch said, if there is one.
    pub kill_switch: Option<kill_switch::Decision>,
    /// The approvals, if any were asked for.
    pub approvals: Option<Approvals>,
    /// The ids of the approvals that counted, or the reference that the caller gave.
    pub approval_ref: String,
    /// The delegations, if any were asked for.
    pub delegation: Option<Chain>,
    /// How the rate limit stands, if there is one.
    pub rate: Option<Usage>,
    /// How the destructive budget stands, if there is one.
    pub budget: Option<Usage>,
    /// The credential that was handed out.
    pub credential: Option<Credential>,
    /// What the registry of approved scripts said, if it was asked.
    pub fast_path: Option<FastPath>,
    /// What would have been decided, if this was a simulation.
    pub simulated: Option<Simulated>,
    /// The number of the decision in its session, if it has one.
    pub sequence: Option<u64>,
    /// What keeps the call from being allowed, by rule and clause; none when it is.
    pub denied_by: Vec<Cause>,
    /// What people should know, sorted.
    pub warnings: Vec<String>,
    /// Where the evidence is.
    pub written: Written,
}

/// What was verified of the context; empty without an envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifiedContext {
    /// The SHA-256 that names the set of documents, in hex.
    pub set_digest: String,
    /// `best_effort` or `required`.
    pub mode: String,
    /// How many documents there are.
    pub refs: usize,
}

/// What the registry of approved scripts said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FastPath {
    /// The entry that stood for the approvals; `None` when none did.
    pub pattern_id: Option<String>,
    /// Why, as a stable code.
    pub reason: &'static str,
}

/// What would have been decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulated {
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason_codes: Vec<String>,
}

impl Simulated {
    /// Whether the call would not have passed.
    pub const fn would_have_blocked(&self) -> bool {
        matches!(self.verdict, Verdict::Block | Verdict::RequireApproval)
    }
}
