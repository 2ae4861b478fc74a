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
    make(path).map_err(cannot_make)?;
    check(path, &fs::metadata(path).map_err(cannot_make)?)
}

fn make(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else {
        return make_one(path);
    };
    match make_one(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(parent).and_then(|()| make_one(path))
        }
        done => done,
    }
}

fn make_one(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
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
