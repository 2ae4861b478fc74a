//! The store: put, get, has, size, ranges.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use worldcompute_durable::{self as durable, Mode};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Cid;

use crate::disk::{self, Layout, Stamp};

/// Longest range of one [`ContentStore::read_range`], in bytes.
pub const MAX_RANGE: u64 = 4 << 20;

/// How many objects' stamps are remembered as verified before the memory is dropped.
const MAX_VERIFIED: usize = 4096;
/// Writers of different objects rarely meet on one of these locks, writers of the same object always do.
const STRIPES: usize = 64;

/// How much the store takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest object.
    pub max_object: u64,
    /// Largest sum of all objects, those in quarantine included.
    pub max_total: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_object: 256 << 20,
            max_total: 4 << 30,
        }
    }
}

/// A directory of objects named by the CID of their bytes. Clones share it.
///
/// One process owns a directory: the total is counted from the directory when it is opened, and by its own writes
/// from then on.
#[derive(Clone)]
pub struct ContentStore {
    inner: Arc<Inner>,
}

struct Inner {
    layout: Layout,
    limits: Limits,
    used: Mutex<u64>,
    stripes: [Mutex<()>; STRIPES],
    verified: Mutex<HashMap<Cid, Stamp>>,
}

impl ContentStore {
    /// Opens the store in `dir`, which is made with mode 0700 where it is missing.
    ///
    /// # Errors
    /// What the disk says, and `insecure_permissions` for a directory that others may read.
    pub fn open(dir: impl AsRef<Path>, limits: Limits) -> Result<Self> {
        let layout = Layout::create(dir.as_ref())?;
        let inner = Inner {
            used: Mutex::new(layout.used()?),
            layout,
            limits,
            stripes: [const { Mutex::new(()) }; STRIPES],
            verified: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Keeps `bytes` under their raw CID and returns it. An object that is there already is left as it is if it is
    /// whole, and repaired if it is not.
    ///
    /// # Errors
    /// `object_too_large` and `content_store_full` at the caps, which leave nothing behind; what the disk says.
    pub fn put(&self, bytes: &[u8]) -> Result<Cid> {
        let cid = Cid::raw(bytes);
        self.put_as(&cid, bytes)?;
        Ok(cid)
    }

    /// Keeps `bytes` under a name somebody else gave them, of any codec.
    ///
    /// # Errors
    /// `verification_failed` for bytes of another name; else as [`Self::put`].
    pub fn put_as(&self, cid: &Cid, bytes: &[u8]) -> Result<()> {
        self.check_size(bytes)?;
        if !cid.matches(bytes) {
            return Err(mismatch(cid, "the bytes given"));
        }
        let _writing = self.stripe(cid);
        let path = self.inner.layout.object(cid);
        if self.whole(cid, &path)? {
            return Ok(());
        }
        self.inner.layout.prepare(&path)?;
        let reserved = self.reserve(bytes.len() as u64)?;
        durable::write_atomic(&path, bytes, Mode::Private)?;
        reserved.keep();
        Ok(())
    }

    /// The object's bytes, verified.
    ///
    /// # Errors
    /// `object_missing`; `verification_failed`, naming the CID, for an object that was corrupt, which is then in
    /// quarantine; what the disk says.
    pub fn get(&self, cid: &Cid) -> Result<Vec<u8>> {
        let path = self.inner.layout.object(cid);
        if disk::stamp(&path)?.is_none() {
            return Err(missing(cid));
        }
        match self.read_verified(cid, &path) {
            Err(fault) if fault.category() == Category::VerificationFailed => {
                // A writer may be repairing it at this moment: look again where nobody writes.
                let _writing = self.stripe(cid);
                self.read_or_quarantine(cid, &path)
            }
            result => result,
        }
    }

    /// Whether an object of this name is there. It is verified only when it is read.
    ///
    /// # Errors
    /// What the disk says.
    pub fn has(&self, cid: &Cid) -> Result<bool> {
        Ok(disk::stamp(&self.inner.layout.object(cid))?.is_some())
    }

    /// The object's size in bytes.
    ///
    /// # Errors
    /// `object_missing`; what the disk says.
    pub fn size(&self, cid: &Cid) -> Result<u64> {
        let stamp = disk::stamp(&self.inner.layout.object(cid))?;
        Ok(stamp.ok_or_else(|| missing(cid))?.size)
    }

    /// Bytes `offset..offset + length` of the object, fewer where it ends before.
    ///
    /// The whole object is verified on its first range, and again whenever its file has changed since.
    ///
    /// # Errors
    /// `range_too_long` past [`MAX_RANGE`]; `range_out_of_bounds` for an offset past the end; else as
    /// [`Self::get`].
    pub fn read_range(&self, cid: &Cid, offset: u64, length: u64) -> Result<Vec<u8>> {
        if length > MAX_RANGE {
            return Err(too_long(cid, length));
        }
        let path = self.inner.layout.object(cid);
        let stamp = disk::stamp(&path)?.ok_or_else(|| missing(cid))?;
        let range = clip(cid, offset, length, stamp.size)?;
        if self.is_verified(cid, stamp) {
            let (read_from, bytes) = disk::read_at(&path, &range)?;
            if read_from == stamp {
                return Ok(bytes);
            }
        }
        let whole = self.get(cid)?;
        self.remember(cid, &path, stamp)?;
        let range = clip(cid, offset, length, whole.len() as u64)?;
        let bytes = whole.get(range.start as usize..range.end as usize);
        Ok(bytes.unwrap_or_default().to_vec())
    }

    /// Bytes kept at the moment, those in quarantine included.
    pub fn used(&self) -> u64 {
        *lock(&self.inner.used)
    }

    fn check_size(&self, bytes: &[u8]) -> Result<()> {
        let max = self.inner.limits.max_object;
        if bytes.len() as u64 <= max {
            return Ok(());
        }
        let message = format!("an object of {} bytes: {max} is the most", bytes.len());
        Err(Fault::new(
            Category::InvalidInput,
            "object_too_large",
            message,
        ))
    }

    /// Whether a whole object is there; a corrupt one is set aside.
    fn whole(&self, cid: &Cid, path: &Path) -> Result<bool> {
        if disk::stamp(path)?.is_none() {
            return Ok(false);
        }
        match self.read_or_quarantine(cid, path) {
            Ok(_) => Ok(true),
            Err(fault) if fault.category() == Category::VerificationFailed => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    fn read_verified(&self, cid: &Cid, path: &Path) -> Result<Vec<u8>> {
        let bytes = match durable::read_bounded(path, self.inner.limits.max_object) {
            Err(fault) if fault.code() == "file_too_large" => {
                return Err(mismatch(cid, "the file on disk").caused_by(fault));
            }
            // Found corrupt and set aside by another reader meanwhile.
            Err(_) if disk::stamp(path)?.is_none() => return Err(missing(cid)),
            read => read?,
        };
        if cid.matches(&bytes) {
            return Ok(bytes);
        }
        Err(mismatch(cid, "the file on disk"))
    }

    fn read_or_quarantine(&self, cid: &Cid, path: &Path) -> Result<Vec<u8>> {
        let read = self.read_verified(cid, path);
        if let Err(fault) = &read
            && fault.category() == Category::VerificationFailed
        {
            self.set_aside(cid, path)?;
        }
        read
    }

    /// At most one corrupt copy of an object is kept.
    fn set_aside(&self, cid: &Cid, path: &Path) -> Result<()> {
        let aside = self.inner.layout.quarantined(cid);
        let replaced = disk::stamp(&aside)?.map_or(0, |stamp| stamp.size);
        fs::rename(path, &aside)
            .map_err(|error| Fault::io(format_args!("set {} aside", path.display()), &error))?;
        let mut used = lock(&self.inner.used);
        *used = used.saturating_sub(replaced);
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> Result<Reserved<'_>> {
        let max = self.inner.limits.max_total;
        let mut used = lock(&self.inner.used);
        let after = used.saturating_add(bytes);
        if after > max {
            let message = format!("{bytes} bytes more than the {used} kept: {max} is the most");
            return Err(
                Fault::new(Category::IoFailure, "content_store_full", message)
                    .hint("raise the content store's limit or remove what is no longer needed"),
            );
        }
        *used = after;
        Ok(Reserved {
            used: &self.inner.used,
            bytes,
        })
    }

    fn is_verified(&self, cid: &Cid, stamp: Stamp) -> bool {
        lock(&self.inner.verified).get(cid) == Some(&stamp)
    }

    /// Remembers that the file with this stamp, which was read whole since, held what its name says.
    fn remember(&self, cid: &Cid, path: &Path, stamp: Stamp) -> Result<()> {
        if disk::stamp(path)? != Some(stamp) {
            return Ok(());
        }
        let mut verified = lock(&self.inner.verified);
        if verified.len() >= MAX_VERIFIED {
            verified.clear();
        }
        verified.insert(*cid, stamp);
        Ok(())
    }

    fn stripe(&self, cid: &Cid) -> MutexGuard<'_, ()> {
        let [first, ..] = &self.inner.stripes;
        let index = cid
            .digest()
            .as_bytes()
            .first()
            .map_or(0, |byte| usize::from(*byte) % STRIPES);
        lock(self.inner.stripes.get(index).unwrap_or(first))
    }
}

/// Bytes counted before they are written, and given back unless the write succeeds.
struct Reserved<'a> {
    used: &'a Mutex<u64>,
    bytes: u64,
}

impl Reserved<'_> {
    fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut used = lock(self.used);
        *used = used.saturating_sub(self.bytes);
    }
}

/// A panic elsewhere cannot leave these values half-changed, so that a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clip(cid: &Cid, offset: u64, length: u64, size: u64) -> Result<Range<u64>> {
    if offset > size {
        return Err(Fault::new(
            Category::InvalidInput,
            "range_out_of_bounds",
            format!("{cid} has {size} bytes, asked for from {offset}"),
        ));
    }
    Ok(offset..offset + length.min(size - offset))
}

fn too_long(cid: &Cid, length: u64) -> Fault {
    Fault::new(
        Category::InvalidInput,
        "range_too_long",
        format!("{length} bytes of {cid} asked for at once, {MAX_RANGE} is the most"),
    )
}

fn missing(cid: &Cid) -> Fault {
    Fault::new(
        Category::DependencyMissing,
        "object_missing",
        format!("no object {cid} in the content store"),
    )
    .hint("fetch it from a peer that has it")
}

fn mismatch(cid: &Cid, what: &str) -> Fault {
    Fault::new(
        Category::VerificationFailed,
        "verification_failed",
        format!("{what} does not match {cid}"),
    )
}
