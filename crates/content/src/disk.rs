//! Where objects lie, and what the file system says about them.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use worldcompute_durable::{
    self as durable, AtomicFile, Disk as _, LockOptions, Mode, OsDisk, OwnedLock,
};
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::Cid;

use crate::pin::PinName;

/// How exactly the last use of an object is noted, which spares the disk a write for each use.
const USE_GRAIN: Duration = Duration::from_secs(60);

/// The directories of a store.
pub struct Layout {
    objects: PathBuf,
    quarantine: PathBuf,
    drafts: PathBuf,
    pins: PathBuf,
    next_draft: AtomicU64,
    _only_process: OwnedLock,
}

/// A file that is kept. In order of who goes first: corrupt copies, then what was used least lately.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// False for a copy in quarantine.
    pub sound: bool,
    pub used: SystemTime,
    pub cid: Cid,
}

impl Layout {
    /// Makes what is missing and removes the drafts of writers that died.
    pub fn create(root: &Path) -> Result<Self> {
        durable::private_dir(root)?;
        let layout = Self {
            objects: root.join("objects"),
            quarantine: root.join("quarantine"),
            drafts: root.join("drafts"),
            pins: root.join("pins"),
            next_draft: AtomicU64::new(0),
            _only_process: OwnedLock::acquire(&root.join("lock"), LockOptions::default())?,
        };
        for dir in layout.dirs() {
            durable::private_dir(dir)?;
        }
        durable::sweep(&layout.drafts)?;
        Ok(layout)
    }

    /// A file for bytes whose name is known only when the last of them is there.
    pub fn draft(&self) -> Result<AtomicFile<'static>> {
        let number = self.next_draft.fetch_add(1, Ordering::Relaxed);
        AtomicFile::create(&self.drafts.join(number.to_string()), Mode::Private)
    }

    /// Where the object of this name lies, if it is there.
    pub fn object(&self, cid: &Cid) -> PathBuf {
        let name = cid.to_string();
        self.objects.join(shard(&name)).join(&name)
    }

    /// Where the object of this name goes when it turns out to be corrupt.
    pub fn quarantined(&self, cid: &Cid) -> PathBuf {
        self.quarantine.join(cid.to_string())
    }

    /// Makes the directory that `object` goes into, durably.
    pub fn prepare(&self, object: &Path) -> Result<()> {
        let dir = object.parent().unwrap_or(&self.objects);
        if dir.is_dir() {
            return Ok(());
        }
        durable::private_dir(dir)?;
        let synced = File::open(&self.objects).and_then(|parent| parent.sync_all());
        synced.map_err(|error| Fault::io(format_args!("sync {}", self.objects.display()), &error))
    }

    /// Where the pin of this name lies, if it is there.
    pub fn pin(&self, name: &PinName) -> PathBuf {
        self.pins.join(name.as_str())
    }

    /// The files of all pins.
    pub fn pins(&self) -> Result<Vec<PathBuf>> {
        entries(&self.pins)
    }

    /// Removes a pin's file, durably.
    pub fn remove_pin(&self, name: &PinName) -> Result<()> {
        let path = self.pin(name);
        let removed = fs::remove_file(&path).and_then(|()| OsDisk.sync_dir(&self.pins));
        removed.map_err(|error| Fault::io(format_args!("remove {}", path.display()), &error))
    }

    /// Shows every object and every corrupt copy. Files of other names are nobody's business.
    pub fn each_kept(&self, show: &mut dyn FnMut(Kept)) -> Result<()> {
        each_in(&self.quarantine, false, show)?;
        for shard in entries(&self.objects)? {
            each_in(&shard, true, show)?;
        }
        Ok(())
    }

    /// The object of this name, if it is there.
    pub fn kept(&self, cid: &Cid) -> Result<Option<Kept>> {
        let path = self.object(cid);
        let Some(metadata) = metadata(&path)? else {
            return Ok(None);
        };
        Ok(Some(Kept {
            sound: true,
            used: used(&path, &metadata)?,
            cid: *cid,
        }))
    }

    /// Removes the file unless it was used since it was shown, and says how many bytes it had.
    pub fn remove_unused(&self, kept: &Kept) -> Result<Option<u64>> {
        let path = match kept.sound {
            true => self.object(&kept.cid),
            false => self.quarantined(&kept.cid),
        };
        let Some(metadata) = metadata(&path)? else {
            return Ok(None);
        };
        if used(&path, &metadata)? != kept.used {
            return Ok(None);
        }
        fs::remove_file(&path)
            .map_err(|error| Fault::io(format_args!("remove {}", path.display()), &error))?;
        Ok(Some(metadata.len()))
    }

    /// Bytes of everything kept, the quarantine included.
    pub fn used(&self) -> Result<u64> {
        let mut used = size_of_files(&self.quarantine)?;
        for shard in entries(&self.objects)? {
            used += size_of_files(&shard)?;
        }
        Ok(used)
    }

    const fn dirs(&self) -> [&PathBuf; 4] {
        [&self.objects, &self.quarantine, &self.drafts, &self.pins]
    }
}

