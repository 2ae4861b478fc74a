//! The four answers of the gate.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a policy says to an intent; the order runs from the least to the most restrictive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The effect may happen.
    Allow,
    /// The effect may be rehearsed, but must not happen.
    DryRun,
    /// The effect waits for a person.
    RequireApproval,
    /// The effect must not happen.
    Block,
}

impl Verdict {
    /// The name used in policies, traces and JSON output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::DryRun => "dry_run",
            Self::RequireApproval => "require_approval",
            Self::Block => "block",
        }
    }

    /// The verdict of that name, exactly as [`Verdict::as_str`] spells it.
    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Allow,
            Self::DryRun,
            Self::RequireApproval,
            Self::Block,
        ]
        .into_iter()
        .find(|verdict| verdict.as_str() == name)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
