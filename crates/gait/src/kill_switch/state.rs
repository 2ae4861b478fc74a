//! The file of entries: read by the gate, changed by people, one change at a time.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use worldcompute_durable::{LockForm, LockOptions};
use worldcompute_fault::{Category, Fault, Result};

use super::DEFAULT_STATE;
use super::entry::Entry;
use crate::VERSION;
use crate::limits::{MAX_KILL_SWITCH_ENTRIES, at_most, invalid};
use crate::record::is_schema;
use crate::state_file::{Kind, StateFile};
use crate::wire_time::WireTime;

const SCHEMA_ID: &str = "gait.gate.kill_switch_state";
const SCHEMA_VERSION: &str = "1.0.0";

static KIND: Kind = Kind {
    what: "kill switch state",
    max_bytes: 16 << 20,
    corrupt: "kill_switch_state_corrupt",
    unavailable: "kill_switch_state_unavailable",
    lock_timeout: "kill_switch_lock_timeout",
    lock_failed: "kill_switch_lock_failed",
    lock: LockForm {
        schema_id: "gait.gate.kill_switch_lock",
        schema_version: "1.0.0",
        stale_after: Duration::from_secs(15),
    },
    wait: LockOptions {
        wait: Duration::from_secs(3),
        poll: Duration::from_millis(5),
    },
    anew: "turns every entry off",
};

/// A kill switch, by the path of its state.
#[derive(Clone, Copy, Debug)]
pub struct KillSwitch<'a> {
    path: &'a Path,
}

/// All entries (`gait.gate.kill_switch_state` 1.0.0).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    #[serde(default)]
    schema_id: String,
    #[serde(default)]
    schema_version: String,
    created_at: WireTime,
    updated_at: WireTime,
    #[serde(default)]
    producer_version: String,
    entries: Vec<Entry>,
}

impl<'a> KillSwitch<'a> {
    /// The switch whose state is at `path`.
    pub const fn at(path: &'a Path) -> Self {
        Self { path }
    }

    /// The switch that gates obey: the one at `path`, or else the one at [`DEFAULT_STATE`], once there is one.
    pub fn obeyed(path: Option<&'a Path>) -> Option<Self> {
        let default = Self::at(Path::new(DEFAULT_STATE));
        path.map(Self::at)
            .or_else(|| default.is_there().then_some(default))
    }

    /// What cannot be looked at may be there.
    fn is_there(&self) -> bool {
        let found = self.path.symlink_metadata();
        !found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    }

    /// Where the state is.
    pub const fn path(&self) -> &'a Path {
        self.path
    }

    /// The state; `None` when there is none yet.
    ///
    /// Errors: `kill_switch_state_corrupt`, `kill_switch_state_unavailable`.
    pub fn load(&self) -> Result<Option<State>> {
        let file = StateFile::new(self.path, &KIND);
        let state = file.read::<State>()?.map(State::normal).transpose();
        state.map_err(|fault| file.corrupt(fault.message()))
    }

    /// The state that the gate decides by: here a missing one is an error too.
    pub fn required(&self) -> Result<State> {
        self.load()?.ok_or_else(|| {
            let message = format!("kill switch state {} does not exist", self.path.display());
            Fault::new(
                Category::IoFailure,
                "kill_switch_state_unavailable",
                message,
            )
            .hint("make one with gait kill-switch add, or correct the path")
        })
    }

    /// Adds an entry, and the file if there is none.
    ///
    /// Errors: `invalid_input` for an entry that is none, is over already, or whose id is taken, those of [`KillSwitch::load`],
    /// `kill_switch_lock_timeout`, `kill_switch_lock_failed`.
    pub fn add(&self, entry: Entry, now: Timestamp) -> Result<(Entry, State)> {
        let entry = entry.normal()?;
        if entry.is_over(now) {
            return Err(invalid(
                "kill switch entry is over before it begins: expires_at has passed",
            ));
        }
        let state = self.change(now, |state| {
            if state
                .entries()
                .iter()
                .any(|have| have.entry_id == entry.entry_id)
            {
                return Err(invalid(format!(
                    "kill switch entry exists already: {}",
                    entry.entry_id
                )));
            }
            state.entries.push(entry.clone());
            Ok(())
        })?;
        Ok((entry, state))
    }

    /// Turns an entry off for good.
    pub fn disable(&self, entry_id: &str, now: Timestamp) -> Result<(Entry, State)> {
        self.change_one(entry_id, now, |entry| entry.enabled = false)
    }

    /// Lets an entry end at `end`.
    pub fn expire(&self, entry_id: &str, end: Timestamp, now: Timestamp) -> Result<(Entry, State)> {
        self.change_one(entry_id, now, |entry| entry.expires_at = WireTime::at(end))
    }

    fn change_one(
        &self,
        entry_id: &str,
        now: Timestamp,
        change: impl Fn(&mut Entry),
    ) -> Result<(Entry, State)> {
        let mut changed = None;
        let state = self.change(now, |state| {
            for entry in &mut state.entries {
                if entry.entry_id == entry_id {
                    change(entry);
                    changed = Some(entry.clone());
                }
            }
            changed
                .as_ref()
                .map(|_| ())
                .ok_or_else(|| invalid(format!("kill switch entry not found: {entry_id}")))
        })?;
        let unknown = || invalid(format!("kill switch entry not found: {entry_id}"));
        Ok((changed.ok_or_else(unknown)?, state))
    }

    fn change(
        &self,
        now: Timestamp,
        change: impl FnOnce(&mut State) -> Result<()>,
    ) -> Result<State> {
        let held = StateFile::new(self.path, &KIND).lock()?;
        let mut state = self.load()?.unwrap_or_else(|| State::new(now));
        change(&mut state)?;
        state.updated_at = WireTime::at(now);
        let state = state.normal()?;
        held.write(&state)?;
        Ok(state)
    }
}

impl State {
    /// A state without entries.
    pub fn new(now: Timestamp) -> Self {
        Self {
            schema_id: SCHEMA_ID.to_owned(),
            schema_version: SCHEMA_VERSION.to_owned(),
            created_at: WireTime::at(now),
            updated_at: WireTime::at(now),
            producer_version: VERSION.to_owned(),
            entries: Vec::new(),
        }
    }

    /// The entries, by id.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn normal(mut self) -> Result<Self> {
        let known = is_schema(&self.schema_id, SCHEMA_ID)
            && is_schema(&self.schema_version, SCHEMA_VERSION);
        if !known || self.created_at.is_unset() || self.updated_at.is_unset() {
            return Err(invalid("not a kill switch state of this version"));
        }
        at_most(
            "kill switch entries",
            self.entries.len(),
            MAX_KILL_SWITCH_ENTRIES,
            "kill_switch_state_too_large",
        )?;
        let entries = self.entries.into_iter().map(Entry::normal);
        let mut entries: Vec<_> = entries.collect::<Result<_>>()?;
        entries.sort_by(|a, b| a.entry_id.cmp(&b.entry_id));
        SCHEMA_ID.clone_into(&mut self.schema_id);
        SCHEMA_VERSION.clone_into(&mut self.schema_version);
        self.entries = entries;
        Ok(self)
    }
}
