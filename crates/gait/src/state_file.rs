//! What the gate remembers between processes: one JSON file a kind, changed under a lock, replaced whole.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use worldcompute_durable::{
    LockFile, LockForm, LockOptions, Mode, NewDirs, read_trusted, write_atomic,
};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::parse_json_within;

use crate::record::json_file;

/// A kind of state: its name and limits, and the codes of what can go wrong with it.
pub(crate) struct Kind {
    /// What it is, for messages.
    pub(crate) what: &'static str,
    /// The largest file, in bytes.
    pub(crate) max_bytes: usize,
    /// The file is not what it should be.
    pub(crate) corrupt: &'static str,
    /// The file cannot be read or written.
    pub(crate) unavailable: &'static str,
    /// The lock was held all the time.
    pub(crate) lock_timeout: &'static str,
    /// The lock cannot be taken for another reason.
    pub(crate) lock_failed: &'static str,
    /// How its lock looks.
    pub(crate) lock: LockForm,
    /// How long to wait for the lock.
    pub(crate) wait: LockOptions,
    /// What starting anew costs, for the hint that says how.
    pub(crate) anew: &'static str,
}

/// One file of a kind.
#[derive(Clone, Copy)]
pub(crate) struct StateFile<'a> {
    path: &'a Path,
    kind: &'static Kind,
}

/// A state file that nobody else changes until this is dropped.
pub(crate) struct Held<'a> {
    file: StateFile<'a>,
    _lock: LockFile,
    /// Below the lock, which is gone when they go.
    dirs: NewDirs,
}

impl<'a> StateFile<'a> {
    pub(crate) const fn new(path: &'a Path, kind: &'static Kind) -> Self {
        Self { path, kind }
    }

    /// The state; `None` when there is no file yet.
    pub(crate) fn read<S: DeserializeOwned>(&self) -> Result<Option<S>> {
        let bytes = match read_trusted(self.path, self.kind.max_bytes as u64) {
            Err(fault) if fault.code() == "not_found" => return Ok(None),
            read => read.map_err(|fault| self.unavailable(&fault))?,
        };
        let value = parse_json_within(&bytes, self.kind.max_bytes);
        let value = value.map_err(|fault| self.corrupt(fault.message()))?;
        Self::typed(value)
            .map_err(|why| self.corrupt(&why))
            .map(Some)
    }

    fn typed<S: DeserializeOwned>(value: Value) -> Result<S, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    /// Takes the lock, after making the directory on a first run; one that nothing is written to goes again.
    pub(crate) fn lock(self) -> Result<Held<'a>> {
        let dirs = NewDirs::make(self.path.parent().unwrap_or(Path::new("")))
            .map_err(|fault| self.recoded(&fault, self.kind.lock_failed))?;
        let lock = LockFile::acquire(&lock_path(self.path), &self.kind.lock, self.kind.wait);
        let lock = lock.map_err(|fault| match fault.category() {
            Category::StateContention => self.recoded(&fault, self.kind.lock_timeout),
            _ => self.recoded(&fault, self.kind.lock_failed),
        })?;
        Ok(Held {
            file: self,
            _lock: lock,
            dirs,
        })
    }

    /// The refusal of a file that is not what it should be.
    pub(crate) fn corrupt(&self, why: &str) -> Fault {
        let shown = self.path.display();
        let message = format!("{} {shown} is corrupt: {why}", self.kind.what);
        Fault::new(Category::IoFailure, self.kind.corrupt, message).hint(format!(
            "restore {shown} from a copy; or start anew, which {}: mv {shown} {shown}.corrupt",
            self.kind.anew
        ))
    }

    fn unavailable(&self, cause: &Fault) -> Fault {
        let message = format!("{}: {}", self.kind.what, cause.message());
        Fault::new(Category::IoFailure, self.kind.unavailable, message)
            .hint(cause.hint_text().to_owned())
    }

    fn recoded(&self, cause: &Fault, code: &'static str) -> Fault {
        let message = format!("{}: {}", self.kind.what, cause.message());
        Fault::new(cause.category(), code, message).hint(cause.hint_text().to_owned())
    }
}

impl Held<'_> {
    /// Replaces the state, and lets others at it.
    pub(crate) fn write<S: Serialize>(self, state: &S) -> Result<()> {
        let kind = self.file.kind;
        let bytes = json_file(state)?;
        if bytes.len() > kind.max_bytes {
            let message = format!(
                "{} {} would pass the limit of {} bytes",
                kind.what,
                self.file.path.display(),
                kind.max_bytes
            );
            return Err(Fault::new(Category::IoFailure, kind.unavailable, message)
                .hint("remove entries that are no longer needed"));
        }
        write_atomic(self.file.path, &bytes, Mode::Private)
            .map_err(|fault| self.file.recoded(&fault, kind.unavailable))?;
        self.dirs.keep();
        Ok(())
    }

    /// The file as such, for its faults.
    pub(crate) const fn file(&self) -> &StateFile<'_> {
        &self.file
    }
}

/// The lock beside a state file.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
