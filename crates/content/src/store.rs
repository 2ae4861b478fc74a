//! The store: put, get, has, size, streams and ranges.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Cid, Codec};

use crate::disk::{self, Layout};
use crate::draft::Draft;
use crate::needed::{Held, Needed};
use crate::pieces::{Pieces, Remembered};
use crate::pin::Pins;
use crate::reader::{Reader, fault_of};
use crate::refusal::{cannot_read, check_size, mismatch, missing, too_large_for_memory, too_long};
use crate::room::{Reserved, lock};

/// Longest range of one [`ContentStore::read_range`], in bytes.
pub const MAX_RANGE: u64 = 4 << 20;
/// Largest object that [`ContentStore::get`] takes into memory, in bytes.
pub const MAX_WHOLE: u64 = 256 << 20;

/// Writers of different objects rarely meet on one of these locks, writers of the same object always do.
const STRIPES: usize = 64;

/// How much the store takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest object. What is streamed takes no more memory for being large.
    pub max_object: u64,
    /// Largest sum of all objects, those in quarantine included.
    pub max_total: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_object: 4 << 30,
            max_total: 8 << 30,
        }
    }
}

/// A directory of objects named by the CID of their bytes. Clones share it.
///
/// One process owns a directory, and has it locked: the total is counted from the directory when it is opened, and by its
/// own writes from then on; what is held is known to nobody else. It stays open until the last clone, reader and hold is
/// gone.
#[derive(Clone)]
pub struct ContentStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub layout: Layout,
    pub limits: Limits,
    pub used: Mutex<u64>,
    stripes: [Mutex<()>; STRIPES],
    pieces: Remembered,
    pub pins: Mutex<Pins>,
    /// Taken while a file is removed or set aside, so that nobody comes to need it at that moment.
    pub needed: Mutex<Needed>,
    pub collecting: Mutex<()>,
    pub collects: AtomicBool,
}

