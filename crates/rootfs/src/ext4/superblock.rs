//! What an image says of itself as a whole, and of each group.

use sha2::{Digest, Sha256};

use super::bytes::Record;
use super::checksum::Checksum;
use super::geometry::{GROUP, Geometry};
use super::plan::Plan;
use super::{BLOCK, FIRST_INODE, INODE};

/// Where the superblock begins in the first block; in copies it is 0.
pub(super) const PRIMARY: usize = 1024;
const LEN: usize = 1024;
/// `ext_attr`, `dir_index`: the kernel may make indices.
const COMPATIBLE: u32 = 0x8 | 0x20;
/// `filetype`, `extents`.
const INCOMPATIBLE: u32 = 0x2 | 0x40;
/// `sparse_super`, `large_file`, `huge_file`, `dir_nlink`, `extra_isize`, `metadata_csum`.
const READ_ONLY_COMPATIBLE: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400;
/// Of a descriptor: its inode table is all zeros where nobody wrote.
const TABLE_ZEROED: u16 = 4;
pub(super) const DESCRIPTOR: usize = 32;

/// What tells images apart that hold the same tree: derived, so that the same layers give the same.
pub(crate) struct Identity {
    uuid: [u8; 16],
    hash_seed: [u8; 16],
}

impl Identity {
    /// From what the image is made of.
    pub(crate) fn of(digest: &[u8]) -> Self {
        let part = |label: &[u8]| {
            let hash = Sha256::new().chain_update(label).chain_update(digest);
            let hash: [u8; 32] = hash.finalize().into();
            hash.first_chunk().copied().unwrap_or_default()
        };
        let mut uuid: [u8; 16] = part(b"uuid");
        // Version 8, "custom" (RFC 9562, 5.8).
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut uuid;
        *version = *version & 0x0f | 0x80;
        *variant = *variant & 0x3f | 0x80;
        Self {
            uuid,
            hash_seed: part(b"hash seed"),
        }
    }

    /// What all checksums begin with.
    pub(super) fn seed(&self) -> Checksum {
        Checksum::start().and(&self.uuid)
    }
}

/// The superblock as the copy in `group` has it: 1024 bytes.
///
/// Times are 0: the tree's own are with its inodes, and nothing else has happened to it.
pub(super) fn superblock(plan: &Plan, identity: &Identity, group: u32) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    let geometry = &plan.geometry;
    let mut record = Record(&mut bytes);
    counts(&mut record, plan);
    record.u32(0x18, 2); // Blocks of 1 KiB << 2,
    record.u32(0x1c, 2); // and as many to a cluster.
    record.u32(0x20, GROUP);
    record.u32(0x24, GROUP);
    record.u32(0x28, geometry.inodes_a_group);
    record.u16(0x36, u16::MAX); // Never due for a check.
    record.u16(0x38, 0xef53);
    record.u16(0x3a, 1); // Clean.
    record.u16(0x3c, 1); // Goes on after an error.
    record.u32(0x4c, 1);
    record.u32(0x54, FIRST_INODE);
    record.u16(0x58, INODE as u16);
    record.u16(0x5a, group as u16);
    record.u32(0x5c, COMPATIBLE);
    record.u32(0x60, INCOMPATIBLE);
    record.u32(0x64, READ_ONLY_COMPATIBLE);
    record.put(0x68, &identity.uuid);
    record.put(0xec, &identity.hash_seed);
    record.u8(0xfc, 1); // Half MD4,
    record.u32(0x160, 1); // of signed characters.
    record.u32(0x100, 0x4 | 0x8); // user_xattr, acl.
    record.u16(0x15c, super::inode::EXTRA);
    record.u16(0x15e, super::inode::EXTRA);
    record.u8(0x175, 1); // CRC-32C.
    let sum = Checksum::start().and(bytes.get(..LEN - 4).unwrap_or_default());
    Record(&mut bytes).u32(LEN - 4, sum.value());
    bytes
}

fn counts(record: &mut Record<'_>, plan: &Plan) {
    let Geometry {
        blocks,
        groups,
        inodes_a_group,
    } = plan.geometry;
    record.u32(0x00, groups * inodes_a_group);
    record.u32(0x04, blocks);
    let free = |count: fn(&Plan, u32) -> u32| (0..groups).map(|group| count(plan, group)).sum();
    record.u32(0x0c, free(Plan::free_blocks));
    record.u32(0x10, free(Plan::free_inodes));
}

/// All descriptors, padded to whole blocks.
pub(super) fn descriptors(plan: &Plan, identity: &Identity) -> Vec<u8> {
    let geometry = &plan.geometry;
    let mut bytes = vec![0; geometry.descriptor_blocks() as usize * BLOCK];
    for (group, bytes) in (0..geometry.groups).zip(bytes.chunks_exact_mut(DESCRIPTOR)) {
        descriptor(plan, identity.seed(), group, bytes);
    }
    bytes
}

fn descriptor(plan: &Plan, seed: Checksum, group: u32, bytes: &mut [u8]) {
    let geometry = &plan.geometry;
    let bitmaps = geometry.group_start(group) + geometry.header(group);
    let inode_bitmap = inode_bitmap(plan, group);
    let in_use = geometry.inodes_a_group.div_ceil(8) as usize;
    let mut record = Record(bytes);
    record.u32(0x00, bitmaps);
    record.u32(0x04, bitmaps + 1);
    record.u32(0x08, bitmaps + 2);
    record.u16(0x0c, plan.free_blocks(group) as u16);
    record.u16(0x0e, plan.free_inodes(group) as u16);
    record.u16(0x10, plan.directories(group) as u16);
    record.u16(0x12, TABLE_ZEROED);
    record.u16(0x18, seed.and(&block_bitmap(plan, group)).low());
    let sum = seed.and(inode_bitmap.get(..in_use).unwrap_or_default());
    record.u16(0x1a, sum.low());
    record.u16(0x1c, plan.free_inodes(group) as u16); // They are all at the end.
    let sum = seed.and_u32(group).and(record.0).low();
    record.u16(0x1e, sum);
}

/// Blocks are taken from the front; those past the end of the image count as taken.
pub(super) fn block_bitmap(plan: &Plan, group: u32) -> Vec<u8> {
    let len = plan.geometry.group_len(group);
    bitmap(len - plan.free_blocks(group), len)
}

/// Inodes are taken from the front; those that a group does not have count as taken.
pub(super) fn inode_bitmap(plan: &Plan, group: u32) -> Vec<u8> {
    let len = plan.geometry.inodes_a_group;
    bitmap(len - plan.free_inodes(group), len)
}

/// Ones up to `taken` and from `len` on.
fn bitmap(taken: u32, len: u32) -> Vec<u8> {
    let is_one = |bit: u32| bit < taken || bit >= len;
    let byte = |at: u32| (0..8).fold(0, |byte, bit| byte | u8::from(is_one(at * 8 + bit)) << bit);
    (0..BLOCK as u32).map(byte).collect()
}
