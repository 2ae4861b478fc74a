//! Reading a journal, line by line, with every rule of its order checked.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use worldcompute_durable::{last_line, open_to_read};
use worldcompute_fault::{Fault, Result};

use super::record::{Checkpoint, Event, Header, Line};
use crate::limits::{MAX_SESSION_LINE, MAX_SESSION_SEQUENCE};
use crate::signature::unverified;

/// What a journal says up to some line.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) header: Option<Header>,
    pub(super) checkpoints: Vec<Checkpoint>,
    pub(super) events: u64,
    pub(super) last_sequence: u64,
    /// Bytes of whole lines.
    pub(super) bytes: u64,
}

/// Whether there is a journal with a line in it.
pub(super) fn exists(path: &Path) -> Result<bool> {
    Ok(last_line(path, MAX_SESSION_LINE as u64)?.is_some())
}

/// Reads the journal at `path` and hands each line, with its text, to `each`. What a dead writer left of a last line was
/// never acknowledged, and is not read.
pub(super) fn read(
    path: &Path,
    mut each: impl FnMut(&Line, &[u8]) -> Result<()>,
) -> Result<Journal> {
    let cannot_read = |error| Fault::io(format_args!("read {}", path.display()), &error);
    let mut lines = BufReader::new(open_to_read(path)?);
    let mut journal = Journal::default();
    let (mut number, mut text) = (0, Vec::new());
    loop {
        text.clear();
        number += 1;
        let limit = MAX_SESSION_LINE as u64 + 1;
        let read = (&mut lines).take(limit).read_until(b'\n', &mut text);
        read.map_err(cannot_read)?;
        if text.len() > MAX_SESSION_LINE {
            return Err(broken(path, number, "is too long"));
        }
        let Some(line) = text.strip_suffix(b"\n") else {
            return Ok(journal);
        };
        journal.bytes = journal.bytes.saturating_add(text.len() as u64);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| broken(path, number, &error.to_string()))?;
        journal
            .take(&line)
            .map_err(|why| broken(path, number, &why))?;
        each(&line, &text)?;
    }
}

fn broken(path: &Path, number: usize, why: &str) -> Fault {
    let journal = path.display();
    unverified(format!("session journal {journal} line {number}: {why}")).hint(
        "restore the journal from a copy, or verify the checkpoints that were made: gait verify session-chain",
    )
}

impl Journal {
    /// The header, which every journal has.
    pub(super) fn header(&self) -> Result<&Header> {
        self.header
            .as_ref()
            .ok_or_else(|| unverified("session journal missing header"))
    }

    /// The last event that a checkpoint covers.
    pub(super) fn checkpointed(&self) -> u64 {
        self.checkpoints.last().map_or(0, |last| last.sequence_end)
    }

    fn take(&mut self, line: &Line) -> Result<(), String> {
        match (line, &self.header) {
            (Line::Header { .. }, Some(_)) => return Err("duplicate header".to_owned()),
            (Line::Header { header }, None) => self.header = Some(header.clone()),
            (_, None) => return Err("comes before the header".to_owned()),
            (Line::Event { event }, Some(header)) => {
                let owner = (&event.session_id, &event.run_id);
                check_owner(header, owner)?;
                self.take_event(event)?;
            }
            (Line::Checkpoint { checkpoint }, Some(header)) => {
                let owner = (&checkpoint.session_id, &checkpoint.run_id);
                check_owner(header, owner)?;
                self.take_checkpoint(checkpoint)?;
            }
        }
        Ok(())
    }

    fn take_event(&mut self, event: &Event) -> Result<(), String> {
        let expected = self.last_sequence.saturating_add(1);
        if event.sequence != expected || expected > MAX_SESSION_SEQUENCE {
            return Err(format!("event {} where {expected} belongs", event.sequence));
        }
        self.last_sequence = event.sequence;
        self.events = self.events.saturating_add(1);
        Ok(())
    }

    fn take_checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), String> {
        let (last, before) = (self.checkpoints.last(), self.checkpointed());
        let digest = last.map_or("", |last| last.checkpoint_digest.as_str());
        let follows = checkpoint.checkpoint_index == self.checkpoints.len() as u64 + 1
            && checkpoint.sequence_start.checked_sub(1) == Some(before)
            && (checkpoint.sequence_start..=MAX_SESSION_SEQUENCE)
                .contains(&checkpoint.sequence_end)
            && checkpoint.prev_checkpoint_digest == digest;
        if !follows {
            return Err("checkpoint does not follow the one before".to_owned());
        }
        if checkpoint.checkpoint_digest != checkpoint.digest() {
            return Err("checkpoint digest invalid".to_owned());
        }
        // The events of a checkpoint may have been compacted away: all of them, or none.
        if ![before, checkpoint.sequence_end].contains(&self.last_sequence) {
            return Err("events of the checkpoint are missing".to_owned());
        }
        self.last_sequence = self.last_sequence.max(checkpoint.sequence_end);
        self.checkpoints.push(checkpoint.clone());
        Ok(())
    }
}

fn check_owner(header: &Header, owner: (&String, &String)) -> Result<(), String> {
    match (&header.session_id, &header.run_id) == owner {
        true => Ok(()),
        false => Err("belongs to another session".to_owned()),
    }
}
