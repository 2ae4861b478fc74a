//! What can be wrong with a chain.

use std::fmt;

use serde::Serialize;
use worldcompute_fault::Fault;

use super::Lane;
use super::event::Flaw;
use crate::check::Check;

/// How a chain is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakKind {
    /// An event is not what it was when it was written.
    Edited,
    /// An event between others is gone.
    Missing,
    /// An event lies where another belongs.
    Reordered,
    /// An event continues another history than the one before it.
    Forked,
    /// The events at the end are gone.
    Truncated,
    /// An event was not written with this store's key.
    ForeignMac,
    /// The head is missing, changed, or not that of the last event.
    HeadMismatch,
    /// The chain is older than, or not, the one that this machine knows.
    RolledBack,
    /// A row is there that is neither an event nor the head.
    UnknownRow,
}

impl BreakKind {
    const fn words(self) -> &'static str {
        match self {
            Self::Edited => "was changed",
            Self::Missing => "is missing",
            Self::Reordered => "is another event, moved",
            Self::Forked => "continues another history",
            Self::Truncated => "is missing, and so is all after it",
            Self::ForeignMac => "was not written with this store's key",
            Self::HeadMismatch => "is not the one that the head names",
            Self::RolledBack => "is not the one that was there before",
            Self::UnknownRow => "has a row after it that is neither an event nor the head",
        }
    }
}

impl From<Flaw> for BreakKind {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Misplaced => Self::Reordered,
            Flaw::Changed => Self::Edited,
            Flaw::ForeignMac => Self::ForeignMac,
        }
    }
}

/// The first thing that is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ChainBreak {
    /// At which event.
    pub seq: u64,
    /// What.
    pub kind: BreakKind,
}

impl ChainBreak {
    pub(super) const fn new(seq: u64, kind: BreakKind) -> Self {
        Self { seq, kind }
    }

    /// As the fault `audit_chain_broken`.
    pub(super) fn fault(self, lane: Lane) -> Fault {
        Check::AuditChain.failed(lane.pk(), self)
    }
}

impl fmt::Display for ChainBreak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} {}", self.seq, self.kind.words())
    }
}
