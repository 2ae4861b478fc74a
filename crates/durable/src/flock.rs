//! A file under the kernel's lock (`flock(2)`).

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file that is locked as long as this lives, and no longer than this process does.
#[derive(Debug)]
pub(crate) struct Locked(File);

impl Locked {
    /// `Ok(None)` when somebody else holds the lock.
    pub(crate) fn try_new(file: File) -> io::Result<Option<Self>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// True when `path` still names this file. Somebody may have removed or replaced it before it was locked.
    pub(crate) fn is_at(&self, path: &Path) -> io::Result<bool> {
        let ours = self.metadata()?;
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            named => named.map(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        }
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing the file is not enough: a child between fork and exec shares it, and would hold the lock a moment
        // longer. Should this fail, closing is what remains.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_ends_with_its_owner_even_while_a_forked_child_shares_the_file() {
        let file = tempfile::tempfile().unwrap();
        let open_again = || {
            File::open(format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&file)
            ))
        };
        let locked = Locked::try_new(open_again().unwrap()).unwrap().unwrap();
        let _inherited = locked.try_clone().unwrap();
        assert!(Locked::try_new(open_again().unwrap()).unwrap().is_none());
        drop(locked);
        assert!(Locked::try_new(open_again().unwrap()).unwrap().is_some());
    }
}
