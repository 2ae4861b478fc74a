//! Mutual exclusion between processes.
//!
//! The lock is the kernel's (`flock(2)`) on a file, so it ends with its owner: there is no stale lock to break, and so
//! no two takers that both believe they broke it. What the file says about the owner is for the message only.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use worldcompute_fault::{Category, Fault, Result};

use crate::Owner;
use crate::flock::Locked;

/// How long to wait for the owner, and how often to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockOptions {
    /// Give up after this long; zero tries once.
    pub wait: Duration,
    /// Pause between two tries. `wait / poll` rounded up, plus one, is the number of tries.
    pub poll: Duration,
}

impl Default for LockOptions {
    /// 3 s, looking every 15 ms.
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(3),
            poll: Duration::from_millis(15),
        }
    }
}

impl LockOptions {
    /// Tries until `attempt` gives something; `Ok(None)` when it never did.
    ///
    /// # Errors
    /// Those of `attempt`.
    pub fn retry<T, E>(
        self,
        attempt: &mut dyn FnMut() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        self.retry_with(&mut pause, attempt)
    }

    fn retry_with<T, E>(
        self,
        pause: &mut dyn FnMut(Duration),
        attempt: &mut dyn FnMut() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        for _ in 0..self.pauses() {
            if let Some(done) = attempt()? {
                return Ok(Some(done));
            }
            pause(self.poll);
        }
        attempt()
    }

    /// Pauses between the tries.
    fn pauses(&self) -> u64 {
        let pauses = self.wait.as_nanos().div_ceil(self.poll.as_nanos().max(1));
        u64::try_from(pauses).unwrap_or(u64::MAX)
    }
}

/// A held lock, released on drop and by the death of this process.
///
/// The file stays: to remove it would let a newcomer lock a new file of that name while another still waits for the
/// old one.
#[derive(Debug)]
pub struct OwnedLock {
    file: Locked,
    path: PathBuf,
    previous: Option<Owner>,
    /// Whether the file was not there before.
    made: bool,
}

impl OwnedLock {
    /// Takes the lock at `path`, creating the file (mode 0600) in a directory that must exist.
    ///
    /// Errors: `state_contention` when somebody held it all the time, naming the owner; those of opening the file.
    pub fn acquire(path: &Path, options: LockOptions) -> Result<Self> {
        Self::acquire_with(path, options, &mut pause)
    }

    /// The owner that died holding it, if the last one did: whatever it was changing may be half done.
    pub const fn previous(&self) -> Option<&Owner> {
        self.previous.as_ref()
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Releases the lock after something that came to nothing: a file that was made for it goes, too. Whoever waits for
    /// it sees that the file is no longer in its place, and takes a new one.
    pub fn undo(self) {
        if self.made && self.file.is_at(&self.path).unwrap_or(false) {
            // Still held, so nobody else has it. One that stays is the next owner's.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Does `work` under the lock and releases it. When that fails, the lock is [undone](OwnedLock::undo).
    ///
    /// # Errors
    /// Those of `work`.
    pub fn during<T>(self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = work();
        if done.is_err() {
            self.undo();
        }
        done
    }

    fn acquire_with(
        path: &Path,
        options: LockOptions,
        pause: &mut dyn FnMut(Duration),
    ) -> Result<Self> {
        options
            .retry_with(pause, &mut || Self::attempt(path))?
            .ok_or_else(|| held(path, options))
    }

    fn attempt(path: &Path) -> Result<Option<Self>> {
        open(path)
            .and_then(|(file, made)| Self::take(file, made, path))
            .map_err(|error| cannot_lock(path, &error))
    }

    /// `Ok(None)` when somebody else has the lock, or when the file was removed or replaced since it was opened: then
    /// it is not the lock.
    fn take(file: File, made: bool, path: &Path) -> io::Result<Option<Self>> {
        let Some(file) = Locked::try_new(file)? else {
            return Ok(None);
        };
        if !file.is_at(path)? {
            return Ok(None);
        }
        let previous = Owner::read(&file);
        Owner::current().write(&file)?;
        Ok(Some(Self {
            file,
            path: path.to_owned(),
            previous,
            made,
        }))
    }
}

impl Drop for OwnedLock {
    fn drop(&mut self) {
        // A name left behind costs the next owner a look at what is whole; it does not keep the lock.
        let _ = self.file.set_len(0);
    }
}

/// The file, and whether it was made just now.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags);
    match options.create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return Ok((made?, true)),
    }
    let found = options.create_new(false).create(true).open(path)?;
    Ok((found, false))
}

#[expect(
    clippy::disallowed_methods,
    reason = "flock has no bounded wait, and nothing signals its release"
)]
fn pause(poll: Duration) {
    std::thread::sleep(poll);
}

pub(crate) fn cannot_lock(path: &Path, error: &io::Error) -> Fault {
    let fault = Fault::io(format_args!("lock {}", path.display()), error);
    match Errno::from_io_error(error) {
        Some(Errno::LOOP) => fault.hint("a lock is never a symbolic link: remove the link"),
        _ => fault,
    }
}

fn held(path: &Path, options: LockOptions) -> Fault {
    let owner = File::open(path).ok().as_ref().and_then(Owner::read);
    held_by(path, options, owner.as_ref())
}

/// The refusal to wait any longer for what `owner` holds.
pub(crate) fn held_by(path: &Path, options: LockOptions, owner: Option<impl Display>) -> Fault {
    let by = owner.map_or_else(|| "another process".to_owned(), |owner| owner.to_string());
    let message = format!(
        "{} is held by {by}; waited {:?}",
        path.display(),
        options.wait
    );
    Fault::new(Category::StateContention, "state_contention", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(wait: Duration, poll: Duration) -> (usize, Duration) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _held = OwnedLock::acquire(&path, LockOptions::default()).unwrap();
        let mut pauses = Vec::new();
        let refused = OwnedLock::acquire_with(&path, LockOptions { wait, poll }, &mut |pause| {
            pauses.push(pause)
        });
        assert_eq!(refused.unwrap_err().code(), "state_contention");
        (pauses.len(), pauses.iter().sum())
    }

    #[test]
    fn the_number_of_tries_is_fixed_by_the_options_alone() {
        let ms = Duration::from_millis;
        assert_eq!(tries(ms(0), ms(15)), (0, ms(0)));
        assert_eq!(tries(ms(1), ms(15)), (1, ms(15)));
        assert_eq!(tries(ms(45), ms(15)), (3, ms(45)));
        assert_eq!(tries(ms(46), ms(15)), (4, ms(60)));
    }

    #[test]
    fn a_zero_poll_still_ends() {
        assert_eq!(
            LockOptions {
                wait: Duration::from_nanos(5),
                poll: Duration::ZERO
            }
            .pauses(),
            5
        );
    }

    #[test]
    fn a_lock_released_between_two_tries_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mut held = Some(OwnedLock::acquire(&path, LockOptions::default()).unwrap());
        let taken = OwnedLock::acquire_with(&path, LockOptions::default(), &mut |_| held = None);
        assert!(taken.unwrap().previous().is_none());
    }

    #[test]
    fn a_file_removed_or_replaced_before_it_was_locked_is_not_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let opened = open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(
            OwnedLock::take(opened.0, opened.1, &path)
                .unwrap()
                .is_none()
        );
        let opened = open(&path).unwrap();
        let other = dir.path().join("other");
        open(&other).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(
            OwnedLock::take(opened.0, opened.1, &path)
                .unwrap()
                .is_none()
        );
    }
}
