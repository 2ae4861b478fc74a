//! Temporary files that a crash cannot leave behind for good.
//!
//! A target has a fixed set of temporary names beside it. A writer holds the kernel's lock on the one it uses, so a
//! name whose lock is free belongs to nobody alive: the next writer to that target removes it. No directory is
//! ever scanned, and no clock decides who is dead.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::Disk;

/// How many writers may replace one target at the same moment.
pub(crate) const MAX_WRITERS: usize = 32;

/// A temporary file that this writer owns; removed on drop unless it was given its final name.
pub(crate) struct Temp<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    file: File,
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
        self.named = true;
    }

    /// `None` when another writer was quicker, either to create the name or to take the new file for a dead one's.
    fn create(disk: &'a dyn Disk, path: PathBuf) -> io::Result<Option<Self>> {
        let file = match disk.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            created => created?,
        };
        let owned = lock(&file)? && file.metadata()?.nlink() > 0;
        Ok(owned.then_some(Self {
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
fn reap(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC)
        .bits()
        .cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) if is_foreign(&error) => return Ok(false),
        opened => opened?,
    };
    if !file.metadata()?.is_file() || !lock(&file)? {
        return Ok(false);
    }
    if same_file(&file, path)? {
        disk.remove(path)?;
    }
    Ok(true)
}

/// In a shared directory anybody can take a name: another user's file or a symbolic link is left alone.
fn is_foreign(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
        || Errno::from_io_error(error) == Some(Errno::LOOP)
}

/// True when `path` still names `file`.
pub(crate) fn same_file(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        named => named.map(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())),
    }
}

/// True when the kernel's lock is now ours, false when somebody else holds it.
pub(crate) fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
