//! The kill switch: a file of entries, each of which stops whatever fits it, before and above every policy.
//!
//! Inside an entry all selectors must fit, over the entries any will do. A switch that is configured and cannot be read
//! stops everything: it may be on.

mod entry;
mod journal;
mod state;

pub use entry::Entry;
pub use journal::JournalRecord;
pub use state::{KillSwitch, State};

use serde::Serialize;

use crate::intent::Intent;
use crate::wire_time::WireTime;
use jiff::Timestamp;

/// Where `gait kill-switch` keeps the state, and gates look for one, unless told otherwise.
pub const DEFAULT_STATE: &str = "./.gait-out/kill_switch_state.json";

/// What the switch says to one intent; its fields are in canonical order, which the trace relies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// When it was asked.
    pub evaluated_at: WireTime,
    /// The entries that fit, by id, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matched_entry_ids: Vec<String>,
    /// The first of the codes that says more than that the switch is on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason_code: String,
    /// Why, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reason_codes: Vec<String>,
    /// How it stands.
    pub status: Status,
}

/// How the switch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It stops the intent.
    Active,
    /// It lets the intent pass.
    Inactive,
    /// Nobody can tell, so it stops the intent.
    Unavailable,
}

const ACTIVE: &str = "kill_switch_active";

impl Decision {
    /// What a state says to `intent` at the time `now`.
    pub fn of(state: &State, intent: &Intent, now: Timestamp) -> Self {
        let fits = |entry: &&Entry| entry.is_on(now) && entry.fits(intent);
        let entries: Vec<&Entry> = state.entries().iter().filter(fits).collect();
        let mut codes: Vec<_> = entries
            .iter()
            .flat_map(|entry| entry.codes())
            .map(str::to_owned)
            .collect();
        if entries.is_empty() {
            return Self::new(Status::Inactive, codes, now);
        }
        codes.push(ACTIVE.to_owned());
        let ids: Vec<_> = entries.iter().map(|entry| &entry.entry_id).collect();
        Self {
            matched_entry_ids: crate::text::sorted_set(&ids),
            ..Self::new(Status::Active, codes, now)
        }
    }

    /// The answer when the state cannot be read.
    pub fn unavailable(code: &str, now: Timestamp) -> Self {
        let codes = ["kill_switch_state_unavailable", code].map(str::to_owned);
        Self::new(Status::Unavailable, codes.to_vec(), now)
    }

    fn new(status: Status, codes: Vec<String>, now: Timestamp) -> Self {
        let reason_codes = crate::text::sorted_set(&codes);
        let telling = reason_codes.iter().find(|code| *code != ACTIVE);
        let reason_code = telling.or(reason_codes.first()).cloned();
        Self {
            evaluated_at: WireTime::at(now),
            matched_entry_ids: Vec::new(),
            reason_code: reason_code.unwrap_or_default(),
            reason_codes,
            status,
        }
    }
}

#[cfg(test)]
mod tests;
