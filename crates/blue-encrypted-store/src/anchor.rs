//! What is remembered outside of the table: the store's identity, and how far each partition has come.
//!
//! A table cannot prove that it is not an older copy of itself. So a small private journal beside it keeps the highest
//! version (and seal) that this machine has seen of each partition; an older one is refused. A mark is written after
//! its commit, so a crash can leave a mark too low, which detects less, never one too high, which would refuse good
//! data. A machine without the journal trusts what it finds first. The price is one more fsync per commit (about
//! 0.3 ms on an idle SSD, beside the one that the table's own file needs).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use worldcompute_durable::{Disk, Journal, Limits, LockOptions, OsDisk, Recovered};
use worldcompute_fault::{Category, Fault, Result};

use crate::check::Check;
use crate::keyring::Epochs;
use crate::name::PartitionKey;
use crate::task::blocking;

/// Outdated records that a journal may hold: 2 MB, read in a moment when the store is opened.
const SLACK: u64 = 10_000;
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

    /// The same of a seal in hex.
    pub(crate) fn of_hex(version: u64, seal: &str) -> Self {
        let seal = seal.to_owned();
        Self { version, seal }
    }

    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// The end of a partition: whatever is found there later is older.
    pub(crate) fn erased(seal: &[u8; 32]) -> Self {
        Self::new(u64::MAX, seal)
    }

    /// Whether it is one's end.
    pub(crate) const fn is_end(&self) -> bool {
        self.version == u64::MAX
    }
}

/// Which store this is, and with which key it was set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) store: String,
    /// The key check value of its master key, in hex.
    pub(crate) kcv: String,
    /// The epoch of its current key-encryption key.
    #[serde(default = "first_epoch")]
    epoch: u64,
    /// The oldest epoch that is not retired.
    #[serde(default = "first_epoch")]
    floor: u64,
}

/// What identities that were written before there were epochs have.
const fn first_epoch() -> u64 {
    1
}

impl Identity {
    pub(crate) fn new(store: &str, kcv: &[u8], epochs: Epochs) -> Self {
        Self {
            store: store.to_owned(),
            kcv: hex::encode(kcv),
            epoch: epochs.current,
            floor: epochs.floor,
        }
    }

    fn no_older_than(self, known: &Self) -> Self {
        Self {
            epoch: self.epoch.max(known.epoch),
            floor: self.floor.max(known.floor),
            ..self
        }
    }

    pub(crate) const fn epochs(&self) -> Epochs {
        Epochs {
            current: self.epoch,
            floor: self.floor,
        }
    }
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
    /// The journal is written anew when it has this many records more than marks.
    slack: u64,
    /// Whether the store was known before it was opened.
    was_known: bool,
}

/// Waits for who had it before: a store that was just dropped may still be letting go of it.
fn patiently<T>(open: impl Fn() -> Result<T>) -> Result<T> {
    let opened = LockOptions::default().retry(&mut || match open() {
        Err(fault) if fault.category() == Category::StateContention => Ok(None),
        opened => opened.map(Some),
    })?;
    opened.map_or_else(open, Ok)
}

impl Anchor {
    /// One that lasts as long as the process.
    pub(crate) fn memory() -> Self {
        Self(Mutex::new(State::default()))
    }

    /// The one in the journal at `path`. Blocks.
    pub(crate) fn file(path: &Path) -> Result<Self> {
        Self::file_with(path, SLACK)
    }

    /// The journal is written anew when it has `slack` records more than marks.
    pub(crate) fn file_with(path: &Path, slack: u64) -> Result<Self> {
        let (journal, recovered) = patiently(|| Journal::open(path, Limits::default()))?;
        let mut state = State {
            slack,
            ..State::of(path, recovered)?
        };
        state.journal = Some((path.to_owned(), journal));
        Ok(Self(Mutex::new(state)))
    }

    /// What the journal at `path` says, if there is one; what is remembered from here on is in memory. Blocks.
    pub(crate) fn as_it_is(path: &Path) -> Result<Self> {
        match patiently(|| Journal::read(path, Limits::default())) {
            Err(fault) if fault.code() == "not_found" => Ok(Self::memory()),
            read => Ok(Self(Mutex::new(State::of(path, read?)?))),
        }
    }

    /// Whether anything outside of the table knew the store when it was opened.
    pub(crate) fn was_known(&self) -> bool {
        self.state().was_known
    }

