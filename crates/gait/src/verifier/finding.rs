//! One thing that is wrong with an artefact.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::runpack::HashMismatch;

/// What is wrong, and with which part. Prints, and serialises, as `<what>: <part>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An entry that is declared is not there.
    Missing(String),
    /// An entry has other bytes than those declared.
    Changed(String),
    /// An entry is there that is not declared.
    Undeclared(String),
    /// A signature is not there or does not hold: why.
    Signature(String),
    /// A checkpoint does not follow from the one before, or its runpack is not as it was: which, and why.
    Checkpoint(String),
}

impl Finding {
    /// The findings of an archive.
    pub(crate) fn of_archive(
        missing: &[String],
        changed: &[HashMismatch],
        undeclared: &[String],
    ) -> Vec<Self> {
        let missing = missing.iter().cloned().map(Self::Missing);
        let changed = changed.iter().map(|one| Self::Changed(one.path.clone()));
        let undeclared = undeclared.iter().cloned().map(Self::Undeclared);
        missing.chain(changed).chain(undeclared).collect()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(part) => write!(f, "missing: {part}"),
            Self::Changed(part) => write!(f, "changed: {part}"),
            Self::Undeclared(part) => write!(f, "undeclared: {part}"),
            Self::Signature(why) => write!(f, "signature: {why}"),
            Self::Checkpoint(why) => f.write_str(why),
        }
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
