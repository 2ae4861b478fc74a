//! A journal that is not kept any longer.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use jiff::Timestamp;
use worldcompute_durable::open_to_read;
use worldcompute_fault::{Category, Fault, Result};

use super::chain::Chain;
use super::lock::LockSettings;
use super::record::Line;
use super::state;
use crate::limits::MAX_SESSION_LINE;

/// Removes the journal of a session that `ours` knows, with its state and the chain of its checkpoints; false when it
/// is somebody else's, when somebody is writing to it, or when somebody has since the time `changed`.
///
/// The journal goes last: a session of which only a part is gone is found and removed again.
///
/// # Errors
/// Those of the disk.
pub(crate) fn remove(
    journal: &Path,
    changed: Timestamp,
    lock: LockSettings,
    ours: impl Fn(&str) -> bool,
) -> Result<bool> {
    let _lock = match lock.at_once().acquire(journal) {
        Err(fault) if fault.category() == Category::StateContention => return Ok(false),
        lock => lock?,
    };
    let cannot = |error| Fault::io(format_args!("read {}", journal.display()), &error);
    let metadata = journal.symlink_metadata().map_err(cannot)?;
    let at = metadata.modified().map_err(cannot)?;
    if !metadata.is_file() || Timestamp::try_from(at).ok() != Some(changed) {
        return Ok(false);
    }
    if !session_id(journal)?.is_some_and(|id| ours(&id)) {
        return Ok(false);
    }
    for path in [&Chain::beside(journal), &state::path(journal), journal] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Fault::io(format_args!("remove {}", path.display()), &error));
            }
            _ => {}
        }
    }
    Ok(true)
}

/// The session that the first line names; `None` when that is no header.
fn session_id(journal: &Path) -> Result<Option<String>> {
    let mut line = Vec::new();
    BufReader::new(open_to_read(journal)?)
        .take(MAX_SESSION_LINE as u64)
        .read_until(b'\n', &mut line)
        .map_err(|error| Fault::io(format_args!("read {}", journal.display()), &error))?;
    match serde_json::from_slice(&line) {
        Ok(Line::Header { header }) => Ok(Some(header.session_id)),
        _ => Ok(None),
    }
}