    /// The store that this machine knows under this name.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.state().identity.clone()
    }

    /// Remembers the store; of the same store, epochs never go back. Blocks.
    pub(crate) fn remember(&self, identity: Identity) -> Result<()> {
        let mut state = self.state();
        let identity = match &state.identity {
            Some(known) if known.store == identity.store => identity.no_older_than(known),
            _ => identity,
        };
        state.append(&Record::Store(identity.clone()))?;
        state.identity = Some(identity);
        Ok(())
    }

    /// How far a partition has come, by its partition key. To be asked before the partition is read: it moves on
    /// meanwhile.
    pub(crate) fn mark(&self, partition: &str) -> Option<Mark> {
        self.state().marks.get(partition).cloned()
    }

    /// The partition keys of all that it remembers.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state().marks.keys().cloned().collect()
    }

    /// Remembers how far partitions have come, by their partition keys, in one record.
    pub(crate) async fn advance(self: &Arc<Self>, marks: Vec<(String, Mark)>) -> Result<()> {
        // Waking another thread costs more than all of this, where no disk is waited for.
        if self.state().journal.is_none() {
            return self.advance_here(marks);
        }
        let anchor = self.clone();
        blocking(move || anchor.advance_here(marks)).await
    }

    fn advance_here(&self, marks: Vec<(String, Mark)>) -> Result<()> {
        let mut state = self.state();
        let is_known = |(name, mark): &(String, Mark)| {
            let known = state.marks.get(name);
            known.is_some_and(|known| known.version >= mark.version)
        };
        let news: Vec<_> = marks.into_iter().filter(|mark| !is_known(mark)).collect();
        if news.is_empty() {
            return Ok(());
        }
        state.append(&Record::Marks(news.clone()))?;
        state.marks.extend(news);
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
    let (now, before) = (found.version, floor.version);
    let why = if floor.is_end() {
        format!("it is at version {now} and was erased before, for good")
    } else if now == before {
        format!("version {now} has other content than before")
    } else {
        format!("it is at version {now} and was at version {before} before")
    };
    Err(Check::VersionFloor.failed(partition, why))
}

