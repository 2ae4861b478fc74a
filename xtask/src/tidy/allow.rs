//! The allowlist: forbidden words that are there for a reason.

use std::fmt;
use std::path::Path;

use super::Finding;
use crate::shell::{Failure, Result};

/// One entry a line, `path:line — rationale`; lines that begin with `#` are comments. It may be missing.
pub const FILE: &str = ".tidy-allow";

/// One line of the allowlist.
#[derive(Debug, PartialEq, Eq)]
pub struct Allowed {
    path: String,
    line: usize,
    rationale: String,
}

impl Allowed {
    pub fn allows(&self, finding: &Finding) -> bool {
        self.path == finding.path && self.line == finding.line
    }

    /// An entry that allows nothing hides the next thing that comes to that line.
    pub fn stale(&self) -> Finding {
        let what = format!("{FILE} allows a word here, and there is none");
        Finding {
            path: self.path.clone(),
            line: self.line,
            what,
        }
    }

    fn parse(entry: &str) -> Option<Self> {
        let (place, rationale) = entry.split_once(" — ")?;
        let (path, line) = place.trim().rsplit_once(':')?;
        let rationale = rationale.trim();
        let complete = !path.is_empty() && !rationale.is_empty();
        complete.then_some(Self {
            path: path.to_owned(),
            line: line.parse().ok()?,
            rationale: rationale.to_owned(),
        })
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} — {}", self.path, self.line, self.rationale)
    }
}

/// The entries of the allowlist in `root`.
pub fn read(root: &Path) -> Result<Vec<Allowed>> {
    let text = match std::fs::read_to_string(root.join(FILE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| Failure::new(format!("cannot read {FILE}: {error}")))?,
    };
    let entries = text
        .lines()
        .zip(1..)
        .filter(|(entry, _)| !entry.trim().is_empty() && !entry.starts_with('#'));
    let parsed = entries.map(|(entry, line)| {
        Allowed::parse(entry)
            .ok_or_else(|| Failure::new(format!("{FILE}:{line}: not `path:line — rationale`")))
    });
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_needs_a_place_and_a_reason() {
        let entry = "crates/a/src/b.rs:7 — the name of a format";
        assert_eq!(Allowed::parse(entry).unwrap().to_string(), entry);
        for wrong in [
            "",
            "crates/a.rs — why",
            "crates/a.rs:x — why",
            ":7 — why",
            "crates/a.rs:7 — ",
            "crates/a.rs:7 why",
        ] {
            assert_eq!(Allowed::parse(wrong), None, "{wrong}");
        }
    }
}
