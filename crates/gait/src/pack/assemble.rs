//! The entries of a pack under construction, each hashed while it is made.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_proof::{Hasher, Sha256, canonical_json};

use crate::archive::{self, Deflated, Deflating};
use crate::artefact;

/// An entry that is ready to be written.
pub(crate) struct Part {
    pub(crate) path: String,
    pub(crate) sha256: Sha256,
    pub(crate) size: u64,
    content: Content,
}

enum Content {
    /// Small enough to hold.
    Bytes(Vec<u8>),
    /// Of any size, on disk.
    Packed(Deflated),
}

/// What is kept in memory: a pack may have thousands of small entries, and few large ones.
const HELD: usize = 16 << 10;

impl Part {
    /// An entry with this content.
    pub(crate) fn bytes(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self {
            path: path.into(),
            sha256: Sha256::of(&bytes),
            size: bytes.len() as u64,
            content: Content::Bytes(bytes),
        }
    }

    /// An entry with the canonical JSON of `value`.
    pub(crate) fn json<T: Serialize + ?Sized>(path: impl Into<String>, value: &T) -> Result<Self> {
        let (path, bytes) = (path.into(), canonical_json(value)?);
        if bytes.len() <= HELD {
            return Ok(Self::bytes(path, bytes));
        }
        let action = format!("write {path}");
        let write = |out: &mut dyn Write| {
            out.write_all(&bytes)
                .map_err(|error| archive::fault_of(&action, error))
        };
        Self::streamed(path.clone(), write).map(|((), part)| part)
    }

    /// An entry with the content that `fill` writes, in constant memory.
    pub(crate) fn streamed<T>(
        path: impl Into<String>,
        fill: impl FnOnce(&mut dyn Write) -> Result<T>,
    ) -> Result<(T, Self)> {
        let mut tee = Tee {
            out: Deflating::begin()?,
            hasher: Hasher::new(),
            size: 0,
        };
        let filled = fill(&mut tee)?;
        let part = Self {
            path: path.into(),
            sha256: tee.hasher.finish(),
            size: tee.size,
            content: Content::Packed(tee.out.finish()?),
        };
        Ok((filled, part))
    }
}

/// Writes the archive of these parts to `path`, mode 0600, all or nothing; missing directories are made.
pub(crate) fn write_parts(path: &Path, mut parts: Vec<Part>) -> Result<()> {
    parts.sort_by(|a, b| a.path.cmp(&b.path));
    artefact::prepare(path)?;
    archive::write(path, |writer| {
        for part in parts {
            match part.content {
                Content::Bytes(bytes) => writer.add(&part.path, bytes.as_slice()).map(drop)?,
                Content::Packed(packed) => writer.add_deflated(&part.path, packed)?,
            }
        }
        Ok(())
    })
}

/// Writes, hashes and counts.
struct Tee {
    out: Deflating,
    hasher: Hasher,
    size: u64,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..taken).unwrap_or_default());
        self.size = self.size.saturating_add(taken as u64);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
