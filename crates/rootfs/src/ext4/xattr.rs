//! Extended attributes: in the inode where all fit, else in a block of their own.

use worldcompute_fault::Result;

use super::bytes::Record;
use super::checksum::Checksum;
use super::{BLOCK, INODE};
use crate::limits::MAX_NAME;
use crate::meta::Xattrs;
use crate::refusal::{refuse, shown};

const MAGIC: u32 = 0xea02_0000;
/// Where the attributes of an inode begin: after the fields that this one has.
pub(super) const IN_INODE: usize = 128 + super::inode::EXTRA as usize;
const INODE_HEADER: usize = 4;
const BLOCK_HEADER: usize = 32;
const ENTRY: usize = 16;
/// Four zero bytes end the list.
const END: usize = 4;

/// What ext4 writes in place of the beginning of a name, and what it writes of access control lists.
const NAMESPACES: [(&[u8], u8); 4] = [
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
    (b"system.", 7),
];
const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

/// Attributes that ext4 can hold, by its order: number of the namespace, length of the name, name.
struct Attribute<'a> {
    namespace: u8,
    name: &'a [u8],
    value: Vec<u8>,
}

impl Attribute<'_> {
    const fn entry_len(&self) -> usize {
        (ENTRY + self.name.len()).next_multiple_of(4)
    }

    const fn value_len(&self) -> usize {
        self.value.len().next_multiple_of(4)
    }

    /// As `ext4_xattr_hash_entry` has it.
    fn hash(&self) -> u32 {
        let of_name = self
            .name
            .iter()
            .fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        self.value.chunks(4).fold(of_name, |hash, chunk| {
            let mut word = [0; 4];
            Record(&mut word).put(0, chunk);
            hash.rotate_left(16) ^ u32::from_le_bytes(word)
        })
    }
}

/// Whether Linux has a place for an attribute of this name: those of other systems are in none of its namespaces.
pub(crate) fn has_place(name: &[u8]) -> bool {
    NAMESPACES.iter().any(|(space, _)| name.starts_with(space))
}

/// Whether ext4 can hold them, which all [have a place](has_place).
///
/// # Errors
/// `xattrs_too_large`, `invalid_xattr`.
pub(crate) fn check(xattrs: &Xattrs) -> Result<()> {
    for (name, value) in xattrs.iter() {
        let is_acl = matches!(name, ACCESS | DEFAULT);
        let named = is_acl || namespace(name).is_some_and(|(_, rest)| !rest.is_empty());
        if name.len() > MAX_NAME || name.contains(&0) || !named || (is_acl && acl(value).is_none())
        {
            let message = format!("its extended attribute {} is not valid", shown(name));
            return Err(refuse("invalid_xattr", message, "pack the layer again"));
        }
    }
    let sorted = sorted(xattrs);
    match needed(&sorted) <= BLOCK - BLOCK_HEADER {
        true => Ok(()),
        false => Err(refuse(
            "xattrs_too_large",
            format!("its extended attributes are more than a block of {BLOCK} bytes"),
            "shorten or remove them",
        )),
    }
}

/// The bytes for the inode, from [`IN_INODE`] on; `None` when they do not fit there or there are none.
pub(super) fn in_inode(xattrs: &Xattrs) -> Option<Vec<u8>> {
    let sorted = sorted(xattrs);
    let room = INODE - IN_INODE - INODE_HEADER;
    if sorted.is_empty() || needed(&sorted) > room {
        return None;
    }
    let mut bytes = vec![0; INODE - IN_INODE];
    Record(&mut bytes).u32(0, MAGIC);
    let entries = bytes.get_mut(INODE_HEADER..).unwrap_or_default();
    // Offsets count from the first entry; hashes are for blocks, which inodes could share.
    list(entries, &sorted, 0, |_| 0);
    Some(bytes)
}

/// Whether they need a block of their own.
pub(super) fn need_block(xattrs: &Xattrs) -> bool {
    !sorted(xattrs).is_empty() && in_inode(xattrs).is_none()
}

