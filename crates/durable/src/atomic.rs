//! Whole files, all or nothing.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use worldcompute_fault::{Category, Fault, Result};

use crate::temp::{MAX_WRITERS, Target, Temp};
use crate::{Disk, LockOptions, Mode, OsDisk};

/// Replaces the content of `path`, or creates it. The directory must exist.
///
/// A reader sees the old content or the new at every moment, also after a crash or a power cut; when this returns
/// `Ok`, the new content is on stable storage. A symbolic link at `path` is replaced, not followed; a device, pipe or
/// socket is never replaced.
///
/// Errors: `not_a_file`, `not_found`, `permission_denied`, `disk_full`, `file_too_large`, `io_failure`; `state_contention` when too
/// many writers have been replacing the same path all the time. After an error the content is the old or the new, never a mixture.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: Mode) -> Result<()> {
    write_atomic_on(&OsDisk, path, bytes, mode)
}

/// [`write_atomic`] on a given disk.
pub fn write_atomic_on(disk: &dyn Disk, path: &Path, bytes: &[u8], mode: Mode) -> Result<()> {
    let target = target(path)?;
    let temp = filled(disk, &target, bytes, mode)?;
    disk.rename(temp.path(), path)
        .map_err(|error| cannot_write(path, &error))?;
    finish(disk, &target, temp)
}

/// Creates `path` with this content. Of several callers exactly one wins, and nobody sees half a file.
///
/// Errors: `already_exists` when there is one, else those of [`write_atomic`]; after one of those the file may be there
/// all the same, whole.
pub fn create_new(path: &Path, bytes: &[u8], mode: Mode) -> Result<()> {
    create_new_on(&OsDisk, path, bytes, mode)
}

/// [`create_new`] on a given disk.
pub fn create_new_on(disk: &dyn Disk, path: &Path, bytes: &[u8], mode: Mode) -> Result<()> {
    let target = target(path)?;
    let temp = filled(disk, &target, bytes, mode)?;
    disk.rename_new(temp.path(), path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => already_exists(path),
            _ => cannot_write(path, &error),
        })?;
    finish(disk, &target, temp)
}

/// A file that has its place on the disk already, and neither content nor name yet.
///
/// For a program that must not do something before it knows that it can write down what it did.
///
/// ```
/// use worldcompute_durable::{Mode, Pending};
///
/// let dir = tempfile::tempdir().unwrap();
/// let record = Pending::reserve(&dir.path().join("record"))?;
/// // Whatever is recorded happens here; a missing or read-only directory would have shown.
/// record.commit(b"done", Mode::Private)?;
/// # Ok::<(), worldcompute_fault::Fault>(())
/// ```
#[must_use = "a reserved file that is not committed never appears"]
pub struct Pending {
    temp: Temp<'static>,
    path: PathBuf,
}

impl Pending {
    /// Takes a temporary file beside `path`. Errors: those of [`write_atomic`].
    pub fn reserve(path: &Path) -> Result<Self> {
        // A directory would show only at the end, when what is recorded has happened.
        if path.symlink_metadata().is_ok_and(|there| there.is_dir()) {
            let error = io::ErrorKind::IsADirectory.into();
            return Err(cannot_write(path, &error));
        }
        let temp = claim(&OsDisk, &target(path)?)?;
        let path = path.to_owned();
        Ok(Self { temp, path })
    }

    /// The path that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its content and its name, as [`write_atomic`] does.
    pub fn commit(self, bytes: &[u8], mode: Mode) -> Result<()> {
        let Self { temp, path } = self;
        let target = target(&path)?;
        fill(&OsDisk, temp.file(), bytes, mode).map_err(|error| cannot_write(&path, &error))?;
        OsDisk
            .rename(temp.path(), &path)
            .map_err(|error| cannot_write(&path, &error))?;
        finish(&OsDisk, &target, temp)
    }
}

pub(crate) fn target(path: &Path) -> Result<Target<'_>> {
    let target = Target::of(path).ok_or_else(|| {
        let message = format!("{} names no file", path.display());
        Fault::new(Category::InvalidInput, "invalid_path", message)
            .hint("give a path that ends in a file name")
    })?;
    if is_special(path) {
        return Err(special(path));
    }
    Ok(target)
}

/// Whether a device, pipe or socket stands there, or a link to one: a rename would put a file in its place, and root
/// would lose `/dev/null` to it.
fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// A temporary file beside the target with the content on stable storage.
fn filled<'a>(
    disk: &'a dyn Disk,
    target: &Target<'_>,
    bytes: &[u8],
    mode: Mode,
) -> Result<Temp<'a>> {
    let temp = claim(disk, target)?;
    fill(disk, temp.file(), bytes, mode).map_err(|error| cannot_write(target.path, &error))?;
    Ok(temp)
}

pub(crate) fn claim<'a>(disk: &'a dyn Disk, target: &Target<'_>) -> Result<Temp<'a>> {
    LockOptions::default()
        .retry(&mut || Temp::claim(disk, target))
        .map_err(|error| cannot_write(target.path, &error))?
        .ok_or_else(|| crowded(target.path))
}

fn fill(disk: &dyn Disk, file: &File, bytes: &[u8], mode: Mode) -> io::Result<()> {
    disk.set_mode(file, mode)?;
    disk.write(file, bytes)?;
    disk.sync(file)
}

pub(crate) fn finish(disk: &dyn Disk, target: &Target<'_>, temp: Temp<'_>) -> Result<()> {
    temp.keep();
    disk.sync_dir(target.dir)
        .map_err(|error| cannot_write(target.path, &error))
}

pub(crate) fn cannot_write(path: &Path, error: &io::Error) -> Fault {
    Fault::io(format_args!("write {}", path.display()), error)
}

fn already_exists(path: &Path) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "already_exists",
        format!("{} exists already", path.display()),
    )
    .hint("remove it or choose another path")
}

fn special(path: &Path) -> Fault {
    let message = format!("{} is a device, pipe or socket", path.display());
    Fault::new(Category::InvalidInput, "not_a_file", message)
        .hint("name a regular file; what prints to standard output needs no file")
}

fn crowded(path: &Path) -> Fault {
    let message = format!(
        "{MAX_WRITERS} other writers are replacing {}",
        path.display()
    );
    Fault::new(Category::StateContention, "state_contention", message)
}
