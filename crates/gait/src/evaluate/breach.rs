//! One way in which a call breaks a rule, as data: the verdict follows from it, and so does the explanation.

use crate::verdict::Verdict;

/// What a clause has against a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Breach<'r> {
    /// The clause by the policy's own key, such as `endpoint.path_allowlist`.
    pub(crate) clause: &'static str,
    /// What it raises the verdict to.
    pub(crate) verdict: Verdict,
    /// Why, as a stable code.
    pub(crate) reason: &'r str,
    /// What was violated, as a stable code; empty where nothing was.
    pub(crate) violation: &'r str,
}

impl<'r> Breach<'r> {
    /// A breach that blocks.
    pub(super) const fn block(clause: &'static str, reason: &'r str, violation: &'r str) -> Self {
        Self {
            clause,
            verdict: Verdict::Block,
            reason,
            violation,
        }
    }

    /// A breach that blocks, for the clauses that call reason and violation the same.
    pub(super) const fn same(clause: &'static str, code: &'r str) -> Self {
        Self::block(clause, code, code)
    }
}
