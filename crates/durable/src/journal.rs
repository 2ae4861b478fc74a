//! An append-only file of records.

mod frame;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use worldcompute_fault::{Category, Fault, Result};

use crate::flock::Locked;
use crate::temp::Target;
use crate::{Disk, Mode, OsDisk, create_new_on};

/// The first bytes of every journal: what it is, and the version of its format.
const MAGIC: &[u8] = b"wcjournal-1\n";

/// How large a journal may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one record.
    pub max_record: u32,
    /// Bytes of the whole file.
    pub max_total: u64,
}

impl Default for Limits {
    /// 1 MiB a record, 256 MiB a file.
    fn default() -> Self {
        Self {
            max_record: 1 << 20,
            max_total: 256 << 20,
        }
    }
}

/// What was in a journal when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Every acknowledged record, by sequence number. The last append before a crash may be there as well, although
    /// it was never acknowledged.
    pub records: Vec<Vec<u8>>,
    /// Bytes of an unfinished last append that were cut off; 0 after a clean stop.
    pub torn_bytes: u64,
}

/// An open journal. One process has it at a time.
pub struct Journal {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Locked,
    limits: Limits,
    /// Bytes up to the end of the last whole record.
    end: u64,
    next: u64,
    broken: bool,
}

impl Journal {
    /// Opens the journal at `path`, or creates it (mode 0600), and reads it back.
    ///
    /// An unfinished last append is cut off and reported. Damage anywhere else is never repaired by forgetting:
    /// it is the error `journal_corrupt`, which names the offset, and the file is left as it is.
    ///
    /// Errors: `journal_corrupt`, `state_contention` when another has it open, `file_too_large`, and those of reading
    /// and writing.
    pub fn open(path: &Path, limits: Limits) -> Result<(Self, Recovered)> {
        Self::open_on(Arc::new(OsDisk), path, limits)
    }

    /// What is in the journal at `path`, for those who change nothing: it is neither created nor cut off.
    ///
    /// Errors: `not_found`, `journal_corrupt`, `state_contention` when another has it open, `file_too_large`, and those of
    /// reading.
    pub fn read(path: &Path, limits: Limits) -> Result<Recovered> {
        let cannot_open = |error| Fault::io(format_args!("open {}", path.display()), &error);
        let file = lock(open_existing(path).map_err(cannot_open)?, path).map_err(cannot_open)?;
        let file = file.ok_or_else(|| in_use(path))?;
        let bytes = read_all(&file, path, limits)?;
        let scan = scan(&bytes, limits).map_err(|damage| corrupt(path, damage))?;
        Ok(Recovered {
            torn_bytes: (bytes.len() as u64).saturating_sub(scan.whole_bytes),
            records: scan.records,
        })
    }

    /// [`Journal::open`] on a given disk.
    pub fn open_on(disk: Arc<dyn Disk>, path: &Path, limits: Limits) -> Result<(Self, Recovered)> {
        let file = open_file(&*disk, path)?;
        let bytes = read_all(&file, path, limits)?;
        let scan = scan(&bytes, limits).map_err(|damage| corrupt(path, damage))?;
        let (end, next) = (scan.whole_bytes, scan.records.len() as u64);
        let torn_bytes = (bytes.len() as u64).saturating_sub(end);
        let journal = Self {
            disk,
            path: path.to_owned(),
            file,
            limits,
            end,
            next,
            broken: false,
        };
        journal
            .settle(torn_bytes > 0)
            .map_err(|error| journal.cannot_write(&error))?;
        Ok((
            journal,
            Recovered {
                records: scan.records,
                torn_bytes,
            },
        ))
    }

    /// Appends one record and returns its sequence number, counted from 0, once it is on stable storage.
    ///
    /// After an error the record is not acknowledged, though it may be found at the next opening. A journal whose disk
    /// refused to confirm or to undo an append takes no more of them: what the disk holds is unknown until it is read
    /// back.
    ///
    /// Errors: `record_too_large`, `journal_full`, `journal_broken`, and those of writing.
    pub fn append(&mut self, record: &[u8]) -> Result<u64> {
        self.check(record)?;
        let frame = frame::encode(self.next, record);
        if let Err(error) = self.disk.write(&self.file, &frame) {
            self.broken = self.cut().is_err();
            return Err(self.cannot_write(&error));
        }
        if let Err(error) = self.disk.sync(&self.file) {
            self.broken = true;
            return Err(self.cannot_write(&error));
        }
        let sequence = self.next;
        self.next = sequence.saturating_add(1);
        self.end = self.end.saturating_add(frame.len() as u64);
        Ok(sequence)
    }

    /// How many records it has.
    pub const fn len(&self) -> u64 {
        self.next
    }

    /// True when it has no record.
    pub const fn is_empty(&self) -> bool {
        self.next == 0
    }

