//! Temporary files that a crash cannot leave behind for good.
//!
//! A target has a fixed set of temporary names beside it. A writer holds the kernel's lock on the one it uses, so a
//! name whose lock is free belongs to nobody alive: the next writer to that target removes it. No directory is
//! ever scanned, and no clock decides who is dead.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::Disk;
use crate::flock::Locked;

/// How many writers may replace one target at the same moment.
pub(crate) const MAX_WRITERS: usize = 32;

/// A temporary file that this writer owns; removed on drop unless it was given its final name.
pub(crate) struct Temp<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    file: Locked,
    named: bool,
}

impl<'a> Temp<'a> {
    /// Takes a free temporary name of `target` and removes those of dead writers.
    /// `Ok(None)` when [`MAX_WRITERS`] others are at work.
    pub(crate) fn claim(disk: &'a dyn Disk, target: &Target<'_>) -> io::Result<Option<Self>> {
        let mut claimed = None;
        for slot in 0..MAX_WRITERS {
            let path = target.temp_path(slot);
            let free = reap(disk, &path)?;
            if free && claimed.is_none() {
                claimed = Self::create(disk, path)?;
            }
        }
        Ok(claimed)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file has its final name: nothing is left to remove.
    pub(crate) fn keep(mut self) {
        self.set_named();
    }

    /// [`Temp::keep`] without letting go of the file, which stays locked.
    pub(crate) const fn set_named(&mut self) {
        self.named = true;
    }

    /// Whether `path` names this file.
    pub(crate) fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.file.is_at(path)
    }

    /// `None` when another writer was quicker, either to create the name or to take the new file for a dead one's.
    fn create(disk: &'a dyn Disk, path: PathBuf) -> io::Result<Option<Self>> {
        let file = match disk.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            created => created?,
        };
        let Some(file) = Locked::try_new(file)? else {
            return Ok(None);
        };
        let linked = file.metadata()?.nlink() > 0;
        Ok(linked.then(|| Self {
            disk,
            path,
            file,
            named: false,
        }))
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.named {
            // Nothing to report to: the failure that led here is on its way already, and the next writer to this
            // target removes the file.
            let _ = self.disk.remove(&self.path);
        }
    }
}

/// A path taken apart: its directory and the name in it.
pub(crate) struct Target<'a> {
    pub(crate) path: &'a Path,
    pub(crate) dir: &'a Path,
    name: &'a std::ffi::OsStr,
}

impl<'a> Target<'a> {
    /// `None` when the path ends in no file name (`/`, `..`).
    pub(crate) fn of(path: &'a Path) -> Option<Self> {
        let name = path.file_name()?;
        let dir = path
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Some(Self { path, dir, name })
    }

    fn temp_path(&self, slot: usize) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.name);
        name.push(format!(".tmp-{slot}"));
        self.dir.join(name)
    }
}

/// Removes `path` if its writer is dead; true when the name is free.
///
/// Whoever holds the lock of a file is the only one to rename or remove it, so the name cannot change hands between
/// the look and the removal.
pub(crate) fn reap(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC)
        .bits()
        .cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) if is_foreign(&error) => return Ok(false),
        opened => opened?,
    };
    reap_opened(disk, file, path)
}

fn reap_opened(disk: &dyn Disk, file: File, path: &Path) -> io::Result<bool> {
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let Some(file) = Locked::try_new(file)? else {
        return Ok(false);
    };
    if file.is_at(path)? {
        disk.remove(path)?;
    }
    Ok(true)
}

/// In a shared directory anybody can take a name: another user's file or a symbolic link is left alone.
fn is_foreign(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
        || Errno::from_io_error(error) == Some(Errno::LOOP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsDisk;

    #[test]
    fn a_writer_that_finished_between_the_look_and_the_lock_does_not_cost_the_next_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".state.tmp-0");
        let finishing = OsDisk.create(&path).unwrap();
        std::fs::rename(&path, dir.path().join("state")).unwrap();
        let next = Locked::try_new(OsDisk.create(&path).unwrap())
            .unwrap()
            .unwrap();
        assert!(reap_opened(&OsDisk, finishing, &path).unwrap());
        assert!(next.is_at(&path).unwrap());
        assert!(!reap(&OsDisk, &path).unwrap());
    }

    #[test]
    fn a_file_taken_for_a_dead_writers_before_it_was_locked_is_given_up() {
        struct Reaping;
        impl Disk for Reaping {
            fn create(&self, path: &Path) -> io::Result<File> {
                let file = OsDisk.create(path)?;
                reap(&OsDisk, path).map(|_| file)
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let target = Target::of(&path).unwrap();
        assert!(Temp::claim(&Reaping, &target).unwrap().is_none());
        assert!(Temp::claim(&OsDisk, &target).unwrap().is_some());
    }
}
