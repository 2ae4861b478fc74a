//! Mutual exclusion with programs whose lock is that a file is there.
//!
//! Such a program creates the lock file (`O_EXCL`), removes it when it is done, and takes a file that has not changed
//! for some time for a dead owner's. This lock keeps their rules, and adds the kernel's lock (`flock(2)`) on the file:
//! a file of ours that nobody holds is a dead owner's at once, however new it is, and is removed by exactly one taker,
//! who holds it. It appears under its name with its content, so nobody sees a lock file that says nothing.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use worldcompute_fault::{Category, Fault, Result};

use crate::flock::Locked;
use crate::lock::{cannot_lock, held_by};
use crate::read::not_regular;
use crate::temp::{Target, Temp};
use crate::{Disk, LockOptions, OsDisk, Owner};

/// Bytes of a lock file that are looked at.
const MAX_BYTES: u64 = 4096;

/// What a lock file says, and when another program's counts as left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockForm {
    /// The `schema_id` in the file.
    pub schema_id: &'static str,
    /// The `schema_version` in the file.
    pub schema_version: &'static str,
    /// The age from which another program's lock file counts as a dead owner's.
    pub stale_after: Duration,
}

/// A held lock, released on drop and by the death of this process.
pub struct LockFile {
    temp: Temp<'static>,
    path: PathBuf,
}

#[derive(Serialize)]
struct Body<'a> {
    schema_id: &'a str,
    schema_version: &'a str,
    pid: u32,
    created_at: Timestamp,
    owner: Owner,
}

/// What matters of anybody's lock file.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Found {
    created_at: Option<Timestamp>,
    /// What programs write that do not write an owner.
    pid: Option<u32>,
    owner: Option<Owner>,
}

impl LockFile {
    /// Takes the lock at `path`, in a directory that must exist.
    ///
    /// Errors: `state_contention` when somebody held it all the time, naming the owner; those of writing the file.
    pub fn acquire(path: &Path, form: &LockForm, options: LockOptions) -> Result<Self> {
        let target = Target::of(path).ok_or_else(|| {
            let message = format!("{} names no file", path.display());
            Fault::new(Category::InvalidInput, "invalid_path", message)
        })?;
        options
            .retry(&mut || Self::attempt(&target, form))
            .map_err(|error| cannot_lock(path, &error))?
            .ok_or_else(|| {
                let found = open(path).map(|file| Found::read(&file));
                held_by(path, options, found.unwrap_or_default().holder())
            })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn attempt(target: &Target<'_>, form: &LockForm) -> io::Result<Option<Self>> {
        let free = match open(target.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            opened => remove_dead(opened?, target.path, form)?,
        };
        if free {
            return Self::create(target, form);
        }
        Ok(None)
    }

    fn create(target: &Target<'_>, form: &LockForm) -> io::Result<Option<Self>> {
        let Some(mut temp) = Temp::claim(&OsDisk, target)? else {
            return Ok(None);
        };
        OsDisk.write(temp.file(), &serde_json::to_vec(&Body::new(form))?)?;
        match OsDisk.rename_new(temp.path(), target.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            done => done?,
        }
        temp.set_named();
        let path = target.path.to_owned();
        Ok(Some(Self { temp, path }))
    }
}

impl fmt::Debug for LockFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LockFile({})", self.path.display())
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Somebody who took the file for stale may have put another in its place: that one is not ours to remove.
        // A file that stays behind is unlocked with this process, and the next taker removes it.
        if self.temp.is_at(&self.path).unwrap_or(false) {
            let _ = OsDisk.remove(&self.path);
        }
    }
}

impl<'a> Body<'a> {
    fn new(form: &'a LockForm) -> Self {
        let owner = Owner::current();
        Self {
            schema_id: form.schema_id,
            schema_version: form.schema_version,
            pid: owner.pid,
            created_at: owner.since,
            owner,
        }
    }
}

impl Found {
    /// Who wrote the file, as far as it says.
    fn holder(&self) -> Option<String> {
        let owner = self.owner.as_ref().map(Owner::to_string);
        owner.or_else(|| self.pid.map(|pid| format!("process {pid}")))
    }

    fn read(file: &File) -> Self {
        let mut bytes = Vec::new();
        let read = file.take(MAX_BYTES).read_to_end(&mut bytes);
        read.ok()
            .and_then(|_| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Removes a dead owner's lock file; true when it is gone.
///
/// Who holds the kernel's lock on the file under this name is the only one of us to remove it, so it cannot be a new
/// owner's that is removed.
fn remove_dead(file: File, path: &Path, form: &LockForm) -> io::Result<bool> {
    if !file.metadata()?.is_file() {
        // Nobody's lock looks like that, and no waiting makes it one.
        return Err(not_regular());
    }
    if !may_be_dead(&file, form)? {
        return Ok(false);
    }
    let Some(file) = Locked::try_new(file)? else {
        return Ok(false);
    };
    if !file.is_at(path)? {
        return Ok(false);
    }
    OsDisk.remove(path)?;
    Ok(true)
}

/// One of ours is alive as long as its kernel lock is held, which the caller tries next. Of others only time tells.
fn may_be_dead(file: &File, form: &LockForm) -> io::Result<bool> {
    let found = Found::read(file);
    let age = |since: SystemTime| SystemTime::now().duration_since(since).unwrap_or_default();
    let created = found.created_at.map(SystemTime::from).map(age);
    Ok(found.owner.is_some()
        || age(file.metadata()?.modified()?) > form.stale_after
        || created.is_some_and(|age| age > form.stale_after))
}
