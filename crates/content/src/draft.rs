//! An object on its way into the store.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use worldcompute_durable::AtomicFile;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::{Hasher, Sha256};

use crate::reader::fault_of;
use crate::refusal::check_size;
use crate::room::Reserved;

/// How much of a stream is in memory.
const BUFFER: usize = 64 << 10;

/// Bytes that are hashed and counted while they go to the disk, and have no name yet. Dropped, it leaves nothing.
pub struct Draft {
    file: AtomicFile<'static>,
    hasher: Hasher,
    reserved: Reserved,
    length: u64,
    max: u64,
}

impl Draft {
    /// A draft of at most `max` bytes.
    pub fn new(file: AtomicFile<'static>, reserved: Reserved, max: u64) -> Self {
        Self {
            file,
            hasher: Hasher::new(),
            reserved,
            length: 0,
            max,
        }
    }

    /// Takes in all that `bytes` gives.
    pub fn fill(&mut self, mut bytes: impl Read) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match bytes.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => self.append(buffer.get(..read).unwrap_or_default())?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(fault_of("read what is to be kept", &error)),
            }
        }
    }

    /// Takes in the next bytes, within the caps.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let length = self.length.saturating_add(bytes.len() as u64);
        check_size(length, self.max)?;
        self.reserved.add(bytes.len() as u64)?;
        self.length = length;
        self.hasher.update(bytes);
        let written = self.file.write_all(bytes);
        written.map_err(|error| Fault::io("write an object", &error))
    }

    /// The digest of the bytes so far.
    pub fn digest(&self) -> Sha256 {
        self.hasher.clone().finish()
    }

    /// Gives the bytes their place, durably; from here on they count for good.
    pub fn commit_as(self, object: &Path) -> Result<()> {
        self.file.commit_as(object)?;
        self.reserved.keep();
        Ok(())
    }
}
