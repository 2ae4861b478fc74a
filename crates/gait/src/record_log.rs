//! Logs of one JSON record a line, at paths that people name.

use std::path::Path;

use serde::de::IgnoredAny;
use worldcompute_durable::{Mode, append_line, torn_tail};
use worldcompute_fault::{Category, Fault, Result};

/// A kind of log.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// Bytes of the longest record.
    pub(crate) max_record: usize,
    /// What stands in every record of the kind, and hardly in anybody else's file.
    pub(crate) mark: &'static str,
}

/// Appends a record to the log at `path`.
///
/// Errors: `not_a_log`, and those of writing.
pub(crate) fn append(path: &Path, record: &[u8], kind: Kind) -> Result<()> {
    check(path, kind)?;
    append_line(path, record, Mode::Private)
}

/// Refuses as `not_a_log` a file whose end is not the beginning of a record: to append would cut it off, for the record
/// that a dead writer left unfinished.
pub(crate) fn check(path: &Path, kind: Kind) -> Result<()> {
    let (tail, follows_a_line) = torn_tail(path, kind.max_record as u64)?;
    let begins = b"{\"".starts_with(&tail) || tail.starts_with(b"{\"");
    let whole = serde_json::from_slice::<IgnoredAny>(&tail).is_ok();
    let marked = String::from_utf8_lossy(&tail).contains(kind.mark);
    if begins && (follows_a_line || !whole || marked) {
        return Ok(());
    }
    let shown = path.display();
    let message = format!("{shown} does not end like a log of records");
    Err(
        Fault::new(Category::InvalidInput, "not_a_log", message).hint(format!(
            "give the path of a log or of a new file; if {shown} is a log, end its last line"
        )),
    )
}
