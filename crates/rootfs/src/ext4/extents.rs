//! Where the blocks of a file are: its runs, and the tree of them.

use super::BLOCK;
use super::bytes::Record;
use super::checksum::Checksum;
use crate::tree::Segment;

const MAGIC: u16 = 0xf30a;
const HEADER: usize = 12;
const RECORD: usize = 12;
/// Extents that an inode has room for.
const IN_INODE: usize = 4;
/// Extents that a block has room for, before its checksum.
const IN_BLOCK: usize = (BLOCK - HEADER - 4) / RECORD;
/// Bytes of an inode that are for this.
pub(super) const ROOT: usize = 60;

/// Blocks of a file that lie one after the other on the disk, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first one's number in the file.
    pub logical: u32,
    /// The first one's number on the disk.
    pub physical: u32,
    pub len: u32,
}

/// Blocks of a file that hold something, as ranges of numbers: what lies between is a hole.
pub(super) fn filled(segments: &[Segment]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for segment in segments {
        let first = block_of(segment.at);
        let end = block_of(segment.at + segment.len - 1).saturating_add(1);
        match ranges.last_mut() {
            Some((_, last)) if first <= *last => *last = end.max(*last),
            _ => ranges.push((first, end)),
        }
    }
    ranges
}

/// Files have fewer blocks than 2^32: their length is bounded where they are read.
fn block_of(at: u64) -> u32 {
    u32::try_from(at / super::BLOCK_LEN).unwrap_or(u32::MAX)
}

/// How many blocks the tree of that many runs takes beside the inode.
pub(super) fn tree_blocks(runs: usize) -> usize {
    let (mut records, mut blocks) = (runs, 0);
    while records > IN_INODE {
        records = records.div_ceil(IN_BLOCK);
        blocks += records;
    }
    blocks
}

/// What the inode has, and the content of the blocks beside it, in the order of their numbers. `seed` is the
/// inode's.
pub(super) fn tree(runs: &[Run], blocks: &[u32], seed: Checksum) -> ([u8; ROOT], Vec<Vec<u8>>) {
    let mut records: Vec<_> = runs.iter().map(leaf).collect();
    let (mut written, mut numbers, mut depth) = (Vec::new(), blocks.iter(), 0);
    while records.len() > IN_INODE {
        let nodes = records.chunks(IN_BLOCK).zip(&mut numbers);
        let above = nodes.map(|(children, number)| {
            written.push(node_block(children, depth, seed));
            index(children, *number)
        });
        records = above.collect();
        depth += 1;
    }
    let mut root = [0; ROOT];
    node(&mut root, &records, IN_INODE, depth);
    (root, written)
}

fn leaf(run: &Run) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    let mut record = Record(&mut bytes);
    record.u32(0, run.logical);
    record.u16(4, run.len as u16);
    record.u32(8, run.physical);
    bytes
}

fn index(children: &[[u8; RECORD]], block: u32) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    let first = children.first().and_then(|child| child.get(..4));
    let mut record = Record(&mut bytes);
    record.put(0, first.unwrap_or_default());
    record.u32(4, block);
    bytes
}

fn node(bytes: &mut [u8], records: &[[u8; RECORD]], max: usize, depth: u16) {
    let mut record = Record(bytes);
    record.u16(0, MAGIC);
    record.u16(2, records.len() as u16);
    record.u16(4, max as u16);
    record.u16(6, depth);
    for (at, child) in records.iter().enumerate() {
        record.put(HEADER + at * RECORD, child);
    }
}

fn node_block(records: &[[u8; RECORD]], depth: u16, seed: Checksum) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    node(&mut bytes, records, IN_BLOCK, depth);
    let tail = HEADER + IN_BLOCK * RECORD;
    let sum = seed.and(bytes.get(..tail).unwrap_or_default());
    Record(&mut bytes).u32(tail, sum.value());
    bytes
}
