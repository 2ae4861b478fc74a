//! Whole files, all or nothing, that are too large to hold in memory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, RawMode};
use worldcompute_fault::{Fault, Result};

use crate::atomic::{cannot_write, claim, finish, target};
use crate::temp::{Target, Temp, reap};
use crate::{Disk, Mode, OsDisk};

/// How many bytes are gathered before they go to the disk.
const BUFFER: usize = 64 << 10;

/// A file that is written piece by piece and appears, whole, with [`AtomicFile::commit`]. Dropped before that it leaves
/// nothing behind and what had the name stays.
pub struct AtomicFile<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    temp: Temp<'a>,
    buffer: Vec<u8>,
    /// The first write that failed: what is on the disk has a hole, whatever the caller made of the error.
    broken: Option<Fault>,
}

impl AtomicFile<'static> {
    /// Starts a new content for `path`, whose directory must exist.
    ///
    /// Errors: those of [`crate::write_atomic`].
    pub fn create(path: &Path, mode: Mode) -> Result<Self> {
        AtomicFile::create_on(&OsDisk, path, mode)
    }
}

impl<'a> AtomicFile<'a> {
    /// [`AtomicFile::create`] on a given disk.
    pub fn create_on(disk: &'a dyn Disk, path: &Path, mode: Mode) -> Result<Self> {
        let temp = claim(disk, &target(path)?)?;
        disk.set_mode(temp.file(), mode)
            .map_err(|error| cannot_write(path, &error))?;
        let buffer = Vec::with_capacity(BUFFER);
        Ok(Self {
            disk,
            path: path.to_owned(),
            temp,
            buffer,
            broken: None,
        })
    }

    /// Leaves `len` bytes that read as zeros and, where the file system knows holes, take no room.
    ///
    /// Errors: those of writing.
    pub fn skip(&mut self, len: u64) -> io::Result<()> {
        self.flush()?;
        let file = self.temp.file();
        let end = file.metadata()?.len().checked_add(len);
        let end = end.ok_or(io::ErrorKind::FileTooLarge)?;
        let skipped = self.disk.truncate(file, end);
        self.note(&skipped);
        skipped
    }

    /// Gives the content its name. Once this returns `Ok` it is on stable storage.
    ///
    /// Errors: those of [`crate::write_atomic`].
    pub fn commit(self) -> Result<()> {
        let path = self.path.clone();
        self.commit_as(&path)
    }

    /// [`AtomicFile::commit`] under a name on the same file system that was not known when the file was created, such
    /// as the digest of its content.
    ///
    /// Errors: those of [`crate::write_atomic`].
    pub fn commit_as(mut self, path: &Path) -> Result<()> {
        let target = target(path)?;
        let settled = self.settle(path);
        if let Some(fault) = self.broken {
            return Err(fault);
        }
        settled.map_err(|error| cannot_write(path, &error))?;
        finish(self.disk, &target, self.temp)
    }

    fn settle(&mut self, path: &Path) -> io::Result<()> {
        self.flush()?;
        if self.broken.is_some() {
            return Ok(());
        }
        self.disk.sync(self.temp.file())?;
        self.disk.rename(self.temp.path(), path)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let put = self.disk.write(self.temp.file(), bytes);
        self.note(&put);
        put
    }

    fn note(&mut self, done: &io::Result<()>) {
        if let Err(error) = done {
            self.broken.get_or_insert(cannot_write(&self.path, error));
        }
    }
}

impl Write for AtomicFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len().saturating_add(bytes.len()) > BUFFER {
            self.flush()?;
        }
        if bytes.len() > BUFFER {
            self.put(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    /// Hands what was gathered to the disk, which may still lose it in a crash.
    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            let mut buffer = std::mem::take(&mut self.buffer);
            let put = self.put(&buffer);
            buffer.clear();
            self.buffer = buffer;
            put?;
        }
        Ok(())
    }
}

/// Removes what writers that died left in `dir`, a folder where files are [created](AtomicFile::create) that get a name
/// [elsewhere](AtomicFile::commit_as) and where nothing else is kept. Files of writers that live stay.
///
/// Errors: those of listing the folder and removing from it.
pub fn sweep(dir: &Path) -> Result<()> {
    let swept = || -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            reap(&OsDisk, &entry?.path())?;
        }
        Ok(())
    };
    swept().map_err(|error| Fault::io(format_args!("clear {}", dir.display()), &error))
}

