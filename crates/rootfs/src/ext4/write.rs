//! The plan, carried out front to back.

use std::io::{self, Write};

use worldcompute_durable::AtomicFile;
use worldcompute_fault::{Fault, Result};

use super::checksum::Checksum;
use super::extents::Run;
use super::geometry::has_superblock;
use super::plan::{Placed, Plan};
use super::superblock::{Identity, PRIMARY, block_bitmap, descriptors, inode_bitmap, superblock};
use super::{BLOCK, BLOCK_LEN, INODE, directory, extents, inode, xattr};
use crate::spool::Spool;
use crate::tree::{Content, Kind, Tree};

/// Bytes copied at once.
const CHUNK: u64 = 256 << 10;

/// Writes the image, `size` bytes, into `file`, which is empty.
pub(crate) fn write(
    tree: &Tree,
    spool: &Spool,
    plan: &Plan,
    identity: &Identity,
    size: u64,
    file: &mut AtomicFile<'_>,
) -> Result<()> {
    let seed = identity.seed();
    let descriptors = descriptors(plan, identity);
    let mut writer = Writer {
        tree,
        spool,
        plan,
        identity,
        seed,
        descriptors,
        file,
        at: 0,
        groups: 0,
    };
    for inode in &plan.inodes {
        writer.inode(inode)?;
    }
    writer.groups_before(plan.geometry.blocks)?;
    writer.seek(size)
}

struct Writer<'a, 'f> {
    tree: &'a Tree,
    spool: &'a Spool,
    plan: &'a Plan,
    identity: &'a Identity,
    seed: Checksum,
    descriptors: Vec<u8>,
    file: &'a mut AtomicFile<'f>,
    /// Bytes written and skipped.
    at: u64,
    /// Groups whose records are written.
    groups: u32,
}

impl Writer<'_, '_> {
    fn inode(&mut self, placed: &Placed) -> Result<()> {
        let node = self.tree.node(placed.node);
        let seed = inode::seed(self.seed, placed.number);
        if let Some(number) = placed.xattr_block {
            let block = xattr::block(&node.meta.xattrs, number, self.seed);
            self.block(number, &block)?;
        }
        match &node.kind {
            Kind::Directory(names) => {
                let names = names.names.iter().map(|(name, to)| {
                    let number = self.plan.numbers.get(to.node.index());
                    let kind = directory::file_type(&self.tree.node(to.node).kind);
                    (&**name, number.copied().unwrap_or_default(), kind)
                });
                let bytes = directory::content(placed.number, placed.above, names, seed);
                self.bytes(&placed.runs, &bytes)?;
            }
            Kind::Symlink(target) => self.bytes(&placed.runs, target)?,
            Kind::File(content) => self.content(&placed.runs, content)?,
            Kind::Char(..) | Kind::Block(..) | Kind::Fifo => {}
        }
        let (_, blocks) = extents::tree(&placed.runs, &placed.tree_blocks, seed);
        for (number, block) in placed.tree_blocks.iter().zip(&blocks) {
            self.block(*number, block)?;
        }
        Ok(())
    }

    /// Content that is in memory.
    fn bytes(&mut self, runs: &[Run], bytes: &[u8]) -> Result<()> {
        for run in runs {
            let from = run.logical as usize * BLOCK;
            let to = bytes.len().min(from + run.len as usize * BLOCK);
            self.block(run.physical, bytes.get(from..to).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Content that is in the spool, and zeros where a block is not full.
    fn content(&mut self, runs: &[Run], content: &Content) -> Result<()> {
        let mut segments = content.segments.iter().copied().peekable();
        for run in runs {
            self.go_to(run.physical)?;
            let begin = u64::from(run.logical) * BLOCK_LEN;
            let end = begin + u64::from(run.len) * BLOCK_LEN;
            let base = self.at;
            while let Some(segment) = segments.peek_mut().filter(|segment| segment.at < end) {
                let len = segment.len.min(end - segment.at);
                let (at, spool) = (segment.at, segment.spool);
                if len == segment.len {
                    segments.next();
                } else {
                    segment.at += len;
                    segment.len -= len;
                    segment.spool += len;
                }
                self.seek(base + at - begin)?;
                self.copy(spool, len)?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, mut from: u64, len: u64) -> Result<()> {
        let end = from + len;
        let mut buffer = vec![0; len.min(CHUNK) as usize];
        while from < end {
            let piece = (end - from).min(CHUNK) as usize;
            let piece = buffer.get_mut(..piece).unwrap_or_default();
            self.spool.read(from, piece)?;
            from += piece.len() as u64;
            self.put(piece)?;
        }
        Ok(())
    }

    fn block(&mut self, number: u32, bytes: &[u8]) -> Result<()> {
        self.go_to(number)?;
        self.put(bytes)
    }

    fn go_to(&mut self, block: u32) -> Result<()> {
        self.groups_before(block)?;
        self.seek(u64::from(block) * BLOCK_LEN)
    }

    /// The records of all groups that begin before `block`.
    fn groups_before(&mut self, block: u32) -> Result<()> {
        while self.groups < self.plan.geometry.groups
            && self.plan.geometry.group_start(self.groups) <= block
        {
            let group = self.groups;
            self.groups += 1;
            self.group(group)?;
        }
        Ok(())
    }

    fn group(&mut self, group: u32) -> Result<()> {
        let start = u64::from(self.plan.geometry.group_start(group)) * BLOCK_LEN;
        if has_superblock(group) {
            let inset = if group == 0 { PRIMARY as u64 } else { 0 };
            self.seek(start + inset)?;
            self.put(&superblock(self.plan, self.identity, group))?;
            self.seek(start + BLOCK_LEN)?;
            let descriptors = std::mem::take(&mut self.descriptors);
            let put = self.put(&descriptors);
            self.descriptors = descriptors;
            put?;
        }
        self.seek(start + u64::from(self.plan.geometry.header(group)) * BLOCK_LEN)?;
        self.put(&block_bitmap(self.plan, group))?;
        self.put(&inode_bitmap(self.plan, group))?;
        self.inode_table(group)
    }

    /// Inodes that nobody has are zeros, and zeros are not written.
    fn inode_table(&mut self, group: u32) -> Result<()> {
        let a_group = self.plan.geometry.inodes_a_group;
        let first = group * a_group + 1;
        let table = self.at;
        for inode in self.plan.numbered(first, first + a_group) {
            let node = self.tree.node(inode.node);
            let bytes = inode::bytes(node, inode, inode::seed(self.seed, inode.number));
            self.seek(table + u64::from(inode.number - first) * INODE as u64)?;
            self.put(&bytes)?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| cannot_write(&e))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Zeros up to `at`: written where they are few, left out where they fill blocks.
    fn seek(&mut self, at: u64) -> Result<()> {
        const ZEROS: [u8; BLOCK] = [0; BLOCK];
        let gap = at.saturating_sub(self.at);
        match ZEROS.get(..usize::try_from(gap).unwrap_or(usize::MAX)) {
            Some(few) => self.put(few),
            None => {
                self.file.skip(gap).map_err(|error| cannot_write(&error))?;
                self.at = at;
                Ok(())
            }
        }
    }
}

impl Plan {
    /// Inodes with numbers from `first` up to `end`, without it.
    fn numbered(&self, first: u32, end: u32) -> &[Placed] {
        let from = self.inodes.partition_point(|inode| inode.number < first);
        let to = self.inodes.partition_point(|inode| inode.number < end);
        self.inodes.get(from..to).unwrap_or_default()
    }
}

fn cannot_write(error: &io::Error) -> Fault {
    Fault::io("write the image", error)
}
