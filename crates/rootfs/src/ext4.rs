//! A tree as an ext4 image: clean, sparse, and the same bytes for the same layers and size.
//!
//! Written front to back in one pass after a plan of where everything goes. Block 4 KiB, groups of 128 MiB, each with its
//! own bitmaps and inode table; extents, directories without an index, checksums over all metadata, no journal:
//! a run gets a copy of the image, and what is left of a run that crashed is thrown away. Layouts are those of the Linux
//! kernel's documentation, `filesystems/ext4`.

mod bytes;
mod checksum;
mod directory;
mod extents;
mod geometry;
mod inode;
mod plan;
mod superblock;
mod write;
mod xattr;

pub(crate) use plan::Plan;
pub(crate) use superblock::Identity;
pub(crate) use write::write;
pub(crate) use xattr::{check as check_xattrs, has_place};

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4096;
/// The same, for sums.
pub(crate) const BLOCK_LEN: u64 = BLOCK as u64;
/// Bytes of an inode.
const INODE: usize = 256;
/// The inode of the root.
const ROOT_INODE: u32 = 2;
/// The first inode that is not reserved.
const FIRST_INODE: u32 = 11;
