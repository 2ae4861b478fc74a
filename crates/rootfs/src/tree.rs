//! The merged tree: inodes and their names, in memory; contents are in the spool.

use std::collections::BTreeMap;

use worldcompute_fault::Result;

use crate::meta::Meta;
use crate::refusal::refuse;

/// An inode of a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(u32);

impl NodeId {
    pub(crate) const ROOT: Self = Self(0);

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

pub(crate) struct Node {
    pub meta: Meta,
    pub kind: Kind,
    /// How many names it was ever given: at least as many as it has.
    pub named: u32,
}

pub(crate) enum Kind {
    Directory(Directory),
    File(Content),
    Symlink(Box<[u8]>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// Names in their order, which is that of their bytes.
#[derive(Default)]
pub(crate) struct Directory {
    pub names: BTreeMap<Box<[u8]>, Name>,
    /// The layer that has hidden everything below it that older layers gave.
    pub cleared_by: Option<u16>,
}

/// What a name leads to, and the layer that said so last.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    pub node: NodeId,
    pub layer: u16,
}

/// A file's bytes: the segments, in order and apart, and holes between them.
pub(crate) struct Content {
    pub size: u64,
    pub segments: Box<[Segment]>,
}

/// `len` bytes of a file at `at`, which are in the spool at `spool`.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    pub at: u64,
    pub len: u64,
    pub spool: u64,
}

/// All inodes that any layer gave; those without a name any more are just not reached.
pub(crate) struct Tree {
    nodes: Vec<Node>,
    max_names: u32,
}

impl Tree {
    /// The root alone. No directory may have more than `max_names`.
    pub(crate) fn new(max_names: u32) -> Self {
        let root = Node {
            meta: Meta::implied(),
            kind: Kind::Directory(Directory::default()),
            named: 1,
        };
        let nodes = vec![root];
        Self { nodes, max_names }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn add(&mut self, meta: Meta, kind: Kind) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let named = 1;
        self.nodes.push(Node { meta, kind, named });
        id
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "ids come from add alone, and nodes never go"
    )]
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "ids come from add alone, and nodes never go"
    )]
    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    pub(crate) fn directory(&self, id: NodeId) -> Option<&Directory> {
        match &self.node(id).kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(crate) fn directory_mut(&mut self, id: NodeId) -> Option<&mut Directory> {
        match &mut self.node_mut(id).kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(crate) fn lookup(&self, parent: NodeId, name: &[u8]) -> Option<Name> {
        self.directory(parent)?.names.get(name).copied()
    }

    /// Gives a name to a node; what had it is no longer reached by it.
    ///
    /// # Errors
    /// `directory_too_large`, and the tree is of no use any more.
    pub(crate) fn link(&mut self, parent: NodeId, name: &[u8], to: Name) -> Result<()> {
        let max = self.max_names;
        let Some(directory) = self.directory_mut(parent) else {
            return Ok(());
        };
        directory.names.insert(name.into(), to);
        if directory.names.len() <= max as usize {
            return Ok(());
        }
        let message = format!("its directory has more than {max} names");
        let hint = "spread the files over several directories";
        Err(refuse("directory_too_large", message, hint))
    }

    pub(crate) fn unlink(&mut self, parent: NodeId, name: &[u8]) {
        if let Some(directory) = self.directory_mut(parent) {
            directory.names.remove(name);
        }
    }
}