/// A file without a name, for what does not fit into memory: gone with the process, closed to everybody else.
///
/// Errors: those of writing to the directory for temporary files.
pub fn scratch_file() -> Result<File> {
    scratch_file_in(&std::env::temp_dir())
}

/// [`scratch_file`] in a directory of the caller's choice: the one for temporary files is often in memory.
///
/// Errors: those of writing to the directory.
pub fn scratch_file_in(dir: &Path) -> Result<File> {
    let made = match unnamed(dir) {
        Err(error) if !is_unsupported(&error) => Err(error),
        Ok(file) => Ok(file),
        Err(_) => unlinked(dir),
    };
    made.map_err(|error| {
        Fault::io(
            format_args!("make a temporary file in {}", dir.display()),
            &error,
        )
    })
}

#[cfg(target_os = "linux")]
fn unnamed(dir: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = rustix::fs::Mode::from_raw_mode(Mode::Private.bits() as RawMode);
    Ok(rustix::fs::open(dir, flags, mode)?.into())
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Kernels and file systems that know no `O_TMPFILE` take it for an attempt to write to a directory.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput
    )
}

fn unlinked(dir: &Path) -> io::Result<File> {
    let name = dir.join(format!(".scratch-{}", std::process::id()));
    let target = Target::of(&name).ok_or(io::ErrorKind::InvalidInput)?;
    let temp = Temp::claim(&OsDisk, &target)?.ok_or(io::ErrorKind::ResourceBusy)?;
    temp.file().try_clone()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    fn round_trip(mut file: File) {
        file.write_all(b"scratch").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "scratch");
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_gets_the_name_that_its_content_gave_it_and_nothing_stays_where_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let drafts = dir.path().join("drafts");
        fs::create_dir(&drafts).unwrap();
        let mut file = AtomicFile::create(&drafts.join("1"), Mode::Private).unwrap();
        file.write_all(b"content").unwrap();
        file.commit_as(&dir.path().join("digest")).unwrap();
        assert_eq!(fs::read(dir.path().join("digest")).unwrap(), b"content");
        assert!(names(&drafts).is_empty());
    }

    #[test]
    fn a_sweep_removes_what_dead_writers_left_and_nothing_of_those_that_live() {
        let dir = tempfile::tempdir().unwrap();
        let mut living = AtomicFile::create(&dir.path().join("1"), Mode::Private).unwrap();
        living.write_all(b"living").unwrap();
        // As a killed writer leaves it: locked by nobody.
        File::create(dir.path().join(".2.tmp-0")).unwrap();
        sweep(dir.path()).unwrap();
        assert_eq!(names(dir.path()), [".1.tmp-0"]);
        living.commit().unwrap();
        assert_eq!(fs::read(dir.path().join("1")).unwrap(), b"living");
    }

    #[test]
    fn what_is_skipped_reads_as_zeros_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let mut file = AtomicFile::create(&path, Mode::Private).unwrap();
        file.write_all(b"head").unwrap();
        file.skip(1 << 20).unwrap();
        file.write_all(b"tail").unwrap();
        file.skip(2).unwrap();
        file.commit().unwrap();
        let expected = [b"head".as_slice(), &vec![0; 1 << 20], b"tail\0\0"].concat();
        assert!(std::fs::read(&path).unwrap() == expected);
    }

    #[test]
    fn a_disk_too_full_for_a_hole_leaves_nothing() {
        struct Full;
        impl Disk for Full {
            fn truncate(&self, _: &File, _: u64) -> io::Result<()> {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let mut file = AtomicFile::create_on(&Full, &path, Mode::Private).unwrap();
        assert!(file.skip(1).is_err());
        assert_eq!(file.commit().unwrap_err().code(), "disk_full");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_scratch_file_is_written_and_read_and_has_no_name() {
        round_trip(scratch_file().unwrap());
        let dir = tempfile::tempdir().unwrap();
        round_trip(unlinked(dir.path()).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