impl ContentStore {
    /// Opens the store in `dir`, which is made with mode 0700 where it is missing.
    ///
    /// # Errors
    /// `state_contention` while another process has it open; `insecure_permissions` for a directory that others may read;
    /// `pin_corrupt`, naming the file; what the disk says.
    pub fn open(dir: impl AsRef<Path>, limits: Limits) -> Result<Self> {
        let layout = Layout::create(dir.as_ref())?;
        let pins = Pins::load(&layout)?;
        let inner = Inner {
            used: Mutex::new(layout.used()?),
            needed: Mutex::new(pins.needed()),
            pins: Mutex::new(pins),
            collecting: Mutex::default(),
            collects: AtomicBool::new(false),
            layout,
            limits,
            stripes: [const { Mutex::new(()) }; STRIPES],
            pieces: Remembered::default(),
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

    /// Keeps `bytes` under a name somebody else gave them, of any codec. False where the object was there already.
    ///
    /// # Errors
    /// `verification_failed` for bytes of another name; else as [`Self::put`].
    pub fn put_as(&self, cid: &Cid, bytes: &[u8]) -> Result<bool> {
        check_size(bytes.len() as u64, self.inner.limits.max_object)?;
        if !cid.matches(bytes) {
            return Err(mismatch(cid, "the bytes given"));
        }
        let _held = self.hold(cid);
        let _writing = self.stripe(cid);
        if self.is_whole(cid)? {
            return Ok(false);
        }
        let mut draft = self.draft()?;
        draft.append(bytes)?;
        self.place(cid, draft)?;
        Ok(true)
    }

    /// Keeps all that `bytes` gives under its raw CID and returns that, in constant memory.
    ///
    /// The bytes are hashed and counted against the caps while they are written, also where they turn out to be there
    /// already. Nobody sees them before all are there, and after an error or a crash nothing of them stays.
    ///
    /// # Errors
    /// What the reader says: a [`Fault`] inside of its error as it is, else as [`Fault::io`]; else as [`Self::put`].
    pub fn put_reader(&self, bytes: impl Read) -> Result<Cid> {
        Ok(*self.put_reader_held(bytes)?.cid())
    }

    /// As [`Self::put_reader`], and the object is held from the moment that it is there. Where the name is known before,
    /// [`Self::hold`] it and then put.
    ///
    /// # Errors
    /// As [`Self::put_reader`].
    pub fn put_reader_held(&self, bytes: impl Read) -> Result<Held> {
        let mut draft = self.draft()?;
        draft.fill(bytes)?;
        self.keep_raw(draft)
    }

    /// As [`Self::put_reader`], under a name somebody else gave the bytes. If that object is there already, whole, nothing
    /// is read. False where it was there, or another writer was quicker.
    ///
    /// # Errors
    /// `verification_failed` for bytes of another name, of which nothing stays; else as [`Self::put_reader`].
    pub fn put_reader_as(&self, cid: &Cid, bytes: impl Read) -> Result<bool> {
        let _held = self.hold(cid);
        if self.is_there_and_whole(cid)? {
            return Ok(false);
        }
        let mut draft = self.draft()?;
        draft.fill(bytes)?;
        if draft.digest() != cid.digest() {
            return Err(mismatch(cid, "the stream given"));
        }
        self.settle(cid, draft)
    }

    /// The object's bytes, verified.
    ///
    /// # Errors
    /// `object_missing`; `object_too_large_for_memory` past [`MAX_WHOLE`]; `verification_failed`, naming the CID, for an
    /// object that was corrupt, which is then in quarantine; what the disk says.
    pub fn get(&self, cid: &Cid) -> Result<Vec<u8>> {
        let _held = self.hold(cid);
        if self.size(cid)? > MAX_WHOLE {
            return Err(too_large_for_memory(cid));
        }
        match self.read_whole(cid) {
            Err(fault) if fault.category() == Category::VerificationFailed => {
                // A writer may be repairing it at this moment: look again where nobody writes.
                let _writing = self.stripe(cid);
                let read = self.read_whole(cid);
                self.quarantine_if_corrupt(cid, read)
            }
            result => result,
        }
    }

    /// The object as a stream that can seek, verified: all of it when this is first called for it, which reads the whole
    /// file, and again each piece when it is read. See [`Reader`].
    ///
    /// # Errors
    /// As [`Self::get`], for objects of any size.
    pub fn reader(&self, cid: &Cid) -> Result<Reader> {
        let held = self.hold(cid);
        let pieces = match self.inner.pieces.get(cid) {
            Some(pieces) => pieces,
            None => match self.examine(cid) {
                Err(fault) if fault.category() == Category::VerificationFailed => {
                    self.examine_alone(cid)?
                }
                examined => examined?,
            },
        };
        let file = self.open_object(cid)?;
        Ok(Reader::new(held, file, pieces))
    }

    /// Whether an object of this name is there. It is verified only when it is read.
    ///
    /// # Errors
    /// What the disk says.
    pub fn has(&self, cid: &Cid) -> Result<bool> {
        Ok(disk::size(&self.inner.layout.object(cid))?.is_some())
    }

    /// The object's size in bytes.
    ///
    /// # Errors
    /// `object_missing`; what the disk says.
    pub fn size(&self, cid: &Cid) -> Result<u64> {
        disk::size(&self.inner.layout.object(cid))?.ok_or_else(|| missing(cid))
    }

    /// Bytes `offset..offset + length` of the object, fewer where it ends before; verified as by [`Self::reader`].
    ///
    /// # Errors
    /// `range_too_long` past [`MAX_RANGE`]; `range_out_of_bounds` for an offset past the end; else as
    /// [`Self::get`], for objects of any size.
    pub fn read_range(&self, cid: &Cid, offset: u64, length: u64) -> Result<Vec<u8>> {
        if length > MAX_RANGE {
            return Err(too_long(cid, length));
        }
        range_of(cid, &mut self.reader(cid)?, offset, length)
    }

    /// Bytes kept at the moment, those in quarantine included.
    pub fn used(&self) -> u64 {
        *lock(&self.inner.used)
    }

    pub(crate) fn draft(&self) -> Result<Draft> {
        let reserved = Reserved::none(self.clone());
        let file = self.inner.layout.draft()?;
        Ok(Draft::new(file, reserved, self.inner.limits.max_object))
    }

    /// Makes the draft the object of its raw CID, held from the moment that it is there.
    pub(crate) fn keep_raw(&self, draft: Draft) -> Result<Held> {
        let held = self.hold(&Cid::new(Codec::Raw, draft.digest()));
        self.settle(held.cid(), draft)?;
        Ok(held)
    }

    /// Makes the draft, whose digest is that of `cid`, the object of this name; false where another writer was quicker.
    pub(crate) fn settle(&self, cid: &Cid, draft: Draft) -> Result<bool> {
        let _writing = self.stripe(cid);
        if self.is_whole(cid)? {
            return Ok(false);
        }
        self.place(cid, draft)?;
        Ok(true)
    }

    fn place(&self, cid: &Cid, draft: Draft) -> Result<()> {
        let path = self.inner.layout.object(cid);
        self.inner.layout.prepare(&path)?;
        draft.commit_as(&path)
    }

    pub(crate) fn is_there_and_whole(&self, cid: &Cid) -> Result<bool> {
        let _writing = self.stripe(cid);
        self.is_whole(cid)
    }

    /// Whether a whole object is there; a corrupt one is set aside. The caller has the stripe.
    fn is_whole(&self, cid: &Cid) -> Result<bool> {
        if !self.has(cid)? {
            return Ok(false);
        }
        let examined = self.examine(cid);
        match self.quarantine_if_corrupt(cid, examined) {
            Ok(_) => Ok(true),
            Err(fault) if fault.category() == Category::VerificationFailed => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// [`Self::examine`] where nobody writes; what is corrupt now is set aside.
    pub(crate) fn examine_alone(&self, cid: &Cid) -> Result<Arc<Pieces>> {
        let _writing = self.stripe(cid);
        let examined = self.examine(cid);
        self.quarantine_if_corrupt(cid, examined)
    }

    /// Reads all of the object's file to verify it, in constant memory.
    fn examine(&self, cid: &Cid) -> Result<Arc<Pieces>> {
        let file = self.open_object(cid)?;
        let pieces = Pieces::of(cid, file, self.inner.limits.max_object)
            .map_err(|error| cannot_read(cid, &error))?;
        let pieces = Arc::new(pieces.ok_or_else(|| mismatch(cid, "the file on disk"))?);
        self.inner.pieces.add(cid, &pieces);
        Ok(pieces)
    }

    fn open_object(&self, cid: &Cid) -> Result<File> {
        let path = self.inner.layout.object(cid);
        let file = disk::open(&path)?.ok_or_else(|| missing(cid))?;
        disk::note_use(&file);
        Ok(file)
    }

    fn read_whole(&self, cid: &Cid) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.size(cid)?.min(MAX_WHOLE) as usize + 1);
        let file = self.open_object(cid)?;
        let read = file.take(MAX_WHOLE + 1).read_to_end(&mut bytes);
        read.map_err(|error| cannot_read(cid, &error))?;
        match bytes.len() as u64 <= MAX_WHOLE && cid.matches(&bytes) {
            true => Ok(bytes),
            false => Err(mismatch(cid, "the file on disk")),
        }
    }

    /// At most one corrupt copy of an object is kept. The caller has the stripe.
    fn quarantine_if_corrupt<T>(&self, cid: &Cid, read: Result<T>) -> Result<T> {
        let corrupt = |fault: &Fault| fault.category() == Category::VerificationFailed;
        if !read.as_ref().is_err_and(corrupt) {
            return read;
        }
        let path = self.inner.layout.object(cid);
        let aside = self.inner.layout.quarantined(cid);
        let _unseen = lock(&self.inner.needed);
        let replaced = disk::size(&aside)?.unwrap_or(0);
        fs::rename(&path, &aside)
            .map_err(|error| Fault::io(format_args!("set {} aside", path.display()), &error))?;
        let mut used = lock(&self.inner.used);
        *used = used.saturating_sub(replaced);
        read
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

fn range_of(cid: &Cid, reader: &mut Reader, offset: u64, length: u64) -> Result<Vec<u8>> {
    let size = reader.length();
    if offset > size {
        return Err(Fault::new(
            Category::InvalidInput,
            "range_out_of_bounds",
            format!("{cid} has {size} bytes, asked for from {offset}"),
        ));
    }
    let mut bytes = vec![0; length.min(size - offset) as usize];
    let read = reader
        .seek(SeekFrom::Start(offset))
        .and_then(|_| reader.read_exact(&mut bytes));
    read.map_err(|error| fault_of(format_args!("read {cid}"), &error))?;
    Ok(bytes)
}
