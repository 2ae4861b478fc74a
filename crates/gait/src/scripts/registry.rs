//! The file of approved scripts: read by the gate, changed by approvers, one change at a time.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use worldcompute_durable::{LockForm, LockOptions};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, VerifyingKey};

use super::entry::Entry;
use crate::intent::Intent;
use crate::limits::{MAX_APPROVED_SCRIPTS, at_most};
use crate::state_file::{Kind, StateFile};

static KIND: Kind = Kind {
    what: "approved script registry",
    max_bytes: 16 << 20,
    corrupt: "approved_script_registry_corrupt",
    unavailable: "approved_script_registry_unavailable",
    lock_timeout: "approved_script_registry_lock_timeout",
    lock_failed: "approved_script_registry_lock_failed",
    lock: LockForm {
        schema_id: "gait.gate.approved_script_registry_lock",
        schema_version: "1.0.0",
        stale_after: Duration::from_secs(15),
    },
    wait: LockOptions {
        wait: Duration::from_secs(3),
        poll: Duration::from_millis(5),
    },
    anew: "takes every script's approval back",
};

/// The entries of a registry.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct File<'a> {
    entries: Vec<&'a Value>,
}

impl Registry {
    /// Reads the registry at `path`; one that does not exist has no entries.
    ///
    /// Errors: `approved_script_registry_corrupt`, `approved_script_registry_unavailable`.
    pub fn load(path: &Path) -> Result<Self> {
        Self::read(&StateFile::new(path, &KIND))
    }

    /// Puts an entry in, in the place of the one with the same pattern, if there is one.
    ///
    /// Errors: those of [`Registry::load`], `approved_script_registry_lock_timeout`,
    /// `approved_script_registry_lock_failed`.
    pub fn put(path: &Path, entry: Entry) -> Result<()> {
        let held = StateFile::new(path, &KIND).lock()?;
        let mut registry = Self::read(held.file())?;
        let entries = &mut registry.entries;
        entries.retain(|have| have.pattern_id() != entry.pattern_id());
        entries.push(entry);
        let count = entries.len();
        at_most(
            "approved scripts",
            count,
            MAX_APPROVED_SCRIPTS,
            "approved_script_registry_full",
        )?;
        entries.sort_by(|a, b| a.rank().cmp(&b.rank()));
        held.write(&File {
            entries: entries.iter().map(Entry::value).collect(),
        })
    }

    /// Checks every entry, for one that does not hold may hide what another says.
    ///
    /// `policy_blocked`, code `approved_script_registry_unverified`, names the first that does not hold.
    pub fn verify(&self, key: &VerifyingKey, now: Timestamp) -> Result<()> {
        self.each(|entry| entry.verify(key, now))
    }

    /// [`Registry::verify`] for entries whose signatures have held before.
    pub fn check_expiry(&self, now: Timestamp) -> Result<()> {
        self.each(|entry| entry.check_expiry(now))
    }

    fn each(&self, holds: impl Fn(&Entry) -> Result<(), &'static str>) -> Result<()> {
        for (index, entry) in self.entries.iter().enumerate() {
            holds(entry).map_err(|why| {
                let message =
                    format!("approved script registry verification failed at entry {index}: {why}");
                Fault::new(
                    Category::PolicyBlocked,
                    "approved_script_registry_unverified",
                    message,
                )
                .hint("remove the entry, or approve the script again with gait approve-script")
            })?;
        }
        Ok(())
    }

    /// The entry for this script under this policy, if there is one whose time is not over.
    pub fn find(&self, intent: &Intent, policy_digest: Sha256, now: Timestamp) -> Option<&Entry> {
        let fits = |entry: &&Entry| !entry.is_expired(now) && entry.fits(intent, policy_digest);
        self.entries.iter().find(fits)
    }

    /// The entries, by pattern and age.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn read(file: &StateFile<'_>) -> Result<Self> {
        let members = match file.read::<Value>()? {
            None => Vec::new(),
            Some(Value::Array(members)) => members,
            Some(Value::Object(mut object)) => {
                match (object.remove("entries"), object.is_empty()) {
                    (Some(Value::Array(members)), true) => members,
                    _ => return Err(file.corrupt("it has to have entries, and nothing else")),
                }
            }
            Some(_) => return Err(file.corrupt("not a list of entries")),
        };
        if members.len() > MAX_APPROVED_SCRIPTS {
            return Err(file.corrupt(&format!("more than {MAX_APPROVED_SCRIPTS} entries")));
        }
        let entry = |(index, value)| {
            Entry::of(value)
                .map_err(|fault| file.corrupt(&format!("entries[{index}]: {}", fault.message())))
        };
        let entries = members.into_iter().enumerate().map(entry);
        Ok(Self {
            entries: entries.collect::<Result<_>>()?,
        })
    }
}

impl Entry {
    fn rank(&self) -> impl Ord + '_ {
        (self.pattern_id(), self.created_at().get())
    }
}
