//! A log file that only its owner reads and that never grows past its limit: one file, and the one before it.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use worldcompute_fault::{Fault, Result};

/// Several processes may append to the same file: each line is one write, and they agree on who moves the full file.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    limit: u64,
    file: File,
}

impl LogFile {
    /// Opens or creates the file (mode 0600) and its directory (mode 0700). Follows no link.
    pub(crate) fn open(path: &Path, limit: u64) -> Result<Self> {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(|error| failed(path, &error))?;
        }
        let file = open(path).map_err(|error| failed(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            limit,
            file,
        })
    }

    /// Appends one line; a full file is moved to `<name>.1` first.
    pub(crate) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        if size > 0 && size.saturating_add(line.len() as u64) > self.limit {
            self.rotate()?;
        }
        self.file.write_all(line)
    }

    /// Whoever holds the lock on the full file moves it; the others find that the path leads elsewhere, and follow.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.lock()?;
        let ours = self.file.metadata()?;
        let there = std::fs::symlink_metadata(&self.path);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            std::fs::rename(&self.path, previous(&self.path))?;
        }
        self.file = open(&self.path)?;
        Ok(())
    }
}

/// Where the lines before the current file's are.
fn previous(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".1");
    name.into()
}

fn open(path: &Path) -> io::Result<File> {
    // Not blocking: opening a pipe must not wait for its reader.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags.bits() as i32)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn failed(path: &Path, error: &io::Error) -> Fault {
    Fault::io(format!("open the log file {}", path.display()), error)
}
