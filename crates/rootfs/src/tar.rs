//! Archives as layers are: ustar, pax (POSIX.1-2001) and GNU, with their sparse files, read in one pass.
//!
//! Not the `tar` crate: that one holds extended headers of any length in memory, gives holes of sparse files as zeros,
//! knows no sparse files of pax, and no time before 1970 or with a fraction.

mod header;
mod pax;
mod sparse;

use worldcompute_fault::Result;

use crate::limits::{MAX_EXTENDED_HEADER, MAX_FILE};
use crate::meta::{Meta, Time};
use crate::refusal::{refuse, shown};
use crate::unpack::{Unpacked, cut};
use header::{Header, Kind};
use pax::Pax;
pub(crate) use sparse::Piece;

/// Bytes of a header, and what contents are padded to.
const BLOCK: usize = 512;

/// One entry, as its headers tell it. What is stored of a file follows; see [`Archive::content`].
pub(crate) struct Entry {
    pub path: Vec<u8>,
    pub meta: Meta,
    pub body: Body,
}

pub(crate) enum Body {
    Directory,
    HardLink(Vec<u8>),
    Leaf(Leaf),
}

/// What is neither a directory nor another name of something.
pub(crate) enum Leaf {
    /// Of `size` bytes, of which the pieces are stored one after the other, the rest being holes.
    File {
        size: u64,
        pieces: Vec<Piece>,
    },
    Symlink(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// The entries of a layer.
pub(crate) struct Archive<'a> {
    input: Unpacked<'a>,
    /// Stored bytes of the last entry that nobody asked for, and what they are padded with.
    left: u64,
    padding: u64,
    /// Bytes of the extended headers before the next entry.
    extended: u64,
}

impl<'a> Archive<'a> {
    pub(crate) const fn new(input: Unpacked<'a>) -> Self {
        Self {
            input,
            left: 0,
            padding: 0,
            extended: 0,
        }
    }

    /// The next entry; `None` at the mark of the end. An archive without that mark is cut.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let mut extended = Pax::default();
        self.extended = 0;
        loop {
            self.skip_content()?;
            let mut block = [0; BLOCK];
            if !self.input.read_block(&mut block)? {
                return Err(cut());
            }
            if block.iter().all(|byte| *byte == 0) {
                return if extended.is_empty() {
                    Ok(None)
                } else {
                    Err(cut())
                };
            }
            let header = Header::parse(&block)?;
            match header.kind {
                Kind::Extended => extended.read(&self.extension(&header)?)?,
                Kind::Global => Pax::check_global(&self.extension(&header)?)?,
                Kind::LongName => extended.path = Some(text(self.extension(&header)?)),
                Kind::LongLink => extended.link = Some(text(self.extension(&header)?)),
                // A name for the archive itself.
                Kind::Label => self.stored(header.size)?,
                _ => return self.entry(&block, header, extended).map(Some),
            }
        }
    }

    /// Hands what is stored of the last file to `take`, piece by piece.
    pub(crate) fn content(&mut self, take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let len = std::mem::take(&mut self.left);
        self.input.pass(len, take)
    }

    /// The unpacked bytes behind the entries.
    pub(crate) fn into_input(self) -> Unpacked<'a> {
        self.input
    }

    fn skip_content(&mut self) -> Result<()> {
        let len = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        self.input.pass(len, |_| Ok(()))
    }

    /// `size` bytes are stored next.
    fn stored(&mut self, size: u64) -> Result<()> {
        if size > MAX_FILE {
            let message = format!("stores {size} bytes in one entry: {MAX_FILE} is the most");
            return Err(refuse("entry_too_large", message, "use a smaller file"));
        }
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        Ok(())
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        self.extended = self.extended.saturating_add(header.size);
        if self.extended > MAX_EXTENDED_HEADER {
            let message = format!(
                "has extended headers of {} bytes before one entry: {MAX_EXTENDED_HEADER} is the most",
                self.extended
            );
            let hint = "shorten names and extended attributes";
            return Err(refuse("extended_header_too_large", message, hint));
        }
        self.stored(header.size)?;
        let mut bytes = Vec::new();
        self.content(|piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn entry(&mut self, block: &[u8; BLOCK], header: Header, extended: Pax) -> Result<Entry> {
        let named = extended.sparse.name.clone().or(extended.path.clone());
        let path = named.unwrap_or(header.path);
        let link = extended.link.clone().unwrap_or(header.link);
        let size = extended.size.unwrap_or(header.size);
        let body = match header.kind {
            Kind::File if path.ends_with(b"/") && size == 0 => Body::Directory,
            Kind::File | Kind::GnuSparse => {
                self.stored(size)?;
                self.file(block, header.kind, &extended)?
            }
            // What a size means for these, archivers do not agree on; nothing is stored.
            Kind::Directory => Body::Directory,
            Kind::HardLink => Body::HardLink(link),
            Kind::Symlink => Body::Leaf(Leaf::Symlink(link)),
            Kind::Char => Body::Leaf(Leaf::Char(header.device.0, header.device.1)),
            Kind::Block => Body::Leaf(Leaf::Block(header.device.0, header.device.1)),
            Kind::Fifo => Body::Leaf(Leaf::Fifo),
            _ => return Err(unsupported(block, &path)),
        };
        let meta = Meta {
            mode: header.mode,
            uid: extended.uid.unwrap_or(header.uid),
            gid: extended.gid.unwrap_or(header.gid),
            mtime: extended.mtime.unwrap_or(Time {
                secs: header.mtime,
                nanos: 0,
            }),
            xattrs: extended.xattrs,
        };
        Ok(Entry { path, meta, body })
    }

    fn file(&mut self, block: &[u8; BLOCK], kind: Kind, extended: &Pax) -> Result<Body> {
        let map = if kind == Kind::GnuSparse {
            Some(sparse::old_gnu(block, &mut self.input)?)
        } else {
            let (map, read) = sparse::of_pax(&extended.sparse, &mut self.input, self.left)?;
            self.left -= read;
            map
        };
        let stored = self.left;
        let (size, pieces) = match map {
            Some(map) => map.checked(stored)?,
            None => (stored, sparse::whole(stored)),
        };
        Ok(Body::Leaf(Leaf::File { size, pieces }))
    }
}

/// What GNU's long names hold: text up to the first NUL.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    bytes
}

/// Something in a header that is not as it must be.
pub(crate) fn invalid(what: impl std::fmt::Display) -> worldcompute_fault::Fault {
    refuse(
        "invalid_archive",
        format!("is no valid archive: {what}"),
        "a layer is a tar archive, packed with gzip or zstd or not at all",
    )
}

fn unsupported(block: &[u8; BLOCK], path: &[u8]) -> worldcompute_fault::Fault {
    let kind = block.get(156).copied().unwrap_or_default();
    let message = format!(
        "{}: an entry of type {:?} has no place in a layer",
        shown(path),
        char::from(kind)
    );
    let hint = "layers hold files, directories, links, nodes and pipes";
    refuse("unsupported_entry", message, hint)
}