/// The file's size in bytes, or `None` where there is no such file.
pub fn size(path: &Path) -> Result<Option<u64>> {
    Ok(metadata(path)?.map(|metadata| metadata.len()))
}

/// Notes on the file, which is open, that it is used now: its time of change, to the minute.
pub fn note_use(file: &File) {
    let now = SystemTime::now();
    let noted = file.metadata().and_then(|metadata| metadata.modified());
    let fresh = |noted: SystemTime| {
        let age = now.duration_since(noted);
        age.is_ok_and(|age| age < USE_GRAIN)
    };
    if !noted.is_ok_and(fresh) {
        // A disk that takes no note can be read all the same; the object only counts as older than it is.
        let _ = file.set_modified(now);
    }
}

fn metadata(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::io(format_args!("stat {}", path.display()), &error)),
    }
}

/// The file opened for reading, or `None` where there is no such file.
pub fn open(path: &Path) -> Result<Option<File>> {
    match durable::open_to_read(path) {
        Ok(file) => Ok(Some(file)),
        Err(fault) if fault.code() == "not_found" => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn each_in(dir: &Path, sound: bool, show: &mut dyn FnMut(Kept)) -> Result<()> {
    for path in entries(dir)? {
        let cid = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        if let (Some(cid), Some(metadata)) = (cid, metadata(&path)?) {
            let used = used(&path, &metadata)?;
            show(Kept { sound, used, cid });
        }
    }
    Ok(())
}

/// When the file was written, or read last.
fn used(path: &Path, metadata: &Metadata) -> Result<SystemTime> {
    let time = metadata.modified();
    time.map_err(|error| Fault::io(format_args!("stat {}", path.display()), &error))
}

fn shard(name: &str) -> &str {
    let end = name.len().saturating_sub(1);
    name.get(end.saturating_sub(2)..end).unwrap_or("__")
}

fn size_of_files(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for path in entries(dir)? {
        total += size(&path)?.unwrap_or(0);
    }
    Ok(total)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> io::Result<_> {
        let paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
        paths.collect()
    };
    list().map_err(|error| Fault::io(format_args!("list {}", dir.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(layout: &Layout) -> Vec<Kept> {
        let mut all = Vec::new();
        layout.each_kept(&mut |kept| all.push(kept)).unwrap();
        all
    }

    #[test]
    fn a_file_that_was_used_since_it_was_looked_at_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path().join("content").as_path()).unwrap();
        let path = layout.object(&Cid::raw(b"bytes"));
        layout.prepare(&path).unwrap();
        let file = File::create(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let before = shown(&layout);
        note_use(&file);
        assert_eq!(layout.remove_unused(&before[0]).unwrap(), None);
        assert!(path.exists());
        assert_eq!(layout.remove_unused(&shown(&layout)[0]).unwrap(), Some(0));
        assert!(!path.exists());
    }
}
