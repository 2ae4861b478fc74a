//! A journal without the events that its checkpoints keep.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use worldcompute_durable::{AtomicFile, Mode};
use worldcompute_fault::{Fault, Result};

use super::Session;
use super::journal::{self, Journal};
use super::record::Line;
use super::state::State;

/// What a compaction did, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct Compaction {
    pub journal_path: PathBuf,
    pub output_path: PathBuf,
    pub dry_run: bool,
    pub compacted: bool,
    pub events_before: u64,
    pub events_after: u64,
    pub checkpoints: usize,
    pub last_checkpoint_sequence: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

/// Writes the journal without the events that a checkpoint covers to `out`, or in its own place.
///
/// # Errors
/// Those of reading the journal and of writing.
pub fn compact(session: &Session<'_>, out: Option<&Path>, dry_run: bool) -> Result<Compaction> {
    let _lock = session.lock.acquire(session.journal)?;
    let journal = journal::read(session.journal, |_, _| Ok(()))?;
    journal.header()?;
    let out = out.unwrap_or(session.journal);
    let (mut events, mut bytes) = (0, 0_u64);
    each_kept(session, &journal, |line, text| {
        events += u64::from(matches!(line, Line::Event { .. }));
        bytes = bytes.saturating_add(text.len() as u64);
        Ok(())
    })?;
    let changes = bytes != journal.bytes || out != session.journal;
    if changes && !dry_run {
        write(session, &journal, out)?;
    }
    if changes && !dry_run && out == session.journal {
        State::of(&journal::read(out, |_, _| Ok(()))?, session)?.write(session)?;
    }
    Ok(Compaction {
        journal_path: session.journal.to_path_buf(),
        output_path: out.to_path_buf(),
        dry_run,
        compacted: changes,
        events_before: journal.events,
        events_after: events,
        checkpoints: journal.checkpoints.len(),
        last_checkpoint_sequence: journal.checkpointed(),
        bytes_before: journal.bytes,
        bytes_after: bytes,
    })
}

/// The lines that stay, as they are: the header, the checkpoints, and the events that none of them covers.
fn each_kept(
    session: &Session<'_>,
    journal: &Journal,
    mut each: impl FnMut(&Line, &[u8]) -> Result<()>,
) -> Result<()> {
    let covered = journal.checkpointed();
    journal::read(session.journal, |line, text| match line {
        Line::Event { event } if event.sequence <= covered => Ok(()),
        _ => each(line, text),
    })?;
    Ok(())
}

fn write(session: &Session<'_>, journal: &Journal, out: &Path) -> Result<()> {
    let mut file = AtomicFile::create(out, Mode::Private)?;
    each_kept(session, journal, |_, text| {
        file.write_all(text)
            .map_err(|error| Fault::io(format_args!("write {}", out.display()), &error))
    })?;
    file.commit()
}
