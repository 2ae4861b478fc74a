//! How much of what the service made is kept.
//!
//! Nothing is deleted but what the service makes itself: regular files of this user, by the names that it gives and with
//! the content that belongs to them, in the directory itself. Links are not followed. A clock that is behind the
//! youngest file cannot tell what is old, and then nothing is deleted at all.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use worldcompute_fault::{Category, Fault, Result};

use super::keep::journal_name;
use crate::clock::Clock;
use crate::limits::{MAX_RETAIN_FILES, at_most};
use crate::run_session::{self, LockSettings};
use crate::verifier::Artefact;

/// The files of one kind in one directory.
#[derive(Clone, Debug)]
pub struct Retention {
    /// What they are.
    pub kind: Kind,
    /// Where they are.
    pub dir: PathBuf,
    /// What is older is deleted; zero keeps what is old.
    pub max_age: SignedDuration,
    /// So many are kept, the youngest; zero keeps any number.
    pub max_count: usize,
    /// How writers of one journal wait for each other.
    pub session_lock: LockSettings,
}

/// What the service makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A signed ruling.
    Trace,
    /// A run of one ruling, or a checkpoint of a session.
    Runpack,
    /// A pack of one ruling.
    Pack,
    /// The journal of a session, with its state and the chain of its checkpoints.
    Session,
}

/// A file that may be one of the service.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    changed: Timestamp,
    path: PathBuf,
}

/// How many went, and why. One that is too old and too many counts as both.
#[derive(Debug, Default)]
struct Removed {
    by_age: usize,
    by_count: usize,
}

impl Retention {
    /// Deletes what is too old or too much. What there is to know of it is a warning: `retention_<kind>_removed_age=1
    /// removed_count=0` or `retention_<kind>_error=..`; what could not be deleted stays.
    pub(super) fn sweep(&self, clock: &dyn Clock) -> Option<String> {
        let name = self.kind.name();
        match self.remove(clock) {
            Ok(Removed {
                by_age: 0,
                by_count: 0,
            }) => None,
            Ok(Removed { by_age, by_count }) => Some(format!(
                "retention_{name}_removed_age={by_age} removed_count={by_count}"
            )),
            Err(fault) => Some(format!("retention_{name}_error={}", fault.message())),
        }
    }

    fn remove(&self, clock: &dyn Clock) -> Result<Removed> {
        let mut removed = Removed::default();
        if self.max_age.is_zero() && self.max_count == 0 {
            return Ok(removed);
        }
        let mut found = self.list()?;
        // After the files were listed: what was written meanwhile is not from the future.
        let now = clock.now();
        found.sort_by(|one, other| other.cmp(one));
        if let Some(youngest) = found.first().filter(|youngest| youngest.changed > now) {
            return Err(behind(&youngest.path));
        }
        for (index, found) in found.iter().enumerate() {
            let old = !self.max_age.is_zero() && now.duration_since(found.changed) > self.max_age;
            let many = self.max_count > 0 && index >= self.max_count;
            if (old || many) && self.kind.delete(found, self.session_lock)? {
                removed.by_age += usize::from(old);
                removed.by_count += usize::from(many);
            }
        }
        Ok(removed)
    }

    /// The regular files of this user that have a name that the service gives.
    fn list(&self) -> Result<Vec<Found>> {
        let cannot_list = |error| Fault::io(format_args!("list {}", self.dir.display()), &error);
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(cannot_list)?,
        };
        let user = rustix::process::geteuid().as_raw();
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(cannot_list)?;
            if !entry
                .file_name()
                .to_str()
                .is_some_and(|name| self.kind.names(name))
            {
                continue;
            }
            let metadata = match entry.metadata() {
                // Another request was faster.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                metadata => metadata.map_err(cannot_list)?,
            };
            if !metadata.is_file() || metadata.uid() != user {
                continue;
            }
            at_most("files", found.len() + 1, MAX_RETAIN_FILES, "too_many_files")?;
            let changed = metadata.modified().map_err(cannot_list)?;
            found.push(Found {
                changed: Timestamp::try_from(changed).unwrap_or(Timestamp::MAX),
                path: entry.path(),
            });
        }
        Ok(found)
    }
}

impl Kind {
    /// Its name in flags and warnings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Runpack => "runpack",
            Self::Pack => "pack",
            Self::Session => "session",
        }
    }

    /// Whether the service gives such a name to such a file.
    fn names(self, name: &str) -> bool {
        let of_ruling = |kind: &str, end: &str| {
            let middle = name
                .strip_prefix(kind)
                .and_then(|rest| rest.strip_suffix(end));
            let id = middle.and_then(|middle| middle.rsplit_once('_'));
            id.is_some_and(|(run, id)| !run.is_empty() && is_id(id))
        };
        match self {
            Self::Trace => of_ruling("trace_", ".json"),
            Self::Runpack => of_ruling("runpack_", ".zip") || is_checkpoint(name),
            Self::Pack => of_ruling("pack_", ".zip"),
            Self::Session => name
                .strip_suffix(".journal.jsonl")
                .is_some_and(|stem| !stem.is_empty()),
        }
    }

    /// Deletes a file, unless it is not what its name says or somebody is using it.
    fn delete(self, found: &Found, lock: LockSettings) -> Result<bool> {
        let path = &found.path;
        if self == Self::Session {
            let ours =
                |session_id: &str| path.file_name() == Some(journal_name(session_id).as_ref());
            return run_session::remove(path, found.changed, lock, ours);
        }
        let artefact = Artefact::recognise(path)?;
        let ours = artefact.is_some_and(|artefact| match self {
            Self::Trace => artefact.is_trace(),
            _ => artefact.is_archive(),
        });
        match ours {
            true => unlink(path),
            false => Ok(false),
        }
    }
}

/// A correlation id.
fn is_id(id: &str) -> bool {
    id.len() == 24
        && id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_checkpoint(name: &str) -> bool {
    let stem = name.strip_suffix(".zip").unwrap_or_default();
    let parts = stem.rsplit_once("_cp_");
    parts.is_some_and(|(session, number)| {
        !session.is_empty() && number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Whether it was there.
fn unlink(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Fault::io(format_args!("remove {}", path.display()), &error)),
    }
}

fn behind(youngest: &Path) -> Fault {
    let message = format!(
        "the clock is behind {}: nothing can be called old",
        youngest.display()
    );
    Fault::new(Category::DependencyMissing, "clock_behind", message)
        .hint("set the clock of the machine")
}

#[cfg(test)]
mod tests;
