//! The journals of `gait run session`: runs that go on for days, with verifiable checkpoints on the way.
//!
//! Events are numbered without gaps. A checkpoint is a runpack of the events since the last one; its digest covers the
//! one before, so that no checkpoint can be left out of the chain unnoticed. Several processes may write to one journal.

mod chain;
mod checkpoint;
mod compact;
mod diff;
mod journal;
mod lock;
mod record;
mod relation;
mod remove;
mod state;

pub(crate) use chain::SCHEMA_ID as CHAIN_SCHEMA_ID;
pub use chain::{Chain, ChainReport, verify_chain};
pub use checkpoint::checkpoint;
pub use compact::{Compaction, compact};
pub use diff::diff;
pub use lock::LockSettings;
pub use record::{Checkpoint, Event, Header, NewEvent};
pub(crate) use remove::remove;
pub use state::Status;

use std::path::Path;

use worldcompute_durable::output_dir;
use worldcompute_fault::{Category, Fault, Result};

use crate::limits::{MAX_CHECKPOINT_EVENTS, MAX_SESSION_LINE, MAX_SESSION_SEQUENCE, invalid};
use crate::record_log;
use crate::runpack::Stamp;
use record::{Line, SESSION_VERDICTS};
use state::State;

const RECORDS: record_log::Kind = record_log::Kind {
    max_record: MAX_SESSION_LINE,
    mark: "\"record_type\":",
};

/// A journal, how long to wait for it, and which program writes to it when.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// The journal.
    pub journal: &'a Path,
    /// How to wait for other writers.
    pub lock: LockSettings,
    /// The version of this program.
    pub producer_version: &'a str,
    /// Now.
    pub now: Stamp,
}

impl Session<'_> {
    /// Begins a session, or finds the one that was begun before.
    ///
    /// # Errors
    /// `invalid_input` when the journal is another session's; `verification_failed` when it is damaged;
    /// `state_contention` when others held it all the time; those of writing.
    pub fn start(&self, session_id: &str, run_id: &str) -> Result<Status> {
        let (session_id, run_id) = (session_id.trim(), run_id.trim());
        if session_id.is_empty() {
            return Err(invalid("session_id is required"));
        }
        crate::runpack::check_run_id(run_id)?;
        self.journal.parent().map_or(Ok(()), output_dir)?;
        let _lock = self.lock.acquire(self.journal)?;
        if !journal::exists(self.journal)? {
            let header = Header::new(session_id, run_id, self);
            self.append(&Line::Header { header })?;
        }
        let state = State::current(self)?;
        match state.session_id == session_id && state.run_id == run_id {
            true => Ok(state.status()),
            false => Err(invalid(
                "session journal already initialized with different session/run",
            )),
        }
    }

    /// Adds an event under the next number.
    ///
    /// # Errors
    /// `invalid_input` for an unknown verdict; `session_checkpoint_due` when no checkpoint could take one more, so that
    /// none is ever recorded that cannot be proven; else those of [`Session::start`].
    pub fn record(&self, event: &NewEvent<'_>) -> Result<Event> {
        if !SESSION_VERDICTS.contains(&event.verdict) {
            return Err(invalid(
                "unsupported --verdict value (expected allow|block|dry_run|require_approval)",
            ));
        }
        let _lock = self.lock.acquire(self.journal)?;
        let mut state = State::current(self)?;
        if state.pending() >= MAX_CHECKPOINT_EVENTS {
            return Err(checkpoint_due());
        }
        if state.last_sequence >= MAX_SESSION_SEQUENCE {
            return Err(invalid("the session has no number left for another event"));
        }
        let event = Event::new(event, &state, self);
        self.append(&Line::Event {
            event: event.clone(),
        })?;
        state.note_event(&event, self);
        state.write(self)?;
        Ok(event)
    }

    /// How far the session is.
    ///
    /// # Errors
    /// Those of [`Session::start`].
    pub fn status(&self) -> Result<Status> {
        let _lock = self.lock.acquire(self.journal)?;
        Ok(State::current(self)?.status())
    }

    fn append(&self, line: &Line) -> Result<()> {
        record_log::append(self.journal, &line.text()?, RECORDS)
    }
}

fn checkpoint_due() -> Fault {
    let message = format!("{MAX_CHECKPOINT_EVENTS} events since the last checkpoint");
    Fault::new(Category::InvalidInput, "session_checkpoint_due", message)
        .hint("make a checkpoint first: gait run session checkpoint --journal <path> --out <zip>")
}

#[cfg(test)]
mod tests;
