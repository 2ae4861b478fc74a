//! Checking a session that somebody else kept: every number once, every record as signed, and the end as counted.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use worldcompute_durable::open_to_read;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, VerifyingKey, canonicalize_json};

use super::close::{self, Closing};
use super::log::Place;
use crate::limits::MAX_TRACE_BYTES;
use crate::record::{Record, Unsigned};
use crate::signature::unverified;
use crate::trace::{self, Link};

/// The code of a log whose last line has no end.
pub(super) const TORN: &str = "session_log_torn";

/// What a session that verified is.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many decisions it has.
    pub decisions: u64,
    /// Its end; `None` while it is open, when records may be missing from the end unseen.
    pub closing: Option<Closing>,
}

/// Verifies the log at `path` against the key that signed it, in constant memory.
///
/// `verification_failed`, each with its own code: `session_empty` for a log without a record, `session_record_missing`
/// for a number that is left out, `session_chain_broken` for a record that does not name the one before,
/// `session_record_unverified` for one whose signature does not hold, `session_count_mismatch` for an end that counts
/// otherwise, `session_continues_after_close`, `session_log_torn` for a last line without its end.
pub fn verify(path: &Path, key: &VerifyingKey) -> Result<Report> {
    let cannot = |error| Fault::io(format_args!("read {}", path.display()), &error);
    let mut lines = BufReader::new(open_to_read(path)?);
    let mut walk = Walk::new(key);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = MAX_TRACE_BYTES as u64 + 1;
        let read = (&mut lines).take(limit).read_until(b'\n', &mut line);
        if read.map_err(cannot)? == 0 {
            return walk.report();
        }
        match line.strip_suffix(b"\n") {
            Some(whole) => walk.step(whole)?,
            None if line.len() > MAX_TRACE_BYTES => {
                return Err(walk.broken("session_record_unverified", "is longer than any trace"));
            }
            None => return Err(walk.broken(TORN, "has no end")),
        }
    }
}

/// The walk from record to record.
struct Walk<'a> {
    key: &'a VerifyingKey,
    decisions: u64,
    previous: Option<Sha256>,
    closing: Option<Closing>,
}

impl<'a> Walk<'a> {
    const fn new(key: &'a VerifyingKey) -> Self {
        Self {
            key,
            decisions: 0,
            previous: None,
            closing: None,
        }
    }

    fn step(&mut self, line: &[u8]) -> Result<()> {
        if self.closing.is_some() {
            return Err(self.broken("session_continues_after_close", "follows the end"));
        }
        let place: Place = serde_json::from_slice(line)
            .map_err(|_| self.broken("session_record_unverified", "is no record of a session"))?;
        if canonicalize_json(line).map_or(true, |canonical| canonical != line) {
            return Err(self.broken("session_record_unverified", "is not in canonical form"));
        }
        if place.schema_id == close::SCHEMA_ID {
            return self.end(line);
        }
        trace::verify(line, self.key)
            .map_err(|fault| self.broken("session_record_unverified", fault.message()))?;
        self.follows(place.relationship.link())?;
        self.decisions = self.decisions.saturating_add(1);
        self.previous = Some(Sha256::of(line));
        Ok(())
    }

    fn follows(&self, link: Option<Link>) -> Result<()> {
        let Some(link) = link else {
            return Err(self.broken("session_chain_broken", "says no number"));
        };
        if link.sequence != self.decisions.saturating_add(1) {
            let why = format!("says that it is decision {}", link.sequence);
            return Err(self.broken("session_record_missing", &why));
        }
        if link.previous != self.previous {
            return Err(self.broken("session_chain_broken", "does not name the record before it"));
        }
        Ok(())
    }

    fn end(&mut self, line: &[u8]) -> Result<()> {
        let unverified = |why: &str| self.broken("session_record_unverified", why);
        let record =
            Record::parse("session close", line).map_err(|fault| unverified(fault.message()))?;
        record.verify(self.key).map_err(|unsigned| match unsigned {
            Unsigned::Missing => unverified("is not signed"),
            Unsigned::Invalid => unverified("has a signature that does not hold"),
        })?;
        let closing: Closing = record
            .read("session close")
            .map_err(|fault| unverified(fault.message()))?;
        let same = closing.count == self.decisions
            && Some(closing.last_record_digest) == self.previous
            && closing.schema_version == close::SCHEMA_VERSION;
        if !same {
            let why = format!("counts {} decisions, not {}", closing.count, self.decisions);
            return Err(self.broken("session_count_mismatch", &why));
        }
        self.closing = Some(closing);
        Ok(())
    }

    fn broken(&self, code: &'static str, why: &str) -> Fault {
        let number = self.decisions.saturating_add(1);
        let message = format!("record {number} of the session {why}");
        let unverified = unverified(message);
        Fault::new(Category::VerificationFailed, code, unverified.message())
            .hint("treat the session as incomplete: compare it with another copy")
    }

    fn report(self) -> Result<Report> {
        if self.previous.is_none() {
            let message = "the session has no record: nothing in it was signed";
            return Err(
                Fault::new(Category::VerificationFailed, "session_empty", message)
                    .hint("check the path, or compare it with another copy"),
            );
        }
        Ok(Report {
            decisions: self.decisions,
            closing: self.closing,
        })
    }
}
