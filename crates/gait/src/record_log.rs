//! Logs of one JSON record a line, at paths that people name.

use std::path::Path;
use std::time::Duration;

use serde::de::IgnoredAny;
use worldcompute_durable::{
    LockFile, LockForm, LockOptions, Mode, append_line, last_line, torn_tail,
};
use worldcompute_fault::{Category, Fault, Result};

/// A kind of log.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// Bytes of the longest record.
    pub(crate) max_record: usize,
    /// What stands in every record of the kind, and hardly in anybody else's file.
    pub(crate) mark: &'static str,
}

/// How long a writer waits for others to finish their lines.
const LOCK: LockOptions = LockOptions {
    wait: Duration::from_secs(2),
    poll: Duration::from_millis(10),
};

/// The lock beside a log, which other programs that append to it understand.
const LOCK_FORM: LockForm = LockForm {
    schema_id: "gait.scout.log_lock",
    schema_version: "1.0.0",
    stale_after: Duration::from_mins(2),
};

/// Appends records to a log that several programs write to.
///
/// Errors: `state_contention` when others have it all the time, `not_a_log` for a file whose last line is no record, and
/// those of [`append`].
pub(crate) fn append_shared(path: &Path, records: &[impl AsRef<[u8]>], kind: Kind) -> Result<()> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let _lock = LockFile::acquire(Path::new(&lock), &LOCK_FORM, LOCK)?;
    let last = last_line(path, kind.max_record as u64)?;
    if last.is_some_and(|last| !is_record(&last)) {
        return Err(not_a_log(path));
    }
    records
        .iter()
        .try_for_each(|record| append(path, record.as_ref(), kind))
}

fn is_record(line: &[u8]) -> bool {
    line.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// Appends a record to the log at `path`.
///
/// Errors: `not_a_log`, and those of writing.
pub(crate) fn append(path: &Path, record: &[u8], kind: Kind) -> Result<()> {
    check(path, kind)?;
    append_line(path, record, Mode::Private)
}

/// Refuses as `not_a_log` a file whose end is not the beginning of a record: to append would cut it off, for the record
/// that a dead writer left unfinished. One that lacks only its line break is whole, and somebody's unless it is marked.
pub(crate) fn check(path: &Path, kind: Kind) -> Result<()> {
    let tail = torn_tail(path, kind.max_record as u64)?;
    let begins = b"{\"".starts_with(&tail) || tail.starts_with(b"{\"");
    let whole = serde_json::from_slice::<IgnoredAny>(&tail).is_ok();
    let marked = String::from_utf8_lossy(&tail).contains(kind.mark);
    if begins && (!whole || marked) {
        return Ok(());
    }
    Err(not_a_log(path))
}

fn not_a_log(path: &Path) -> Fault {
    let shown = path.display();
    let message = format!("{shown} does not end like a log of records");
    Fault::new(Category::InvalidInput, "not_a_log", message).hint(format!(
        "give the path of a log or of a new file; if {shown} is a log, end its last line"
    ))
}
