//! The journal in short, so that an append need not read all of it. It is only believed where the journal agrees.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use worldcompute_durable::{Mode, last_line, read_bounded, write_atomic};
use worldcompute_fault::{Fault, Result};

use super::Session;
use super::journal::{self, Journal};
use super::record::{Checkpoint, Event, Line, VERSION};
use crate::limits::{MAX_SESSION_LINE, MAX_SESSION_STATE};
use crate::record::json_file;
use crate::runpack::Stamp;
use crate::signature::unverified;

const SCHEMA_ID: &str = "gait.runpack.session_state";

/// How far a session is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    pub session_id: String,
    pub run_id: String,
    pub created_at: Stamp,
    pub started_at: Stamp,
    pub event_count: u64,
    pub checkpoint_count: u64,
    pub last_sequence: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct State {
    schema_id: String,
    schema_version: String,
    updated_at: Stamp,
    producer_version: String,
    pub(super) session_id: String,
    pub(super) run_id: String,
    created_at: Stamp,
    started_at: Stamp,
    event_count: u64,
    pub(super) last_sequence: u64,
    checkpoint_count: u64,
    last_checkpoint_index: u64,
    last_checkpoint_sequence: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    last_checkpoint_digest: String,
    journal_size_bytes: u64,
}

impl State {
    /// The state as of now: the one that was kept if the journal still is as it was then, else read anew.
    pub(super) fn current(session: &Session<'_>) -> Result<Self> {
        if let Some(kept) = Self::kept(session)? {
            return Ok(kept);
        }
        let journal = journal::read(session.journal, |_, _| Ok(()))?;
        let state = Self::of(&journal, session)?;
        state.write(session)?;
        Ok(state)
    }

    pub(super) fn of(journal: &Journal, session: &Session<'_>) -> Result<Self> {
        let header = journal.header()?;
        let last = journal.checkpoints.last();
        let count = journal.checkpoints.len() as u64;
        Ok(Self {
            schema_id: SCHEMA_ID.to_owned(),
            schema_version: VERSION.to_owned(),
            updated_at: session.now,
            producer_version: session.producer_version.to_owned(),
            session_id: header.session_id.clone(),
            run_id: header.run_id.clone(),
            created_at: header.created_at,
            started_at: header.started_at,
            event_count: journal.events,
            last_sequence: journal.last_sequence,
            checkpoint_count: count,
            last_checkpoint_index: count,
            last_checkpoint_sequence: journal.checkpointed(),
            last_checkpoint_digest: last
                .map(|last| last.checkpoint_digest.clone())
                .unwrap_or_default(),
            journal_size_bytes: journal.bytes,
        })
    }

    /// Events that no checkpoint covers.
    pub(super) const fn pending(&self) -> u64 {
        self.last_sequence
            .saturating_sub(self.last_checkpoint_sequence)
    }

    pub(super) fn note_event(&mut self, event: &Event, session: &Session<'_>) {
        self.updated_at = session.now;
        self.event_count = self.event_count.saturating_add(1);
        self.last_sequence = event.sequence;
    }

    pub(super) fn note_checkpoint(&mut self, checkpoint: &Checkpoint, session: &Session<'_>) {
        self.updated_at = session.now;
        self.checkpoint_count = checkpoint.checkpoint_index;
        self.last_checkpoint_index = checkpoint.checkpoint_index;
        self.last_checkpoint_sequence = checkpoint.sequence_end;
        self.last_checkpoint_digest
            .clone_from(&checkpoint.checkpoint_digest);
    }

    pub(super) fn status(&self) -> Status {
        Status {
            session_id: self.session_id.clone(),
            run_id: self.run_id.clone(),
            created_at: self.created_at,
            started_at: self.started_at,
            event_count: self.event_count,
            checkpoint_count: self.checkpoint_count,
            last_sequence: self.last_sequence,
        }
    }

    /// Keeps the state for the next append.
    pub(super) fn write(&self, session: &Session<'_>) -> Result<()> {
        let kept = Self {
            journal_size_bytes: size(session)?,
            ..self.clone()
        };
        write_atomic(&path(session.journal), &json_file(&kept)?, Mode::Private)
    }

    /// What was kept, unless the journal says otherwise. A state that cannot be read is none: the journal is the truth.
    fn kept(session: &Session<'_>) -> Result<Option<Self>> {
        let Ok(bytes) = read_bounded(&path(session.journal), MAX_SESSION_STATE) else {
            return Ok(None);
        };
        let Ok(state) = serde_json::from_slice::<Self>(&bytes) else {
            return Ok(None);
        };
        let agrees = state.schema_id == SCHEMA_ID
            && state.schema_version == VERSION
            && state.journal_size_bytes == size(session)?
            && state.agrees_with(last(session)?);
        Ok(agrees.then_some(state))
    }

    /// Whether the last line of the journal is where this state says it is.
    fn agrees_with(&self, last: Option<Line>) -> bool {
        match last {
            None => false,
            Some(Line::Header { header }) => {
                (
                    &header.session_id,
                    self.last_sequence,
                    self.checkpoint_count,
                ) == (&self.session_id, 0, 0)
            }
            Some(Line::Event { event }) => {
                (&event.session_id, event.sequence) == (&self.session_id, self.last_sequence)
            }
            Some(Line::Checkpoint { checkpoint }) => {
                (
                    &checkpoint.session_id,
                    checkpoint.sequence_end,
                    checkpoint.checkpoint_index,
                ) == (&self.session_id, self.last_sequence, self.checkpoint_count)
            }
        }
    }
}

fn last(session: &Session<'_>) -> Result<Option<Line>> {
    let Some(line) = last_line(session.journal, MAX_SESSION_LINE as u64)? else {
        return Ok(None);
    };
    let line = serde_json::from_slice(&line);
    line.map(Some)
        .map_err(|error| unverified("the last line of the session journal").caused_by(error))
}

/// Where the state of a journal is.
pub(super) fn path(journal: &Path) -> PathBuf {
    let mut path = journal.as_os_str().to_owned();
    path.push(".state.json");
    PathBuf::from(path)
}

fn size(session: &Session<'_>) -> Result<u64> {
    let metadata = session.journal.metadata();
    metadata
        .map(|metadata| metadata.len())
        .map_err(|error| Fault::io(format_args!("read {}", session.journal.display()), &error))
}
