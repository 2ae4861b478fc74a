//! How often a call may happen: the clauses `rate_limit` and `destructive_budget`, which the gate counts and the policy
//! only states.

use serde::{Deserialize, Serialize};

/// At most so many requests in every window; serialised, it is the clause's part of the policy digest.
///
/// The order runs from the strictest to the mildest, by requests, then by window, then by scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RateLimit {
    /// How many.
    pub requests: u64,
    /// In how long, by the clock's own minutes and hours.
    pub window: Window,
    /// Counted for whom.
    pub scope: Scope,
}

/// How long a window is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// From second 0 to second 0 in UTC.
    #[default]
    Minute,
    /// From minute 0 to minute 0 in UTC.
    Hour,
}

/// What shares a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All calls of an identity.
    Identity,
    /// All calls of a tool.
    Tool,
    /// All calls of a tool by an identity.
    #[default]
    ToolIdentity,
}

/// The limits of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// What it calls.
    pub tool_name: String,
    /// How often it may happen.
    pub rate: Option<RateLimit>,
    /// How often it may destroy something; none for a call that destroys nothing.
    pub destructive_budget: Option<RateLimit>,
}

impl Window {
    /// Every window by its name in policies and state files.
    pub const ALL: [(&'static str, Self); 2] = [("minute", Self::Minute), ("hour", Self::Hour)];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }
}

impl Scope {
    /// Every scope by its name in policies and state files.
    pub const ALL: [(&'static str, Self); 3] = [
        ("identity", Self::Identity),
        ("tool", Self::Tool),
        ("tool_identity", Self::ToolIdentity),
    ];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Tool => "tool",
            Self::ToolIdentity => "tool_identity",
        }
    }
}

/// The stricter of two limits.
pub(super) fn stricter(a: Option<RateLimit>, b: Option<RateLimit>) -> Option<RateLimit> {
    a.into_iter().chain(b).min()
}
