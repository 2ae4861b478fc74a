//! Writing: the same entries give the same bytes, whatever the time, the machine and the user.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use worldcompute_durable::{AtomicFile, Mode, scratch_file};
use worldcompute_fault::{Category, Fault, Result};

use super::header::{
    Central, Common, DATE, DEFLATED, End, FILE, MADE_BY, STREAMED, Sums, TIME_STAMP, UTF8, VERSION,
};
use super::{error_of, excess, fault_of, name};
use crate::limits::{MAX_ENTRIES, MAX_ENTRY_BYTES, at_most};

/// Packs repeat the same keys over and over: the fastest effort finds those, and every further one costs more time
/// than hashing and writing the bytes together.
const EFFORT: Compression = Compression::fast();

/// Writes the archive that `fill` makes to `path`, mode 0600, all or nothing.
///
/// # Errors
/// Those of `fill` and of [`worldcompute_durable::write_atomic`].
pub fn write<T>(
    path: &Path,
    fill: impl FnOnce(&mut Writer<&mut AtomicFile<'_>>) -> Result<T>,
) -> Result<T> {
    let mut file = AtomicFile::create(path, Mode::Private)?;
    let mut writer = Writer::new(&mut file, path.display().to_string());
    let made = fill(&mut writer)?;
    writer.finish()?;
    file.commit()?;
    Ok(made)
}

/// Writes an archive front to back.
pub struct Writer<W> {
    sink: W,
    label: String,
    directory: Vec<u8>,
    entries: u16,
    last: String,
    /// Bytes written.
    at: u64,
    /// Bytes of all entries, inflated.
    size: u64,
    /// An entry was begun and failed: what follows would not be an archive.
    broken: bool,
}

impl<W: Write> Writer<W> {
    /// An archive without entries; `label` names it in messages.
    pub fn new(sink: W, label: impl Into<String>) -> Self {
        Self {
            sink,
            label: label.into(),
            directory: Vec::new(),
            entries: 0,
            last: String::new(),
            at: 0,
            size: 0,
            broken: false,
        }
    }

    /// Adds an entry with the content that `fill` writes. Entries come in the order of their names.
    ///
    /// # Errors
    /// `archive_limit` past a limit, `archive_order`, those of `fill` and of the disk.
    pub fn entry<T>(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> Result<T>,
    ) -> Result<T> {
        let common = self.begin(name)?;
        let mut deflater = Deflater::new(&mut self.sink);
        let filled = fill(&mut deflater)?;
        let sums = deflater.finish().map(|(_, sums)| sums);
        let sums = sums.map_err(|error| self.fault(error))?;
        self.end(name, common, sums)?;
        Ok(filled)
    }

    /// Adds an entry with this content.
    ///
    /// # Errors
    /// As [`Writer::entry`].
    pub fn add(&mut self, name: &str, mut content: impl Read) -> Result<u64> {
        let action = format!("write {name} to {}", self.label);
        self.entry(name, |out| {
            io::copy(&mut content, out).map_err(|error| fault_of(&action, error))
        })
    }

    /// Adds an entry whose content was deflated before.
    ///
    /// # Errors
    /// As [`Writer::entry`].
    pub fn add_deflated(&mut self, name: &str, mut content: Deflated) -> Result<()> {
        let common = self.begin(name)?;
        content
            .packed
            .rewind()
            .and_then(|()| io::copy(&mut content.packed, &mut self.sink))
            .map_err(|error| self.fault(error))?;
        self.end(name, common, content.sums)
    }

    /// Writes the directory, without which it is no archive.
    ///
    /// # Errors
    /// `archive_limit` past a limit; those of the disk.
    pub fn finish(mut self) -> Result<W> {
        if self.broken {
            let message = format!("{} has an entry that was not finished", self.label);
            return Err(Fault::new(
                Category::InternalFailure,
                "archive_unfinished",
                message,
            ));
        }
        if let Some(excess) = excess(self.size, self.at) {
            return Err(limit(format!("{} {excess}", self.label)));
        }
        let (offset, size) = (self.at, self.directory.len());
        let end = End {
            disk: 0,
            directory_disk: 0,
            entries_here: self.entries,
            entries: self.entries,
            size: narrow(size as u64)?,
            offset: narrow(offset)?,
            comment_len: 0,
        };
        end.write(&mut self.directory);
        self.sink
            .write_all(&self.directory)
            .map_err(|error| self.fault(error))?;
        Ok(self.sink)
    }

    fn begin(&mut self, name: &str) -> Result<Common> {
        if let Some(objection) = name::objection(name) {
            return Err(limit(format!("entry {name:?} {objection}")));
        }
        at_most(
            "entries",
            usize::from(self.entries) + 1,
            MAX_ENTRIES,
            "archive_limit",
        )?;
        if self.entries > 0 && name <= self.last.as_str() {
            let message = format!("entry {name} after {}", self.last);
            return Err(Fault::new(
                Category::InternalFailure,
                "archive_order",
                message,
            ));
        }
        self.broken = true;
        let common = Common::streamed(name);
        let mut head = Vec::new();
        common.write_local(&mut head);
        head.extend(name.as_bytes());
        head.extend(TIME_STAMP);
        self.put(&head)?;
        Ok(common)
    }

    fn end(&mut self, name: &str, common: Common, sums: Sums) -> Result<()> {
        let offset = narrow(self.at - common.head_len())?;
        self.at = self.at.saturating_add(sums.packed.into());
        self.size = self.size.saturating_add(sums.size.into());
        let mut descriptor = Vec::new();
        sums.write_descriptor(&mut descriptor);
        self.put(&descriptor)?;
        let central = Central {
            made_by: MADE_BY,
            common: Common { sums, ..common },
            comment_len: 0,
            disk: 0,
            internal: 0,
            external: FILE,
            offset,
        };
        central.write(&mut self.directory);
        self.directory.extend(name.as_bytes());
        self.directory.extend(TIME_STAMP);
        self.entries += 1;
        name.clone_into(&mut self.last);
        self.broken = false;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.at = self.at.saturating_add(bytes.len() as u64);
        self.sink
            .write_all(bytes)
            .map_err(|error| self.fault(error))
    }

    fn fault(&self, error: io::Error) -> Fault {
        fault_of(&format!("write {}", self.label), error)
    }
}

/// Content deflated into a scratch file, for an entry whose turn has not come yet.
#[derive(Debug)]
pub struct Deflated {
    packed: File,
    sums: Sums,
}

impl Deflated {
    /// Whether there is no content.
    pub const fn is_empty(&self) -> bool {
        self.sums.size == 0
    }
}

/// Content on its way into a [`Deflated`].
pub struct Deflating(Deflater<io::BufWriter<File>>);

impl Deflating {
    /// Starts without content.
    ///
    /// # Errors
    /// Those of making a scratch file.
    pub fn begin() -> Result<Self> {
        Ok(Self(Deflater::new(io::BufWriter::new(scratch_file()?))))
    }

    /// All content is written.
    ///
    /// # Errors
    /// `archive_limit` past the size of an entry; those of the disk.
    pub fn finish(self) -> Result<Deflated> {
        self.0
            .finish()
            .and_then(|(buffer, sums)| Ok((buffer.into_inner()?, sums)))
            .map(|(packed, sums)| Deflated { packed, sums })
            .map_err(|error| fault_of("write a temporary file", error))
    }
}

impl Write for Deflating {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Bytes handed to the deflater at a time, whatever came at a time: what it makes of them may depend on that, and
/// must not depend on who wrote.
const CHUNK: usize = 64 << 10;

/// Deflates what is written to it and counts.
pub(super) struct Deflater<W: Write> {
    encoder: DeflateEncoder<W>,
    /// What is yet to be deflated, less than a chunk.
    held: Vec<u8>,
    crc: crc32fast::Hasher,
}

impl<W: Write> Deflater<W> {
    fn new(sink: W) -> Self {
        Self {
            encoder: DeflateEncoder::new(sink, EFFORT),
            held: Vec::new(),
            crc: crc32fast::Hasher::new(),
        }
    }

    fn finish(mut self) -> io::Result<(W, Sums)> {
        self.deflate_held()?;
        self.encoder.try_finish()?;
        let sums = Sums {
            crc: self.crc.finalize(),
            packed: narrow(self.encoder.total_out()).map_err(error_of)?,
            size: narrow(self.encoder.total_in()).map_err(error_of)?,
        };
        Ok((self.encoder.finish()?, sums))
    }

    fn deflate_held(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        self.deflate(&held)?;
        self.held = held;
        self.held.clear();
        Ok(())
    }

    fn deflate(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.encoder.write_all(bytes)
    }
}

impl<W: Write> Write for Deflater<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let before = self
            .encoder
            .total_in()
            .saturating_add(self.held.len() as u64);
        if before.saturating_add(bytes.len() as u64) > MAX_ENTRY_BYTES {
            return Err(error_of(limit("an archive entry is larger than 100 MiB")));
        }
        if let (true, Some(chunk)) = (self.held.is_empty(), bytes.get(..CHUNK)) {
            self.deflate(chunk)?;
            return Ok(CHUNK);
        }
        let room = CHUNK.saturating_sub(self.held.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.held.extend_from_slice(taken);
        if self.held.len() == CHUNK {
            self.deflate_held()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // A flush inside of a deflate stream would cost bytes; the end of the entry is the moment that counts.
        Ok(())
    }
}

impl Common {
    fn streamed(name: &str) -> Self {
        let utf8 = if name.is_ascii() { 0 } else { UTF8 };
        Self {
            version: VERSION,
            flags: STREAMED | utf8,
            method: DEFLATED,
            time: 0,
            date: DATE,
            sums: Sums::default(),
            // Bounded by the limit on names.
            name_len: name.len() as u16,
            extra_len: TIME_STAMP.len() as u16,
        }
    }

    fn head_len(&self) -> u64 {
        super::header::LOCAL_LEN + u64::from(self.name_len) + u64::from(self.extra_len)
    }
}

fn narrow(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| limit("an archive is larger than 4 GiB"))
}

fn limit(message: impl Into<String>) -> Fault {
    Fault::new(Category::InvalidInput, "archive_limit", message)
        .hint("split the input into several packs")
}
