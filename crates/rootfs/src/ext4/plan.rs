//! Where everything goes, before anything is written.

use super::extents::{Run, filled, tree_blocks};
use super::geometry::{GROUP, Geometry};
use super::{BLOCK_LEN, FIRST_INODE, INODE, ROOT_INODE, directory, xattr};
use crate::ext4::inode::FAST_SYMLINK;
use crate::tree::{Kind, Node, NodeId, Tree};

/// An inode of the image and its blocks.
pub(super) struct Placed {
    pub node: NodeId,
    pub number: u32,
    /// The inode of the directory above, for a directory.
    pub above: u32,
    pub links: u32,
    pub xattr_block: Option<u32>,
    pub runs: Vec<Run>,
    pub tree_blocks: Vec<u32>,
}

impl Placed {
    pub(super) fn data_blocks(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.len)).sum()
    }

    pub(super) fn blocks(&self) -> u64 {
        let beside = self.tree_blocks.len() as u64 + u64::from(self.xattr_block.is_some());
        self.data_blocks() + beside
    }
}

/// A tree laid out in an image of a given size.
pub(crate) struct Plan {
    pub(super) geometry: Geometry,
    /// By number; blocks are in this order, too.
    pub(super) inodes: Vec<Placed>,
    /// Inode numbers by node; 0 for nodes that are not reached.
    pub(super) numbers: Vec<u32>,
    /// The first block that is not taken.
    end: u32,
    directories: Vec<u32>,
}

impl Plan {
    /// `None` when the image is too small for the tree.
    pub(crate) fn new(tree: &Tree, size: u64) -> Option<Self> {
        let (inodes, numbers) = numbered(tree);
        let last = inodes.last().map_or(ROOT_INODE, |inode| inode.number);
        let geometry = Geometry::of(size, u64::from(last))?;
        let mut plan = Self {
            end: geometry.data_start(0),
            directories: vec![0; geometry.groups as usize],
            geometry,
            inodes: Vec::new(),
            numbers,
        };
        for inode in inodes {
            let placed = plan.place(tree, inode)?;
            plan.inodes.push(placed);
        }
        Some(plan)
    }

