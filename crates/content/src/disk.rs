//! Where objects lie, and what the file system says about them.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use worldcompute_durable::{self as durable, AtomicFile, Mode};
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::Cid;

/// The directories of a store.
pub struct Layout {
    objects: PathBuf,
    quarantine: PathBuf,
    drafts: PathBuf,
    next_draft: AtomicU64,
}

impl Layout {
    /// Makes what is missing and removes the drafts of writers that died.
    pub fn create(root: &Path) -> Result<Self> {
        let layout = Self {
            objects: root.join("objects"),
            quarantine: root.join("quarantine"),
            drafts: root.join("drafts"),
            next_draft: AtomicU64::new(0),
        };
        for dir in [root, &layout.objects, &layout.quarantine, &layout.drafts] {
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

    /// Bytes of everything kept, the quarantine included.
    pub fn used(&self) -> Result<u64> {
        let mut used = size_of_files(&self.quarantine)?;
        for shard in entries(&self.objects)? {
            used += size_of_files(&shard)?;
        }
        Ok(used)
    }
}

/// The file's size in bytes, or `None` where there is no such file.
pub fn size(path: &Path) -> Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
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