/// The block with the number `number` that has them. `seed` is the file system's.
pub(super) fn block(xattrs: &Xattrs, number: u32, seed: Checksum) -> Vec<u8> {
    let sorted = sorted(xattrs);
    let mut bytes = vec![0; BLOCK];
    let entries = bytes.get_mut(BLOCK_HEADER..).unwrap_or_default();
    list(entries, &sorted, BLOCK_HEADER, |attribute| attribute.hash());
    let of_all = sorted.iter().fold(0_u32, |hash, attribute| {
        hash.rotate_left(16) ^ attribute.hash()
    });
    // One that has no hash makes the block one that is never shared.
    let all = sorted.iter().all(|attribute| attribute.hash() != 0);
    let mut header = Record(&mut bytes);
    header.u32(0, MAGIC);
    header.u32(4, 1);
    header.u32(8, 1);
    header.u32(12, if all { of_all } else { 0 });
    let sum = seed.and(&u64::from(number).to_le_bytes()).and(&bytes);
    Record(&mut bytes).u32(16, sum.value());
    bytes
}

/// Entries from the front, values from the back.
fn list(
    room: &mut [u8],
    sorted: &[Attribute<'_>],
    base: usize,
    hash: impl Fn(&Attribute<'_>) -> u32,
) {
    let (mut front, mut back) = (0, room.len());
    let mut record = Record(room);
    for attribute in sorted {
        back -= attribute.value_len();
        let offset = if attribute.value.is_empty() {
            0
        } else {
            base + back
        };
        record.u8(front, attribute.name.len() as u8);
        record.u8(front + 1, attribute.namespace);
        record.u16(front + 2, offset as u16);
        record.u32(front + 8, attribute.value.len() as u32);
        record.u32(front + 12, hash(attribute));
        record.put(front + ENTRY, attribute.name);
        record.put(back, &attribute.value);
        front += attribute.entry_len();
    }
}

fn needed(sorted: &[Attribute<'_>]) -> usize {
    let each = sorted
        .iter()
        .map(|attribute| attribute.entry_len() + attribute.value_len());
    each.sum::<usize>() + END
}

fn sorted(xattrs: &Xattrs) -> Vec<Attribute<'_>> {
    let mut all: Vec<_> = xattrs
        .iter()
        .filter_map(|(name, value)| attribute(name, value))
        .collect();
    all.sort_by_key(|attribute| (attribute.namespace, attribute.name.len(), attribute.name));
    all
}

/// `None` for what [`check`] refuses.
fn attribute<'a>(name: &'a [u8], value: &[u8]) -> Option<Attribute<'a>> {
    let (namespace, name, value) = match name {
        ACCESS => (2, b"".as_slice(), acl(value)?),
        DEFAULT => (3, b"".as_slice(), acl(value)?),
        _ => {
            let (namespace, rest) = namespace(name)?;
            (namespace, rest, value.to_vec())
        }
    };
    Some(Attribute {
        namespace,
        name,
        value,
    })
}

fn namespace(name: &[u8]) -> Option<(u8, &[u8])> {
    let mut found = NAMESPACES
        .iter()
        .filter_map(|(space, number)| Some((*number, name.strip_prefix(*space)?)));
    found.next()
}

/// An access control list as system calls have it (version 2: tag, permissions, id) in the form of the disk (version
/// 1: the id only for named users and groups).
fn acl(value: &[u8]) -> Option<Vec<u8>> {
    const NAMED: [u16; 2] = [0x02, 0x08];
    let (version, entries) = value.split_at_checked(4)?;
    if version != 2_u32.to_le_bytes() || !entries.len().is_multiple_of(8) {
        return None;
    }
    let mut disk = 1_u32.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes(entry.first_chunk().copied()?);
        let len = if NAMED.contains(&tag) { 8 } else { 4 };
        disk.extend_from_slice(entry.get(..len)?);
    }
    Some(disk)
}
