//! How an image of a given size is divided.

use super::{BLOCK, BLOCK_LEN, INODE};

/// Blocks of a group: as many as a block has bits.
pub(super) const GROUP: u32 = (BLOCK * 8) as u32;
/// Inodes of a group, at most: as many as a block has bits.
pub(super) const MAX_INODES: u32 = GROUP;
const INODES_A_BLOCK: u32 = (BLOCK / INODE) as u32;
const DESCRIPTOR: u32 = 32;
const DESCRIPTORS_A_BLOCK: u32 = BLOCK as u32 / DESCRIPTOR;
/// Bytes of an image for each inode in it, as mke2fs has it.
const BYTES_AN_INODE: u64 = 16 << 10;
/// Inodes that a guest can take at least.
const SPARE_INODES: u64 = 1024;
/// A last group with less room than this is left out.
const MIN_LAST_GROUP: u32 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub blocks: u32,
    pub groups: u32,
    pub inodes_a_group: u32,
}

impl Geometry {
    /// For an image of `size` bytes that holds `inodes`; `None` when it is too small for that.
    pub(super) fn of(size: u64, inodes: u64) -> Option<Self> {
        let blocks = u32::try_from(size / BLOCK_LEN).ok()?;
        let groups = blocks.div_ceil(GROUP);
        let wanted = (inodes + inodes / 8 + SPARE_INODES).max(size / BYTES_AN_INODE);
        let a_group = wanted.div_ceil(u64::from(groups).max(1));
        let a_group = u32::try_from(a_group).ok()?;
        let inodes_a_group = a_group.next_multiple_of(INODES_A_BLOCK);
        if inodes_a_group > MAX_INODES {
            return None;
        }
        Self {
            blocks,
            groups,
            inodes_a_group,
        }
        .without_stub()
    }

    /// A last group that has no room beside its own records is no group.
    fn without_stub(mut self) -> Option<Self> {
        let last = self.groups.checked_sub(1)?;
        if self.group_len(last) < self.overhead(last) + MIN_LAST_GROUP {
            self.blocks = self.group_start(last);
            self.groups = last;
        }
        // One group fewer takes fewer descriptors, so what is left is a full group.
        (self.groups > 0).then_some(self)
    }

    pub(super) const fn group_start(&self, group: u32) -> u32 {
        group.saturating_mul(GROUP)
    }

    pub(super) fn group_len(&self, group: u32) -> u32 {
        (self.blocks - self.group_start(group)).min(GROUP)
    }

    /// Where the blocks begin that files can have.
    pub(super) fn data_start(&self, group: u32) -> u32 {
        self.group_start(group) + self.overhead(group)
    }

    pub(super) fn group_end(&self, group: u32) -> u32 {
        self.group_start(group) + self.group_len(group)
    }

    /// Blocks before the bitmaps: the superblock and the descriptors, where the group has a copy of them.
    pub(super) fn header(&self, group: u32) -> u32 {
        match has_superblock(group) {
            true => 1 + self.descriptor_blocks(),
            false => 0,
        }
    }

    pub(super) const fn descriptor_blocks(&self) -> u32 {
        self.groups.div_ceil(DESCRIPTORS_A_BLOCK)
    }

    pub(super) const fn inode_table_blocks(&self) -> u32 {
        self.inodes_a_group.div_ceil(INODES_A_BLOCK)
    }

    /// Superblock, descriptors, two bitmaps, inode table.
    pub(super) fn overhead(&self, group: u32) -> u32 {
        self.header(group) + 2 + self.inode_table_blocks()
    }
}

/// With `sparse_super`: the first two groups, and powers of 3, 5 and 7.
pub(super) fn has_superblock(group: u32) -> bool {
    let is_power_of = |base: u32| {
        let mut power = base;
        while power < group {
            power = power.saturating_mul(base);
        }
        power == group
    };
    group <= 1 || [3, 5, 7].into_iter().any(is_power_of)
}
