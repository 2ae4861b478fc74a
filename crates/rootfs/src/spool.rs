//! Contents of files between the layers and the image: on disk, in a file without a name.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use worldcompute_durable::scratch_file_in;
use worldcompute_fault::{Fault, Result};

const BUFFER: usize = 1 << 20;

/// A file that only grows, and goes with the process.
pub(crate) struct Spool {
    file: File,
    buffer: Vec<u8>,
    len: u64,
}

impl Spool {
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        Ok(Self {
            file: scratch_file_in(dir)?,
            buffer: Vec::with_capacity(BUFFER),
            len: 0,
        })
    }

    /// Where the next byte goes.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() > BUFFER {
            self.file.write_all(bytes).map_err(|e| cannot("keep", &e))?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// After this everything can be read.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let flushed = self.file.write_all(&self.buffer);
        self.buffer.clear();
        flushed.map_err(|error| cannot("keep", &error))
    }

    pub(crate) fn read(&self, at: u64, out: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(out, at);
        read.map_err(|error| cannot("read", &error))
    }
}

fn cannot(what: &str, error: &io::Error) -> Fault {
    Fault::io(
        format_args!("{what} the contents of files on disk meanwhile"),
        error,
    )
}
