//! Where objects lie, and what the file system says about them.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use worldcompute_durable as durable;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::Cid;

/// Identity and version of a file: equal stamps mean that nobody replaced or rewrote it in between.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    pub size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The directories of a store.
pub struct Layout {
    objects: PathBuf,
    quarantine: PathBuf,
}

impl Layout {
    pub fn create(root: &Path) -> Result<Self> {
        let layout = Self {
            objects: root.join("objects"),
            quarantine: root.join("quarantine"),
        };
        for dir in [root, &layout.objects, &layout.quarantine] {
            durable::private_dir(dir)?;
        }
        Ok(layout)
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

    /// Bytes of everything kept, the quarantine included: what a crash left half-written counts as well.
    pub fn used(&self) -> Result<u64> {
        let mut used = size_of_files(&self.quarantine)?;
        for shard in entries(&self.objects)? {
            used += size_of_files(&shard)?;
        }
        Ok(used)
    }
}

/// The file's stamp, or `None` where there is no such file.
pub fn stamp(path: &Path) -> Result<Option<Stamp>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(Stamp::of(&metadata))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::io(format_args!("stat {}", path.display()), &error)),
    }
}

/// Exactly these bytes, with the stamp of the file they came from.
pub fn read_at(path: &Path, range: &Range<u64>) -> Result<(Stamp, Vec<u8>)> {
    let read = || -> io::Result<_> {
        let file = File::open(path)?;
        let stamp = Stamp::of(&file.metadata()?);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start)?;
        Ok((stamp, bytes))
    };
    read().map_err(|error| Fault::io(format_args!("read {}", path.display()), &error))
}

fn shard(name: &str) -> &str {
    let end = name.len().saturating_sub(1);
    name.get(end.saturating_sub(2)..end).unwrap_or("__")
}

fn size_of_files(dir: &Path) -> Result<u64> {
    let mut size = 0;
    for path in entries(dir)? {
        size += stamp(&path)?.map_or(0, |stamp| stamp.size);
    }
    Ok(size)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> io::Result<_> {
        let paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
        paths.collect()
    };
    list().map_err(|error| Fault::io(format_args!("list {}", dir.display()), &error))
}
