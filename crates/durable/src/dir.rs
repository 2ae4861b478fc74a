//! Directories that only their owner enters.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use worldcompute_fault::{Fault, Result};

use crate::read::insecure;
use crate::temp::Target;
use crate::{Disk, OsDisk};

/// Makes the directory `path` and every missing one above it, mode 0700, or checks that the one that is there belongs
/// to this user and is closed to everybody else.
///
/// Errors: `insecure_permissions` with the `chmod` to run, `not_a_directory`, `permission_denied`, `io_failure`.
pub fn private_dir(path: &Path) -> Result<()> {
    let cannot_make =
        |error: io::Error| Fault::io(format_args!("make directory {}", path.display()), &error);
    make(path, 0o700, &mut Vec::new()).map_err(cannot_make)?;
    check(path, &fs::metadata(path).map_err(cannot_make)?)
}

/// Makes the directory `path` and every missing one above it, mode 0750: for what others of the group may read. One
/// that is there is taken as it is.
///
/// Errors: `not_a_directory`, `permission_denied`, `io_failure`.
pub fn output_dir(path: &Path) -> Result<()> {
    NewDirs::make(path).map(NewDirs::keep)
}

/// The directories that had to be made for something that has yet to succeed: removed on drop, as far as nobody has put
/// anything into them, unless they are [kept](NewDirs::keep).
#[derive(Debug, Default)]
pub struct NewDirs(Vec<PathBuf>);

impl NewDirs {
    /// As [`output_dir`].
    ///
    /// Errors: as [`output_dir`].
    pub fn make(path: &Path) -> Result<Self> {
        let mut new = Self::default();
        if !path.as_os_str().is_empty() {
            make_output(path, &mut new.0)?;
        }
        Ok(new)
    }

    /// It succeeded: the directories stay.
    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for NewDirs {
    fn drop(&mut self) {
        for made in self.0.iter().rev() {
            // One that is not empty is somebody else's by now.
            let _ = fs::remove_dir(made);
        }
    }
}

fn make_output(path: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    let cannot_make =
        |error: io::Error| Fault::io(format_args!("make directory {}", path.display()), &error);
    make(path, 0o750, made).map_err(cannot_make)?;
    match fs::metadata(path).map_err(cannot_make)?.is_dir() {
        true => Ok(()),
        false => Err(cannot_make(io::ErrorKind::NotADirectory.into())),
    }
}

/// Makes what is missing, and adds it to `made`, the outermost first.
fn make(path: &Path, mode: u32, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    else {
        return make_one(path, mode, made);
    };
    match make_one(path, mode, made) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(parent, mode, made).and_then(|()| make_one(path, mode, made))
        }
        done => done,
    }
}

fn make_one(path: &Path, mode: u32, made: &mut Vec<PathBuf>) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        created => created?,
    }
    made.push(path.to_owned());
    Target::of(path).map_or(Ok(()), |made| OsDisk.sync_dir(made.dir))
}

fn check(path: &Path, metadata: &fs::Metadata) -> Result<()> {
    let shown = path.display();
    if !metadata.is_dir() {
        return Err(Fault::io(
            format_args!("use {shown}"),
            &io::ErrorKind::NotADirectory.into(),
        ));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        let message = format!("{shown} belongs to user {}", metadata.uid());
        return Err(insecure(
            message,
            "choose a directory of your own".to_owned(),
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        let message = format!(
            "{shown} is open to others (mode {:04o})",
            metadata.mode() & 0o7777
        );
        return Err(insecure(message, format!("chmod 700 {shown}")));
    }
    Ok(())
}
