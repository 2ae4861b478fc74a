//! An object read as a stream.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use worldcompute_fault::{Fault, Result};

use crate::needed::Held;
use crate::pieces::{PIECE, Pieces};
use crate::refusal::{cannot_read, mismatch};

/// The bytes of an object, in any order and in constant memory.
///
/// Every byte that it gives was verified in memory, after it was read from the disk: a file that is changed under an open
/// reader makes the next read of the changed part fail, with an [`io::Error`] that holds a [`Fault`] of the code
/// `verification_failed`, and sets the object aside. The object
/// is held as long as the reader lives.
pub struct Reader {
    held: Held,
    file: File,
    pieces: Arc<Pieces>,
    position: u64,
    /// The piece at hand, if any.
    index: Option<usize>,
    piece: Vec<u8>,
}

impl Reader {
    pub(crate) const fn new(held: Held, file: File, pieces: Arc<Pieces>) -> Self {
        Self {
            held,
            file,
            pieces,
            position: 0,
            index: None,
            piece: Vec::new(),
        }
    }

    /// The object's size in bytes.
    pub fn length(&self) -> u64 {
        self.pieces.length()
    }

    /// What the piece at the position has left; nothing at the end of the object.
    fn rest(&mut self) -> Result<&[u8]> {
        let position = self.position.min(self.pieces.length());
        let index = (position / PIECE as u64) as usize;
        if self.index != Some(index) {
            self.load(index)?;
        }
        let start = (position % PIECE as u64) as usize;
        Ok(self.piece.get(start..).unwrap_or_default())
    }

    fn load(&mut self, index: usize) -> Result<()> {
        self.index = None;
        let cid = self.held.cid();
        let read = self.pieces.read(&self.file, index, &mut self.piece);
        if !read.map_err(|error| cannot_read(cid, &error))? {
            // Set aside, unless another writer has repaired it meanwhile: the file at hand is of no use either way.
            self.held.store().examine_alone(cid)?;
            return Err(mismatch(cid, "the file on disk"));
        }
        self.index = Some(index);
        Ok(())
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.rest().map_err(io::Error::other)?.read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.length().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// The fault that a stream of this house wraps into its error, else what the disk says.
pub fn fault_of(action: impl std::fmt::Display, error: &io::Error) -> Fault {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Fault>());
    inner.cloned().unwrap_or_else(|| Fault::io(action, error))
}