    /// Bytes of the smallest image that holds the tree; `None` where it needs more than `max`.
    pub(crate) fn least(tree: &Tree, max: u64) -> Option<u64> {
        let fits = |blocks: u64| Self::new(tree, blocks * BLOCK_LEN).is_some();
        let max = max / BLOCK_LEN;
        let (mut low, mut high) = (0, 256.min(max));
        while !fits(high) {
            if high == max {
                return None;
            }
            (low, high) = (high, (high * 2).min(max));
        }
        while low + 1 < high {
            let middle = low.midpoint(high);
            if fits(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Some(high * BLOCK_LEN)
    }

    /// Bytes that the tree takes in an image of any size, beside the records of the groups.
    pub(crate) fn content(tree: &Tree) -> u64 {
        let (inodes, _) = numbered(tree);
        let blocks = inodes.iter().map(|inode| blocks(tree.node(inode.node)));
        blocks.sum::<u64>() * BLOCK_LEN + (inodes.len() * INODE) as u64
    }

    pub(super) fn free_blocks(&self, group: u32) -> u32 {
        let start = self.geometry.data_start(group);
        let end = self.geometry.group_end(group);
        end - self.end.clamp(start, end)
    }

    pub(super) fn free_inodes(&self, group: u32) -> u32 {
        let a_group = self.geometry.inodes_a_group;
        let last = self.inodes.last().map_or(ROOT_INODE, |inode| inode.number);
        let taken = last.max(FIRST_INODE - 1).saturating_sub(group * a_group);
        a_group - taken.min(a_group)
    }

    pub(super) fn directories(&self, group: u32) -> u32 {
        let count = self.directories.get(group as usize);
        count.copied().unwrap_or_default()
    }

    fn place(&mut self, tree: &Tree, mut inode: Placed) -> Option<Placed> {
        let node = tree.node(inode.node);
        if xattr::need_block(&node.meta.xattrs) {
            inode.xattr_block = Some(self.take(1)?.0);
        }
        if matches!(node.kind, Kind::Directory(_)) {
            let group = (inode.number - 1) / self.geometry.inodes_a_group;
            *self.directories.get_mut(group as usize)? += 1;
        }
        for (first, end) in ranges(&node.kind) {
            self.place_range(first, end, &mut inode.runs)?;
        }
        for _ in 0..tree_blocks(inode.runs.len()) {
            inode.tree_blocks.push(self.take(1)?.0);
        }
        Some(inode)
    }

    fn place_range(&mut self, mut logical: u32, end: u32, runs: &mut Vec<Run>) -> Option<()> {
        while logical < end {
            let (physical, len) = self.take(end - logical)?;
            runs.push(Run {
                logical,
                physical,
                len,
            });
            logical += len;
        }
        Some(())
    }

    /// The next blocks that are free: at most `most`, none of another group.
    fn take(&mut self, most: u32) -> Option<(u32, u32)> {
        let mut group = self.end / GROUP;
        if group < self.geometry.groups && self.end >= self.geometry.group_end(group) {
            group += 1;
        }
        if group >= self.geometry.groups {
            return None;
        }
        let start = self.end.max(self.geometry.data_start(group));
        let len = most.min(self.geometry.group_end(group).checked_sub(start)?);
        self.end = start + len;
        (len > 0).then_some((start, len))
    }
}

/// How many blocks a node takes where nothing divides its ranges.
fn blocks(node: &Node) -> u64 {
    let ranges = ranges(&node.kind);
    let data = ranges.iter().map(|(first, end)| u64::from(end - first));
    let beside = tree_blocks(ranges.len()) + usize::from(xattr::need_block(&node.meta.xattrs));
    data.sum::<u64>() + beside as u64
}

/// Blocks of its own that a node has content for, as ranges of numbers.
fn ranges(kind: &Kind) -> Vec<(u32, u32)> {
    match kind {
        Kind::Directory(directory) => {
            let names = directory.names.keys().map(AsRef::as_ref);
            vec![(0, directory::blocks(names))]
        }
        Kind::File(content) => filled(&content.segments),
        Kind::Symlink(target) if target.len() >= FAST_SYMLINK => vec![(0, 1)],
        _ => Vec::new(),
    }
}

/// Every node that is reached, with its number: a directory's names have numbers next to each other.
fn numbered(tree: &Tree) -> (Vec<Placed>, Vec<u32>) {
    let mut numbers = vec![0; tree.len()];
    let mut inodes = vec![placed(NodeId::ROOT, ROOT_INODE, ROOT_INODE)];
    set(&mut numbers, NodeId::ROOT, ROOT_INODE);
    let mut directories = vec![0];
    while let Some(at) = directories.pop() {
        let Some((node, number)) = inodes.get(at).map(|inode| (inode.node, inode.number)) else {
            continue;
        };
        let names = tree
            .directory(node)
            .into_iter()
            .flat_map(|all| all.names.values());
        let first = directories.len();
        for name in names {
            let known = numbers.get(name.node.index()).copied().unwrap_or_default();
            if known != 0 {
                let there = inodes.get_mut((known - FIRST_INODE + 1) as usize);
                there.into_iter().for_each(|inode| inode.links += 1);
                continue;
            }
            let next = FIRST_INODE - 1 + inodes.len() as u32;
            set(&mut numbers, name.node, next);
            if tree.directory(name.node).is_some() {
                directories.push(inodes.len());
                inodes
                    .get_mut(at)
                    .into_iter()
                    .for_each(|above| above.links += 1);
            }
            inodes.push(placed(name.node, next, number));
        }
        directories.get_mut(first..).unwrap_or_default().reverse();
    }
    for inode in &mut inodes {
        inode.links += u32::from(tree.directory(inode.node).is_some());
    }
    (inodes, numbers)
}

const fn placed(node: NodeId, number: u32, above: u32) -> Placed {
    Placed {
        node,
        number,
        above,
        links: 1,
        xattr_block: None,
        runs: Vec::new(),
        tree_blocks: Vec::new(),
    }
}

fn set(numbers: &mut [u32], node: NodeId, number: u32) {
    if let Some(slot) = numbers.get_mut(node.index()) {
        *slot = number;
    }
}
