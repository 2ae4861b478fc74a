//! Files that are read once, and again when they change.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use worldcompute_fault::Result;

/// How old the last change of a file has to be before its stamp tells it from the next one, in seconds: file systems
/// count changes in ticks, and two within one tick look alike.
const SETTLED_AFTER: i64 = 2;

/// What a file says, kept for as long as the file stays the same.
#[derive(Debug)]
pub struct Warm<T> {
    path: PathBuf,
    kept: RwLock<Option<(Stamp, Arc<T>)>>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<T> Warm<T> {
    /// The file at `path`, not read yet.
    pub const fn at(path: PathBuf) -> Self {
        Self {
            path,
            kept: RwLock::new(None),
        }
    }

    /// What the file says at `now`, by `read` if it is not known yet or may have changed. Errors are those of `read`,
    /// and nothing is remembered of them.
    pub fn get(&self, now: Timestamp, read: impl FnOnce(&Path) -> Result<T>) -> Result<Arc<T>> {
        // Taken before the file is read: a change in between is seen the next time.
        let Ok(stamp) = Stamp::of(&self.path) else {
            return read(&self.path).map(Arc::new);
        };
        if let Some((kept, value)) = &*self.kept.read().unwrap_or_else(PoisonError::into_inner)
            && *kept == stamp
        {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(read(&self.path)?);
        if stamp.is_settled(now) {
            let kept = Some((stamp, Arc::clone(&value)));
            *self.kept.write().unwrap_or_else(PoisonError::into_inner) = kept;
        }
        Ok(value)
    }
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|found| Self::from(&found))
    }

    fn is_settled(&self, now: Timestamp) -> bool {
        now.as_second().saturating_sub(self.changed.0) >= SETTLED_AFTER
    }
}

impl From<&Metadata> for Stamp {
    fn from(found: &Metadata) -> Self {
        Self {
            file: (found.dev(), found.ino()),
            len: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use worldcompute_durable::{Mode, read_bounded, write_atomic};

    use super::*;

    fn in_a_minute() -> Timestamp {
        Timestamp::now() + 1.minute()
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let warm = Warm::at(dir.path().join("file"));
        let mut reads = 0;
        let mut get = |now| {
            let read = |path: &Path| {
                reads += 1;
                read_bounded(path, 10)
            };
            let said = warm.get(now, read).map(|said| said.to_vec());
            (said.ok(), reads)
        };
        assert_eq!(get(in_a_minute()), (None, 1));
        write_atomic(&warm.path, b"one", Mode::Private).unwrap();
        assert_eq!(get(in_a_minute()), (Some(b"one".to_vec()), 2));
        assert_eq!(get(in_a_minute()), (Some(b"one".to_vec()), 2));
        write_atomic(&warm.path, b"two", Mode::Private).unwrap();
        assert_eq!(get(in_a_minute()), (Some(b"two".to_vec()), 3));
        write_atomic(&warm.path, b"more than ten", Mode::Private).unwrap();
        assert_eq!(get(in_a_minute()), (None, 4));
        std::fs::remove_file(&warm.path).unwrap();
        assert_eq!(get(in_a_minute()), (None, 5));
    }

    #[test]
    fn a_file_that_has_just_changed_may_change_again_unseen_and_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let warm = Warm::at(dir.path().join("file"));
        write_atomic(&warm.path, b"one", Mode::Private).unwrap();
        let mut reads = 0;
        for at in [Timestamp::now(), Timestamp::now(), in_a_minute()] {
            let read = |_: &Path| {
                reads += 1;
                Ok(())
            };
            warm.get(at, read).unwrap();
        }
        assert_eq!(reads, 3);
    }
}
