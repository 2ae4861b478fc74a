//! What is remembered outside of the table: the store's identity, and how far each partition has come.
//!
//! A table cannot prove that it is not an older copy of itself. So a small private journal beside it keeps the highest
//! version (and seal) that this machine has seen of each partition; an older one is refused. A mark is written after
//! its commit, so a crash can leave a mark too low, which detects less, never one too high, which would refuse good
//! data. A machine without the journal trusts what it finds first.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use worldcompute_durable::{Disk, Journal, Limits, OsDisk};
use worldcompute_fault::{Category, Fault, Result};

use crate::check::Check;
use crate::embedded::beside;
use crate::name::PartitionKey;

/// The journal is written anew when it has this many records more than marks.
const COMPACT_AFTER: u64 = 10_000;
/// Marks in one record of a journal written anew.
const MARKS_PER_RECORD: usize = 2_000;

/// How far a partition had come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    #[serde(rename = "v")]
    version: u64,
    /// The root's seal, in hex.
    #[serde(rename = "s")]
    seal: String,
}

impl Mark {
    pub(crate) fn new(version: u64, seal: &[u8; 32]) -> Self {
        Self {
            version,
            seal: hex::encode(seal),
        }
    }
}

/// Which store this is, and with which key it was set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) store: String,
    /// The key check value of its KEK, in hex.
    pub(crate) kcv: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Store(Identity),
    Marks(Vec<(String, Mark)>),
}

/// The memory outside of the table.
pub(crate) struct Anchor(Mutex<State>);

#[derive(Default)]
struct State {
    identity: Option<Identity>,
    marks: HashMap<String, Mark>,
    journal: Option<(PathBuf, Journal)>,
}

impl Anchor {
    /// One that lasts as long as the process.
    pub(crate) fn memory() -> Self {
        Self(Mutex::new(State::default()))
    }

    /// The one in the journal at `path`. Blocks.
    pub(crate) fn file(path: &Path) -> Result<Self> {
        let (journal, recovered) = Journal::open(path, Limits::default())?;
        let mut state = State::default();
        for record in recovered.records {
            state.apply(serde_json::from_slice(&record).map_err(|error| unreadable(path, &error))?);
        }
        state.journal = Some((path.to_owned(), journal));
        Ok(Self(Mutex::new(state)))
    }

    /// The store that this machine knows under this name.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.state().identity.clone()
    }

    /// Remembers the store. Blocks.
    pub(crate) fn remember(&self, identity: Identity) -> Result<()> {
        let mut state = self.state();
        state.append(&Record::Store(identity.clone()))?;
        state.identity = Some(identity);
        Ok(())
    }

    /// How far a partition has come. To be asked before the partition is read: it moves on meanwhile.
    pub(crate) fn mark(&self, partition: &PartitionKey) -> Option<Mark> {
        self.state().marks.get(&partition.to_string()).cloned()
    }

    /// Remembers how far a partition has come. Blocks.
    pub(crate) fn advance(&self, partition: &PartitionKey, mark: Mark) -> Result<()> {
        let mut state = self.state();
        let name = partition.to_string();
        if state
            .marks
            .get(&name)
            .is_some_and(|known| known.version >= mark.version)
        {
            return Ok(());
        }
        state.append(&Record::Marks(vec![(name.clone(), mark.clone())]))?;
        state.marks.insert(name, mark);
        state.compact()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses a partition that is older than, or not, the one that was seen before.
pub(crate) fn check_floor(
    partition: &PartitionKey,
    floor: Option<&Mark>,
    found: &Mark,
) -> Result<()> {
    let Some(floor) = floor.filter(|floor| floor.version >= found.version && *floor != found)
    else {
        return Ok(());
    };
    let why = if found.version == floor.version {
        format!("version {} has other content than before", floor.version)
    } else {
        format!(
            "it is at version {} and was at version {} before",
            found.version, floor.version
        )
    };
    Err(Check::VersionFloor.failed(partition, why))
}

impl State {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Store(identity) => self.identity = Some(identity),
            Record::Marks(marks) => self.marks.extend(marks),
        }
    }

    fn append(&mut self, record: &Record) -> Result<()> {
        match &mut self.journal {
            Some((path, journal)) => journal.append(&encode(path, record)?).map(drop),
            None => Ok(()),
        }
    }

    /// Replaces a journal full of outdated marks by one with the current ones.
    fn compact(&mut self) -> Result<()> {
        let Some((path, journal)) = &self.journal else {
            return Ok(());
        };
        if journal.len() < (self.marks.len() as u64).saturating_add(COMPACT_AFTER) {
            return Ok(());
        }
        let path = path.clone();
        let fresh = self.write_anew(&path)?;
        self.journal = Some((path, fresh));
        Ok(())
    }

    fn write_anew(&self, path: &Path) -> Result<Journal> {
        let fresh = beside(path, "new");
        let cannot_replace = |error| Fault::io(format_args!("replace {}", path.display()), &error);
        match OsDisk.remove(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(cannot_replace(error));
            }
            _ => {}
        }
        let (mut journal, _) = Journal::open(&fresh, Limits::default())?;
        if let Some(identity) = &self.identity {
            journal.append(&encode(path, &Record::Store(identity.clone()))?)?;
        }
        let marks: Vec<_> = self
            .marks
            .iter()
            .map(|(name, mark)| (name.clone(), mark.clone()))
            .collect();
        for part in marks.chunks(MARKS_PER_RECORD) {
            journal.append(&encode(path, &Record::Marks(part.to_vec()))?)?;
        }
        OsDisk.rename(&fresh, path).map_err(cannot_replace)?;
        OsDisk
            .sync_dir(path.parent().unwrap_or(Path::new(".")))
            .map_err(cannot_replace)?;
        Ok(journal)
    }
}

fn encode(path: &Path, record: &Record) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &serde_json::Error) -> Fault {
    let message = format!("{} has a record of another program", path.display());
    Fault::new(Category::VerificationFailed, "anchor_malformed", message)
        .caused_by(error)
        .hint("restore the file from a backup")
}
