//! Directories that only their owner enters.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

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
    make(path, 0o700).map_err(cannot_make)?;
    check(path, &fs::metadata(path).map_err(cannot_make)?)
}

/// Makes the directory `path` and every missing one above it, mode 0750: for what others of the group may read. One
/// that is there is taken as it is.
///
/// Errors: `not_a_directory`, `permission_denied`, `io_failure`.
pub fn output_dir(path: &Path) -> Result<()> {
    let cannot_make =
        |error: io::Error| Fault::io(format_args!("make directory {}", path.display()), &error);
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    make(path, 0o750).map_err(cannot_make)?;
    match fs::metadata(path).map_err(cannot_make)?.is_dir() {
        true => Ok(()),
        false => Err(cannot_make(io::ErrorKind::NotADirectory.into())),
    }
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    else {
        return make_one(path, mode);
    };
    match make_one(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(parent, mode).and_then(|()| make_one(path, mode))
        }
        done => done,
    }
}

fn make_one(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Target::of(path).map_or(Ok(()), |made| OsDisk.sync_dir(made.dir)),
    }
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