impl State {
    fn of(path: &Path, recovered: Recovered) -> Result<Self> {
        if recovered.torn_bytes > 0 {
            let (path, bytes) = (path.display(), recovered.torn_bytes);
            tracing::warn!(%path, bytes, "the last record is unfinished and does not count: a rollback by one version would not show");
        }
        let mut state = Self::default();
        for record in recovered.records {
            state.apply(serde_json::from_slice(&record).map_err(|error| unreadable(path, &error))?);
        }
        state.was_known = state.identity.is_some();
        Ok(state)
    }

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
        if journal.len() < (self.marks.len() as u64).saturating_add(self.slack) {
            return Ok(());
        }
        let path = path.clone();
        let fresh = self.write_anew(&path)?;
        self.journal = Some((path, fresh));
        Ok(())
    }

    fn write_anew(&self, path: &Path) -> Result<Journal> {
        let fresh = path.with_added_extension("new");
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
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        OsDisk
            .sync_dir(parent.unwrap_or(Path::new(".")))
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::{Id, Kind};

    fn key(id: &str) -> PartitionKey {
        PartitionKey {
            kind: Kind::JOB,
            id: Id::parse(id).unwrap(),
        }
    }

    fn mark(version: u64) -> Mark {
        Mark::new(version, &[version as u8; 32])
    }

    fn advance(anchor: &Anchor, id: &str, version: u64) -> Result<()> {
        anchor.advance_here(vec![(key(id).to_string(), mark(version))])
    }

    #[test]
    fn a_floor_refuses_older_versions_and_other_content_of_the_same() {
        let code = |floor: Option<u64>, found: &Mark| {
            let floor = floor.map(mark);
            check_floor(&key("j1"), floor.as_ref(), found).map_err(|fault| fault.code().to_owned())
        };
        let refused = Err("version_rolled_back".to_owned());
        assert_eq!(code(None, &mark(0)), Ok(()));
        assert_eq!(code(Some(5), &mark(5)), Ok(()));
        assert_eq!(code(Some(5), &mark(6)), Ok(()));
        assert_eq!(code(Some(5), &mark(4)), refused);
        assert_eq!(code(Some(5), &mark(0)), refused);
        assert_eq!(code(Some(5), &Mark::new(5, &[9; 32])), refused);
    }

    #[test]
    fn marks_and_identity_are_there_the_next_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchor");
        let identity = Identity::new("s1", &[0], Epochs::FIRST);
        let anchor = Anchor::file(&path).unwrap();
        anchor.remember(identity.clone()).unwrap();
        for version in 1..=3 {
            advance(&anchor, "j1", version).unwrap();
        }
        drop(anchor);
        let anchor = Anchor::file(&path).unwrap();
        assert_eq!(anchor.identity(), Some(identity));
        assert_eq!(anchor.mark("job#j1"), Some(mark(3)));
        assert_eq!(anchor.mark("job#j2"), None);
    }

    #[test]
    fn who_only_reads_an_anchor_neither_makes_nor_changes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchor");
        let reader = Anchor::as_it_is(&path).unwrap();
        assert!(!reader.was_known());
        advance(&reader, "j1", 1).unwrap();
        assert!(!path.exists());
        let identity = Identity::new("s1", &[0], Epochs::FIRST);
        let anchor = Anchor::file(&path).unwrap();
        anchor.remember(identity.clone()).unwrap();
        assert!(!anchor.was_known(), "it was not, when it was opened");
        advance(&anchor, "j1", 3).unwrap();
        drop(anchor);
        // The last append was cut off by a crash: that is for the next writer to mend.
        let mut torn = std::fs::read(&path).unwrap();
        torn.truncate(torn.len() - 1);
        std::fs::File::create(&path)
            .unwrap()
            .write_all(&torn)
            .unwrap();
        let reader = Anchor::as_it_is(&path).unwrap();
        assert!(reader.was_known());
        assert_eq!(
            (reader.identity(), reader.mark("job#j1")),
            (Some(identity), None)
        );
        advance(&reader, "j1", 9).unwrap();
        assert_eq!(reader.mark("job#j1"), Some(mark(9)));
        assert_eq!(std::fs::read(&path).unwrap(), torn);
    }

    #[test]
    fn an_identity_that_knows_no_epochs_is_at_the_first() {
        let text = r#"{"store":{"store":"s1","kcv":"00"}}"#;
        let Ok(Record::Store(identity)) = serde_json::from_str(text) else {
            panic!("{text}");
        };
        assert_eq!(identity, Identity::new("s1", &[0], Epochs::FIRST));
    }

    #[test]
    fn the_epochs_of_a_store_never_go_back() {
        let anchor = Anchor::memory();
        let at = |store, current, floor| Identity::new(store, &[0], Epochs { current, floor });
        anchor.remember(at("s1", 3, 2)).unwrap();
        anchor.remember(at("s1", 2, 1)).unwrap();
        assert_eq!(anchor.identity(), Some(at("s1", 3, 2)));
        anchor.remember(at("s1", 3, 3)).unwrap();
        assert_eq!(anchor.identity(), Some(at("s1", 3, 3)));
        anchor.remember(at("s2", 1, 1)).unwrap();
        assert_eq!(anchor.identity(), Some(at("s2", 1, 1)));
    }

    #[test]
    fn a_mark_never_goes_back() {
        let anchor = Anchor::memory();
        advance(&anchor, "j1", 5).unwrap();
        advance(&anchor, "j1", 4).unwrap();
        assert_eq!(anchor.mark("job#j1"), Some(mark(5)));
    }

    #[test]
    fn a_journal_of_outdated_marks_is_written_anew_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchor");
        let anchor = Anchor::file_with(&path, 20).unwrap();
        let identity = Identity::new("s1", &[0], Epochs::FIRST);
        anchor.remember(identity.clone()).unwrap();
        // Left by a process that died while it wrote the journal anew.
        Journal::open(&path.with_added_extension("new"), Limits::default()).unwrap();
        let mut largest = 0;
        for version in 1..=100 {
            for id in ["j1", "j2"] {
                advance(&anchor, id, version).unwrap();
            }
            largest = largest.max(std::fs::metadata(&path).unwrap().len());
        }
        assert!(largest < 5_000, "{largest}");
        drop(anchor);
        let anchor = Anchor::file(&path).unwrap();
        assert_eq!(anchor.mark("job#j1"), Some(mark(100)));
        assert_eq!(anchor.mark("job#j2"), Some(mark(100)));
        assert_eq!(anchor.identity(), Some(identity));
    }

    #[test]
    fn a_journal_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchor");
        let (mut journal, _) = Journal::open(&path, Limits::default()).unwrap();
        journal.append(b"{\"other\":1}").unwrap();
        drop(journal);
        assert_eq!(
            Anchor::file(&path).err().unwrap().code(),
            "anchor_malformed"
        );
    }
}
