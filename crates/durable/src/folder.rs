//! Whole folders, all or nothing.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use worldcompute_fault::{Category, Fault, Result};

use crate::flock::Locked;
use crate::temp::Target;
use crate::{Disk, Mode, OsDisk, create_new_on};

/// A folder that is filled beside its place and takes it whole, or never appears.
///
/// What a writer that was killed left beside the place is removed by the next one; one that lives is left alone.
///
/// ```
/// use worldcompute_durable::{Mode, PendingDir};
///
/// let dir = tempfile::tempdir().unwrap();
/// let folder = PendingDir::begin(&dir.path().join("report"))?;
/// folder.write("index.md", b"# Report", Mode::Public)?;
/// folder.publish()?;
/// # Ok::<(), worldcompute_fault::Fault>(())
/// ```
#[must_use = "a folder that is not published never appears"]
pub struct PendingDir<'a> {
    disk: &'a dyn Disk,
    place: PathBuf,
    draft: PathBuf,
    published: bool,
    _only_writer: Locked,
}

impl PendingDir<'static> {
    /// Begins a folder, mode 0750, that will be at `place`. The folder above must exist.
    ///
    /// Errors: `already_exists` when something is there; `state_contention` while another writer fills the same;
    /// those of [`Fault::io`].
    pub fn begin(place: &Path) -> Result<Self> {
        PendingDir::begin_on(&OsDisk, place)
    }
}

impl<'a> PendingDir<'a> {
    /// [`PendingDir::begin`] on a given disk.
    pub fn begin_on(disk: &'a dyn Disk, place: &Path) -> Result<Self> {
        refuse_if_there(place)?;
        let draft = draft_of(place)?;
        let cannot_make = |error| Fault::io(format_args!("make {}", draft.display()), &error);
        let made = claim(&draft).map_err(cannot_make)?;
        let lock = made.ok_or_else(|| busy(place))?;
        Ok(Self {
            disk,
            place: place.to_owned(),
            draft,
            published: false,
            _only_writer: lock,
        })
    }

    /// Where it is filled.
    pub fn path(&self) -> &Path {
        &self.draft
    }

    /// Puts a file into it, on stable storage.
    ///
    /// Errors: those of [`create_new`](crate::create_new).
    pub fn write(&self, name: &str, bytes: &[u8], mode: Mode) -> Result<()> {
        create_new_on(self.disk, &self.draft.join(name), bytes, mode)
    }

    /// Gives it its place; on stable storage when this returns `Ok`.
    ///
    /// Errors: `already_exists` when something is there by now; those of [`Fault::io`].
    pub fn publish(mut self) -> Result<()> {
        let place = self.place.clone();
        let failed = |error| Fault::io(format_args!("write {}", place.display()), &error);
        self.disk.sync_dir(&self.draft).map_err(failed)?;
        refuse_if_there(&place)?;
        // Over a folder that came meanwhile the system gives no folder, unless that one is empty.
        self.disk.rename(&self.draft, &place).map_err(failed)?;
        self.published = true;
        let above = Target::of(&place).map_or(Path::new("."), |target| target.dir);
        self.disk.sync_dir(above).map_err(failed)
    }
}

impl Drop for PendingDir<'_> {
    fn drop(&mut self) {
        if !self.published {
            // The failure that led here is on its way already, and the next writer removes what stays.
            let _ = fs::remove_dir_all(&self.draft);
        }
    }
}

/// Makes the folder and locks it; `None` while somebody else has it.
fn claim(draft: &Path) -> io::Result<Option<Locked>> {
    loop {
        match DirBuilder::new().mode(0o750).create(draft) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let Some(dead) = lock(draft)? else {
                    return Ok(None);
                };
                if dead.is_at(draft)? {
                    fs::remove_dir_all(draft)?;
                }
            }
            made => {
                made?;
                // Another writer may have taken it for a dead one's before it was locked.
                if let Some(ours) = lock(draft)?
                    && ours.is_at(draft)?
                {
                    return Ok(Some(ours));
                }
            }
        }
    }
}

fn lock(folder: &Path) -> io::Result<Option<Locked>> {
    match File::open(folder) {
        Ok(folder) => Locked::try_new(folder),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn draft_of(place: &Path) -> Result<PathBuf> {
    let name = place.file_name().ok_or_else(|| {
        let message = format!("{} names no folder", place.display());
        Fault::new(Category::InvalidInput, "invalid_path", message)
            .hint("give a path that ends in a name")
    })?;
    let mut draft = std::ffi::OsString::from(".");
    draft.push(name);
    draft.push(".partial");
    Ok(place.with_file_name(draft))
}

fn refuse_if_there(place: &Path) -> Result<()> {
    match place.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::io(
            format_args!("look at {}", place.display()),
            &error,
        )),
        Ok(_) => Err(Fault::io(
            format_args!("write {}", place.display()),
            &ErrorKind::AlreadyExists.into(),
        )),
    }
}

fn busy(place: &Path) -> Fault {
    let message = format!("another process is writing {}", place.display());
    Fault::new(Category::StateContention, "state_contention", message)
        .hint("wait for it, or give another place")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_appears_with_everything_in_it_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("report");
        let folder = PendingDir::begin(&place).unwrap();
        for name in ["a", "b"] {
            folder.write(name, name.as_bytes(), Mode::Public).unwrap();
            assert!(!place.exists());
        }
        folder.publish().unwrap();
        assert_eq!(names(dir.path()), ["report"]);
        assert_eq!(names(&place), ["a", "b"]);
    }

    #[test]
    fn a_folder_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = PendingDir::begin(&dir.path().join("report")).unwrap();
        folder.write("a", b"a", Mode::Public).unwrap();
        drop(folder);
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn what_is_there_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("report");
        let folder = PendingDir::begin(&place).unwrap();
        fs::create_dir(&place).unwrap();
        assert_eq!(folder.publish().unwrap_err().code(), "already_exists");
        let again = PendingDir::begin(&place).map(drop).unwrap_err();
        assert_eq!(again.code(), "already_exists");
        assert!(names(&place).is_empty());
    }

    #[test]
    fn a_writer_that_lives_keeps_its_folder_and_one_that_died_leaves_it_to_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("report");
        let first = PendingDir::begin(&place).unwrap();
        first.write("a", b"a", Mode::Public).unwrap();
        let second = PendingDir::begin(&place).map(drop).unwrap_err();
        assert_eq!(second.code(), "state_contention");
        assert!(first.path().join("a").exists());
        drop(first);
        // As a killed writer leaves it: filled in part, and locked by nobody.
        fs::create_dir(dir.path().join(".report.partial")).unwrap();
        fs::File::create(dir.path().join(".report.partial/half")).unwrap();
        let next = PendingDir::begin(&place).unwrap();
        next.write("b", b"b", Mode::Public).unwrap();
        next.publish().unwrap();
        assert_eq!(names(&place), ["b"]);
    }

    #[test]
    fn a_failed_rename_leaves_neither_place_nor_draft() {
        struct Full;
        impl Disk for Full {
            fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
                Err(ErrorKind::StorageFull.into())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = PendingDir::begin_on(&Full, &dir.path().join("report")).unwrap();
        folder.write("a", b"a", Mode::Public).unwrap();
        assert_eq!(folder.publish().unwrap_err().code(), "disk_full");
        assert!(names(dir.path()).is_empty());
    }
}
