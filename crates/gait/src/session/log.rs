//! The log: one signed trace a line, in canonical form, each naming the one before.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use worldcompute_durable::{LockFile, LockForm, LockOptions, NewDirs, last_line};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, VerifyingKey, canonicalize_json};

use super::{close, verify};
use crate::limits::MAX_TRACE_BYTES;
use crate::record::Record;
use crate::record_log;
use crate::trace::{Link, SignedTrace};

const LOCK: LockForm = LockForm {
    schema_id: "gait.session.decision_log_lock",
    schema_version: "1.0.0",
    stale_after: Duration::from_secs(15),
};
const WAIT: LockOptions = LockOptions {
    wait: Duration::from_secs(3),
    poll: Duration::from_millis(5),
};

const RECORDS: record_log::Kind = record_log::Kind {
    max_record: MAX_TRACE_BYTES,
    mark: "\"decision:",
};

/// A log of numbered decisions, by its path.
#[derive(Clone, Copy, Debug)]
pub struct SessionLog<'a> {
    path: &'a Path,
}

/// The same, locked: the next record is the one with this link.
#[derive(Debug)]
pub struct OpenSession<'a> {
    path: &'a Path,
    link: Link,
    _lock: LockFile,
    /// Below the lock, which is gone when they go.
    dirs: NewDirs,
}

/// What a line says about its place.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    pub(super) schema_id: String,
    pub(super) relationship: Related,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Related {
    parent_record_id: String,
    related_record_ids: Vec<String>,
}

impl Related {
    /// The link that the line claims; `None` when it claims none.
    pub(super) fn link(&self) -> Option<Link> {
        let mut names = self.related_record_ids.iter();
        let number = names.find_map(|name| name.strip_prefix("decision:"))?;
        let previous = match self.parent_record_id.strip_prefix("sha256:") {
            Some(digest) => Some(digest.parse().ok()?),
            None => None,
        };
        Some(Link {
            sequence: number.parse().ok()?,
            previous,
        })
    }
}

impl<'a> SessionLog<'a> {
    /// The log at `path`; the file is made with the first record.
    pub const fn at(path: &'a Path) -> Self {
        Self { path }
    }

    /// Locks the log and finds the place of the next record.
    ///
    /// Errors: `session_closed`, `session_log_corrupt`, `session_lock_timeout`, and those of reading and locking.
    pub fn open(self) -> Result<OpenSession<'a>> {
        let dirs = NewDirs::make(self.path.parent().unwrap_or(Path::new("")))?;
        let lock = LockFile::acquire(&self.lock_path(), &LOCK, WAIT).map_err(contended)?;
        record_log::check(self.path, RECORDS)?;
        let last = last_line(self.path, MAX_TRACE_BYTES as u64)?;
        let link = match last {
            None => Link {
                sequence: 1,
                previous: None,
            },
            Some(line) => self.after(&line)?,
        };
        Ok(OpenSession {
            path: self.path,
            link,
            _lock: lock,
            dirs,
        })
    }

    fn after(&self, line: &[u8]) -> Result<Link> {
        let place: Place = serde_json::from_slice(line).map_err(|_| self.corrupt())?;
        if place.schema_id == close::SCHEMA_ID {
            let message = format!("session {} is closed", self.path.display());
            let fault = Fault::new(Category::InvalidInput, "session_closed", message);
            return Err(fault.hint("start another session: give another --session path"));
        }
        let link = place.relationship.link().ok_or_else(|| self.corrupt())?;
        Ok(Link {
            sequence: link.sequence.saturating_add(1),
            previous: Some(Sha256::of(line)),
        })
    }

    fn corrupt(&self) -> Fault {
        let shown = self.path.display();
        let message =
            format!("session log {shown} is corrupt: its last line is no record of a session");
        Fault::new(Category::IoFailure, "session_log_corrupt", message).hint(format!(
            "keep {shown} as evidence and give another --session path"
        ))
    }

    fn lock_path(&self) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push(".lock");
        PathBuf::from(path)
    }
}

impl OpenSession<'_> {
    /// The place of the next record.
    pub(crate) const fn link(&self) -> &Link {
        &self.link
    }

    /// Appends the trace that was signed with [`OpenSession::link`]; returns its number.
    pub(crate) fn append(self, trace: &SignedTrace) -> Result<u64> {
        let sequence = self.link.sequence;
        self.append_line(&canonicalize_json(trace.bytes())?)?;
        Ok(sequence)
    }

    /// Verifies every record; what a dead writer left of a last one is cut off by the next.
    pub(super) fn check(&self, key: &VerifyingKey) -> Result<()> {
        self.check_signer(key)?;
        match verify::verify(self.path, key) {
            Err(fault) if fault.code() != verify::TORN => Err(fault),
            _ => Ok(()),
        }
    }

    /// Tells a wrong key from a damaged session.
    fn check_signer(&self, key: &VerifyingKey) -> Result<()> {
        let last = last_line(self.path, MAX_TRACE_BYTES as u64)?.unwrap_or_default();
        let record = Record::parse("session record", &last)?;
        if record.key_id() == key.key_id() {
            return Ok(());
        }
        let message = format!(
            "the decisions of session {} are signed by the key {}, not by {}: an end by another key would not verify",
            self.path.display(),
            record.key_id(),
            key.key_id()
        );
        let fault = Fault::new(Category::InvalidInput, "session_key_mismatch", message);
        Err(fault.hint(
            "give the key of the decisions with --key-mode prod and --private-key or --private-key-env; \
             decisions in dev key mode have none that could be given",
        ))
    }

    pub(super) fn append_line(self, line: &[u8]) -> Result<()> {
        record_log::append(self.path, line, RECORDS)?;
        self.dirs.keep();
        Ok(())
    }
}

/// Whether this is a line of a log rather than a decision in a file of its own: numbered, and in canonical form.
pub(crate) fn is_record(line: &[u8]) -> bool {
    let numbered = |place: Place| place.relationship.link().is_some();
    serde_json::from_slice(line).is_ok_and(numbered)
        && canonicalize_json(line).is_ok_and(|canonical| canonical == line)
}

fn contended(fault: Fault) -> Fault {
    if fault.category() != Category::StateContention {
        return fault;
    }
    Fault::new(fault.category(), "session_lock_timeout", fault.message())
}