    fn check(&self, record: &[u8]) -> Result<()> {
        let shown = self.path.display();
        if self.broken {
            let message = format!("{shown} failed to write before");
            return Err(Fault::new(Category::IoFailure, "journal_broken", message)
                .hint("open the journal again"));
        }
        if record.len() as u64 > u64::from(self.limits.max_record) {
            let message = format!(
                "a record of {shown} has at most {} bytes",
                self.limits.max_record
            );
            return Err(
                Fault::new(Category::InvalidInput, "record_too_large", message)
                    .hint("write smaller records"),
            );
        }
        if self.end.saturating_add(frame::size(record)) > self.limits.max_total {
            let message = format!(
                "{shown} has reached its limit of {} bytes",
                self.limits.max_total
            );
            return Err(Fault::new(Category::IoFailure, "journal_full", message)
                .hint("move the journal away"));
        }
        Ok(())
    }

    /// Puts on stable storage what the caller is about to be told: whoever wrote it may have died before that.
    fn settle(&self, torn: bool) -> io::Result<()> {
        if torn {
            self.disk.truncate(&self.file, self.end)?;
        }
        self.disk.sync(&self.file)?;
        Target::of(&self.path).map_or(Ok(()), |target| self.disk.sync_dir(target.dir))
    }

    /// Takes back everything after the last whole record.
    fn cut(&self) -> io::Result<()> {
        self.disk.truncate(&self.file, self.end)?;
        self.disk.sync(&self.file)
    }

    fn cannot_write(&self, error: &io::Error) -> Fault {
        Fault::io(format_args!("write {}", self.path.display()), error)
    }
}

/// The whole records at the front of a journal.
struct Scan {
    records: Vec<Vec<u8>>,
    whole_bytes: u64,
}

/// A place that no unfinished append explains.
struct Damage {
    offset: u64,
    what: &'static str,
}

fn scan(bytes: &[u8], limits: Limits) -> Result<Scan, Damage> {
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(Damage {
        offset: 0,
        what: "not a journal of this version",
    })?;
    let mut records = Vec::new();
    loop {
        let offset = bytes.len().saturating_sub(rest.len()) as u64;
        match frame::decode(rest, records.len() as u64, limits.max_record) {
            frame::Decoded::Whole {
                record,
                rest: after,
            } => {
                records.push(record.to_vec());
                rest = after;
            }
            frame::Decoded::Torn => {
                return Ok(Scan {
                    records,
                    whole_bytes: offset,
                });
            }
            frame::Decoded::Damaged(what) => return Err(Damage { offset, what }),
        }
    }
}

/// Opens what is there, or creates an empty journal; the kernel's lock on it is ours until it is closed.
fn open_file(disk: &dyn Disk, path: &Path) -> Result<Locked> {
    let cannot_open = |error: io::Error| Fault::io(format_args!("open {}", path.display()), &error);
    let file = match open_existing(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_empty(disk, path)?;
            open_existing(path)
        }
        opened => opened,
    }
    .map_err(cannot_open)?;
    lock(file, path)
        .map_err(cannot_open)?
        .ok_or_else(|| in_use(path))
}

/// `Ok(None)` when somebody else has it, or has put another file in its place since it was opened.
fn lock(file: File, path: &Path) -> io::Result<Option<Locked>> {
    let Some(file) = Locked::try_new(file)? else {
        return Ok(None);
    };
    Ok(file.is_at(path)?.then_some(file))
}

fn open_existing(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new()
        .read(true)
        .append(true)
        .custom_flags(flags)
        .open(path)
}

/// Another process may be quicker to create it: then that one is as good.
fn create_empty(disk: &dyn Disk, path: &Path) -> Result<()> {
    match create_new_on(disk, path, MAGIC, Mode::Private) {
        Err(fault) if fault.code() == "already_exists" => Ok(()),
        done => done,
    }
}

fn read_all(file: &File, path: &Path, limits: Limits) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = limits.max_total.saturating_add(1);
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| crate::read::cannot_read(path, &error))?;
    if bytes.len() as u64 > limits.max_total {
        return Err(crate::read::too_large(path, limits.max_total));
    }
    Ok(bytes)
}

fn corrupt(path: &Path, damage: Damage) -> Fault {
    let message = format!(
        "{} is damaged at byte {}: {}",
        path.display(),
        damage.offset,
        damage.what
    );
    Fault::new(Category::VerificationFailed, "journal_corrupt", message)
        .hint("restore the file from a backup")
}

fn in_use(path: &Path) -> Fault {
    let message = format!("{} is open in another process", path.display());
    Fault::new(Category::StateContention, "state_contention", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_was_replaced_before_it_was_locked_takes_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let (path, anew) = (dir.path().join("journal"), dir.path().join("anew"));
        drop(Journal::open(&path, Limits::default()).unwrap());
        let opened = open_existing(&path).unwrap();
        drop(Journal::open(&anew, Limits::default()).unwrap());
        std::fs::rename(&anew, &path).unwrap();
        assert!(lock(opened, &path).unwrap().is_none());
        let opened = open_existing(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(lock(opened, &path).unwrap().is_none());
    }
}
