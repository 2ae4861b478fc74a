//! The folder of one run: what its hypervisor sees of the disk, gone with the run.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{chown, fchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};
use worldcompute_durable::private_dir;
use worldcompute_fault::{Fault, Result};

use crate::confinement::User;

/// A folder that its owner alone enters, locked for as long as it is used.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    handle: File,
}

impl RunDir {
    /// Makes one below `parent`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create(parent: &Path) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = parent.join(name);
        private_dir(&path)?;
        let handle = lock(&path)?.ok_or_else(|| {
            Fault::io(
                format_args!("take {}", path.display()),
                &std::io::ErrorKind::AlreadyExists.into(),
            )
        })?;
        Ok(Self { path, handle })
    }

    /// Removes what runs left below `parent` whose process is gone.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sweep(parent: &Path) -> Result<()> {
        private_dir(parent)?;
        let cannot = |error| Fault::io(format_args!("list {}", parent.display()), &error);
        for entry in fs::read_dir(parent).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            if let Some(handle) = lock(&path)? {
                drop(Self { path, handle });
            }
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub const fn handle(&self) -> &File {
        &self.handle
    }

    /// A socket of that name, whatever the length of the folder's path.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen(&self, name: &str) -> Result<UnixListener> {
        let path = format!("/proc/self/fd/{}/{name}", self.handle.as_raw_fd());
        let cannot = |error| {
            Fault::io(
                format_args!("listen at {}", self.path.join(name).display()),
                &error,
            )
        };
        let listener = UnixListener::bind(path).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        Ok(listener)
    }

    /// Makes `user` the owner of the folder and of the sockets `names` in it. What is copied into it stays its owner's.
    ///
    /// # Errors
    /// What the system says.
    pub fn give_to(&self, User(id): User, names: &[&str]) -> Result<()> {
        let cannot = |error| Fault::io(format_args!("give {} away", self.path.display()), &error);
        for name in names {
            chown(self.path.join(name), Some(id), Some(id)).map_err(cannot)?;
        }
        fchown(&self.handle, Some(id), Some(id)).map_err(cannot)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the folder of a run stays until the next start");
        }
    }
}

/// `None` where a process has it, or it is gone.
fn lock(path: &Path) -> Result<Option<File>> {
    let cannot = |error| Fault::io(format_args!("open {}", path.display()), &error);
    let handle = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(cannot)?,
    };
    match flock(&handle, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(handle)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(cannot(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_folder_goes_with_its_run_and_what_a_dead_process_left_goes_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        RunDir::sweep(&runs).unwrap();
        let used = RunDir::create(&runs).unwrap();
        let left = runs.join("1-0");
        private_dir(&left).unwrap();
        File::create(left.join("vmlinux")).unwrap();
        RunDir::sweep(&runs).unwrap();
        assert!(!left.exists());
        assert!(used.path().exists());
        drop(used);
        assert_eq!(fs::read_dir(&runs).unwrap().count(), 0);
    }

    #[test]
    fn a_socket_is_made_where_paths_are_too_long_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("a".repeat(120));
        private_dir(&runs).unwrap();
        let run = RunDir::create(&runs).unwrap();
        let listener = run.listen("channel").unwrap();
        let path = format!("/proc/self/fd/{}/channel", run.handle().as_raw_fd());
        let _there = UnixStream::connect(path).unwrap();
        listener.accept().unwrap();
    }
}
