//! An inode: 256 bytes that say what it is, whose, when, and where its blocks are.

use super::bytes::{Record, halves, words};
use super::checksum::Checksum;
use super::plan::Placed;
use super::{BLOCK_LEN, INODE, extents, xattr};
use crate::limits::MAX_HARD_LINKS;
use crate::meta::Time;
use crate::tree::{Kind, Node};

/// Bytes of the fields after the first 128: up to the project.
pub(super) const EXTRA: u16 = 32;
/// Target lengths below this are in the inode itself.
pub(super) const FAST_SYMLINK: usize = 60;
const EXTENTS_FLAG: u32 = 0x80000;
/// Blocks are counted in units of the disk.
const SECTORS: u64 = BLOCK_LEN / 512;
/// Times that two more bits for the seconds can say: from 1901 to 2446. Others become the nearest.
const TIMES: (i64, i64) = (-0x8000_0000, 0x3_7fff_ffff);

/// What checksums of an inode and of its blocks begin with. `seed` is the file system's.
pub(super) fn seed(seed: Checksum, number: u32) -> Checksum {
    const GENERATION: u32 = 0;
    seed.and_u32(number).and_u32(GENERATION)
}

/// The bytes of an inode.
pub(super) fn bytes(node: &Node, placed: &Placed, seed: Checksum) -> [u8; INODE] {
    let mut bytes = [0; INODE];
    let mut record = Record(&mut bytes);
    let meta = &node.meta;
    let ((uid, uid_high), (gid, gid_high)) = (halves(meta.uid), halves(meta.gid));
    record.u16(0x00, type_bits(&node.kind) | meta.mode);
    record.u16(0x02, uid);
    record.u16(0x18, gid);
    record.u16(0x1a, links(node, placed.links));
    let (sectors, sectors_high) = words(placed.blocks() * SECTORS);
    record.u32(0x1c, sectors);
    record.u16(0x74, sectors_high as u16);
    record.u32(0x68, placed.xattr_block.unwrap_or_default());
    record.u16(0x78, uid_high);
    record.u16(0x7a, gid_high);
    record.u16(0x80, EXTRA);
    times(&mut record, meta.mtime);
    body(&mut record, node, placed, seed);
    if let Some(xattrs) = xattr::in_inode(&meta.xattrs) {
        record.put(xattr::IN_INODE, &xattrs);
    }
    let (sum, sum_high) = halves(seed.and(&bytes).value());
    let mut record = Record(&mut bytes);
    record.u16(0x7c, sum);
    record.u16(0x82, sum_high);
    bytes
}

fn body(record: &mut Record<'_>, node: &Node, placed: &Placed, seed: Checksum) {
    const PLACES: usize = 0x28;
    match &node.kind {
        Kind::Symlink(target) if target.len() < FAST_SYMLINK => {
            size(record, target.len() as u64);
            record.put(PLACES, target);
        }
        Kind::Char(major, minor) | Kind::Block(major, minor) => {
            let (old, new) = device(*major, *minor);
            record.u32(PLACES, old);
            record.u32(PLACES + 4, new);
        }
        Kind::Fifo => {}
        Kind::Directory(_) | Kind::File(_) | Kind::Symlink(_) => {
            size(record, length(&node.kind, placed));
            record.u32(0x20, EXTENTS_FLAG);
            let (root, _) = extents::tree(&placed.runs, &placed.tree_blocks, seed);
            record.put(PLACES, &root);
        }
    }
}

fn length(kind: &Kind, placed: &Placed) -> u64 {
    match kind {
        Kind::File(content) => content.size,
        Kind::Symlink(target) => target.len() as u64,
        _ => placed.data_blocks() * BLOCK_LEN,
    }
}

fn size(record: &mut Record<'_>, size: u64) {
    let (low, high) = words(size);
    record.u32(0x04, low);
    record.u32(0x6c, high);
}

const fn type_bits(kind: &Kind) -> u16 {
    match kind {
        Kind::Fifo => 0x1000,
        Kind::Char(..) => 0x2000,
        Kind::Directory(_) => 0x4000,
        Kind::Block(..) => 0x6000,
        Kind::File(_) => 0x8000,
        Kind::Symlink(_) => 0xa000,
    }
}

/// A directory with more than can be counted is said to have one (`dir_nlink`).
const fn links(node: &Node, links: u32) -> u16 {
    match &node.kind {
        Kind::Directory(_) if links > MAX_HARD_LINKS => 1,
        _ => links as u16,
    }
}

/// All four times are the one that layers tell.
fn times(record: &mut Record<'_>, time: Time) {
    let secs = time.secs.clamp(TIMES.0, TIMES.1);
    let nanos = if secs == time.secs { time.nanos } else { 0 };
    let low = secs as u32;
    // What is left when the lower half is read with its sign.
    let epoch = ((secs - i64::from(low.cast_signed())) >> 32) as u32 & 3;
    for at in [0x08, 0x0c, 0x10, 0x90] {
        record.u32(at, low);
    }
    for at in [0x84, 0x88, 0x8c, 0x94] {
        record.u32(at, nanos << 2 | epoch);
    }
}

/// Small numbers in 16 bits, others in 32 (`old_encode_dev` and `new_encode_dev`).
const fn device(major: u32, minor: u32) -> (u32, u32) {
    if major < 256 && minor < 256 {
        return (major << 8 | minor, 0);
    }
    (0, (minor & 0xff) | major << 8 | (minor & !0xff) << 12)
}
