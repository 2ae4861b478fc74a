//! Names in blocks, one after the other.
//!
//! There is no index over them. The kernel makes one when a directory outgrows its first block, and never of one that has
//! more: there it looks through all blocks for each name, so the names of a directory are bounded where it is merged.

use super::bytes::Record;
use super::checksum::Checksum;
use super::{BLOCK, BLOCK_LEN};
use crate::tree::Kind;

/// Bytes of an entry before its name.
const HEAD: usize = 8;
/// The entry at the end of each block that has its checksum.
const TAIL: usize = 12;
const TAIL_TYPE: u8 = 0xde;
const DIRECTORY_TYPE: u8 = 2;

/// The type that an entry says its inode has.
pub(super) const fn file_type(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Directory(_) => DIRECTORY_TYPE,
        Kind::Char(..) => 3,
        Kind::Block(..) => 4,
        Kind::Fifo => 5,
        Kind::Symlink(_) => 7,
    }
}

/// How many blocks these names need.
pub(super) fn blocks<'a>(names: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut packer = Packer::default();
    packer.add(0, b".", 0);
    packer.add(0, b"..", 0);
    names.for_each(|name| packer.add(0, name, 0));
    (packer.finish().len() as u64 / BLOCK_LEN) as u32
}

/// The blocks of a directory: itself, the one above, then the names with inode and type.
pub(super) fn content<'a>(
    this: u32,
    above: u32,
    names: impl Iterator<Item = (&'a [u8], u32, u8)>,
    seed: Checksum,
) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.add(this, b".", DIRECTORY_TYPE);
    packer.add(above, b"..", DIRECTORY_TYPE);
    names.for_each(|(name, inode, kind)| packer.add(inode, name, kind));
    let mut bytes = packer.finish();
    for block in bytes.chunks_exact_mut(BLOCK) {
        let sum = seed.and(block.get(..BLOCK - TAIL).unwrap_or_default());
        let mut tail = Record(block);
        tail.u16(BLOCK - TAIL + 4, TAIL as u16);
        tail.u8(BLOCK - TAIL + 7, TAIL_TYPE);
        tail.u32(BLOCK - 4, sum.value());
    }
    bytes
}

/// Entries in the order they come; the last one of a block reaches to its tail.
#[derive(Default)]
struct Packer {
    bytes: Vec<u8>,
    /// Where the last entry begins.
    last: usize,
}

impl Packer {
    fn add(&mut self, inode: u32, name: &[u8], kind: u8) {
        let len = (HEAD + name.len()).next_multiple_of(4);
        let used = self.bytes.len() % BLOCK;
        if !self.bytes.is_empty() && used + len > BLOCK - TAIL {
            self.close();
        }
        self.last = self.bytes.len();
        self.bytes.resize(self.last + len, 0);
        let mut entry = Record(self.bytes.get_mut(self.last..).unwrap_or_default());
        entry.u32(0, inode);
        entry.u16(4, len as u16);
        entry.u8(6, name.len() as u8);
        entry.u8(7, kind);
        entry.put(HEAD, name);
    }

    fn close(&mut self) {
        let end = self.bytes.len().next_multiple_of(BLOCK);
        let reach = end - TAIL - self.last;
        Record(&mut self.bytes).u16(self.last + 4, reach as u16);
        self.bytes.resize(end, 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.close();
        self.bytes
    }
}
