//! Nodes: their bytes, their entries, their lifetime.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::entries::Entries;
use crate::stop::{Errno, Result};
use crate::world::Account;

/// Most files and directories at a time, inputs included.
pub const MAX_NODES: usize = 8192;

/// The directory a guest may write to.
pub const OUT: &str = "out";

/// Identity of a file or directory, as long as the run lasts; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    pub const ROOT: Self = Self(1);

    pub const fn number(self) -> u64 {
        self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Directory,
}

/// What a guest may know about a node. Times are in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    pub node: NodeId,
    pub kind: EntryKind,
    pub size: u64,
    pub accessed: u64,
    pub modified: u64,
}

/// Times to set, where given.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetTimes {
    pub accessed: Option<u64>,
    pub modified: Option<u64>,
}

/// An entry of a directory.
pub struct Listed<'a> {
    pub node: NodeId,
    pub kind: EntryKind,
    pub name: &'a str,
}

pub struct Filesystem {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    next: u64,
}

pub(super) struct Node {
    pub body: Body,
    pub parent: NodeId,
    /// Lies under `/out`.
    pub writable: bool,
    pub linked: bool,
    pub open: u32,
    accessed: u64,
    modified: u64,
}

pub(super) enum Body {
    /// An input, shared with whoever else runs on it.
    Input(Arc<[u8]>),
    File(Vec<u8>),
    Directory(Entries),
}

impl Filesystem {
    /// The empty tree: `/` and `/out`.
    pub fn new() -> Self {
        let root = Node::new(Body::Directory(Entries::default()), NodeId::ROOT, false, 0);
        let mut files = Self {
            nodes: BTreeMap::from([(NodeId::ROOT, root)]),
            next: 2,
        };
        if let Ok(out) = files.insert(NodeId::ROOT, OUT, Body::Directory(Entries::default()), 0)
            && let Ok(node) = files.node_mut(out)
        {
            node.writable = true;
        }
        files
    }

    /// Lays an input down at an absolute path, with the directories above it.
    pub fn lay_input(&mut self, path: &str, bytes: Arc<[u8]>) -> Result<()> {
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        let mut dir = NodeId::ROOT;
        while let Some(part) = parts.next() {
            dir = match (self.entry(dir, part)?, parts.peek()) {
                (Some(below), Some(_)) => below,
                (None, Some(_)) => {
                    self.insert(dir, part, Body::Directory(Entries::default()), 0)?
                }
                (None, None) => return self.insert(dir, part, Body::Input(bytes), 0).map(|_| ()),
                (Some(_), None) => return Err(Errno::Exist.into()),
            };
        }
        Err(Errno::Inval.into())
    }

    /// All bytes of a file.
    pub fn bytes(&self, file: NodeId) -> Result<&[u8]> {
        match &self.node(file)?.body {
            Body::Input(bytes) => Ok(bytes),
            Body::File(bytes) => Ok(bytes),
            Body::Directory(_) => Err(Errno::Isdir.into()),
        }
    }

    /// Takes the bytes out of a file, which is empty from then on.
    pub fn take_bytes(&mut self, file: NodeId) -> Result<Vec<u8>> {
        let (bytes, _) = self.scratch(file)?;
        Ok(std::mem::take(bytes))
    }

    /// The bytes from `offset` on, `most` at most; none at the end.
    pub fn read_at(&self, file: NodeId, offset: u64, most: usize) -> Result<&[u8]> {
        let bytes = self.bytes(file)?;
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get(offset..));
        let rest = rest.unwrap_or_default();
        Ok(rest.get(..most).unwrap_or(rest))
    }

    /// Writes all of `bytes` at `offset`; a gap before it reads as zeros.
    pub fn write_at(
        &mut self,
        file: NodeId,
        offset: u64,
        bytes: &[u8],
        account: &mut Account,
        now: u64,
    ) -> Result<()> {
        if bytes.is_empty() {
            return self.scratch(file).map(|_| ());
        }
        let end = offset
            .checked_add(bytes.len() as u64)
            .ok_or(Errno::Overflow)?;
        let (contents, modified) = self.scratch(file)?;
        if end > contents.len() as u64 {
            account.take(end - contents.len() as u64)?;
            contents.resize(end as usize, 0);
        }
        if let Some(place) = contents.get_mut(offset as usize..end as usize) {
            place.copy_from_slice(bytes);
        }
        *modified = now;
        Ok(())
    }

    /// Cuts a file off, or lengthens it with zeros.
    pub fn set_size(
        &mut self,
        file: NodeId,
        size: u64,
        account: &mut Account,
        now: u64,
    ) -> Result<()> {
        let (contents, modified) = self.scratch(file)?;
        let before = contents.len() as u64;
        account.take(size.saturating_sub(before))?;
        account.give_back(before.saturating_sub(size));
        contents.resize(size as usize, 0);
        contents.shrink_to(size as usize);
        *modified = now;
        Ok(())
    }

    pub fn set_times(&mut self, node: NodeId, times: SetTimes) -> Result<()> {
        let node = self.node_mut(node)?;
        if !node.writable {
            return Err(Errno::Rofs.into());
        }
        node.accessed = times.accessed.unwrap_or(node.accessed);
        node.modified = times.modified.unwrap_or(node.modified);
        Ok(())
    }

    pub fn stat(&self, id: NodeId) -> Result<Stat> {
        let node = self.node(id)?;
        let size = match &node.body {
            Body::Directory(_) => 0,
            Body::Input(bytes) => bytes.len(),
            Body::File(bytes) => bytes.len(),
        };
        Ok(Stat {
            node: id,
            kind: node.kind(),
            size: size as u64,
            accessed: node.accessed,
            modified: node.modified,
        })
    }

    /// The entries of a directory that are younger than the one with this number, oldest first.
    pub fn list(&self, dir: NodeId, after: u64) -> Result<impl Iterator<Item = Listed<'_>>> {
        let entries = self.node(dir)?.entries()?.after(NodeId(after));
        let listed = |(node, name)| {
            let kind = self.node(node).map_or(EntryKind::File, Node::kind);
            Listed { node, kind, name }
        };
        Ok(entries.map(listed))
    }

    /// Keeps a node alive until it is released as often, also when its last entry is removed.
    pub fn retain(&mut self, id: NodeId) -> Result<()> {
        let node = self.node_mut(id)?;
        node.open = node.open.saturating_add(1);
        Ok(())
    }

    pub fn release(&mut self, id: NodeId, account: &mut Account) {
        if let Ok(node) = self.node_mut(id) {
            node.open = node.open.saturating_sub(1);
            self.collect(id, account);
        }
    }

    pub(super) fn node(&self, id: NodeId) -> Result<&Node> {
        Ok(self.nodes.get(&id).ok_or(Errno::Noent)?)
    }

    pub(super) fn entry(&self, dir: NodeId, name: &str) -> Result<Option<NodeId>> {
        Ok(self.node(dir)?.entries()?.get(name))
    }

    /// Makes a node in a directory that has no entry of that name.
    pub(super) fn insert(
        &mut self,
        dir: NodeId,
        name: &str,
        body: Body,
        now: u64,
    ) -> Result<NodeId> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Errno::Nospc.into());
        }
        let parent = self.node(dir)?;
        if !parent.linked {
            return Err(Errno::Noent.into());
        }
        let (id, writable) = (NodeId(self.next), parent.writable);
        self.entries_mut(dir, now)?.insert(name, id);
        self.nodes.insert(id, Node::new(body, dir, writable, now));
        self.next += 1;
        Ok(id)
    }

    pub(super) fn remove(
        &mut self,
        dir: NodeId,
        name: &str,
        account: &mut Account,
        now: u64,
    ) -> Result<()> {
        let id = self
            .entries_mut(dir, now)?
            .remove(name)
            .ok_or(Errno::Noent)?;
        self.node_mut(id)?.linked = false;
        self.collect(id, account);
        Ok(())
    }

    /// Gives an entry another place; there must be none at it.
    pub(super) fn relink(
        &mut self,
        from: (NodeId, &str),
        to: (NodeId, &str),
        now: u64,
    ) -> Result<()> {
        let id = self
            .entries_mut(from.0, now)?
            .remove(from.1)
            .ok_or(Errno::Noent)?;
        self.entries_mut(to.0, now)?.insert(to.1, id);
        self.node_mut(id)?.parent = to.0;
        Ok(())
    }

    fn node_mut(&mut self, id: NodeId) -> Result<&mut Node> {
        Ok(self.nodes.get_mut(&id).ok_or(Errno::Noent)?)
    }

    fn entries_mut(&mut self, dir: NodeId, now: u64) -> Result<&mut Entries> {
        let node = self.node_mut(dir)?;
        node.modified = now;
        match &mut node.body {
            Body::Directory(entries) => Ok(entries),
            Body::File(_) | Body::Input(_) => Err(Errno::Notdir.into()),
        }
    }

    /// The bytes of a file that may be written, and its time stamp.
    fn scratch(&mut self, file: NodeId) -> Result<(&mut Vec<u8>, &mut u64)> {
        let node = self.node_mut(file)?;
        match &mut node.body {
            Body::File(bytes) => Ok((bytes, &mut node.modified)),
            Body::Input(_) => Err(Errno::Rofs.into()),
            Body::Directory(_) => Err(Errno::Isdir.into()),
        }
    }

    /// Drops a node that nothing refers to any more.
    fn collect(&mut self, id: NodeId, account: &mut Account) {
        let dead = self
            .nodes
            .get(&id)
            .is_some_and(|node| !node.linked && node.open == 0);
        if dead
            && let Some(node) = self.nodes.remove(&id)
            && let Body::File(bytes) = node.body
        {
            account.give_back(bytes.len() as u64);
        }
    }
}

impl Node {
    const fn new(body: Body, parent: NodeId, writable: bool, now: u64) -> Self {
        Self {
            body,
            parent,
            writable,
            linked: true,
            open: 0,
            accessed: now,
            modified: now,
        }
    }

    pub(super) const fn kind(&self) -> EntryKind {
        match self.body {
            Body::Directory(_) => EntryKind::Directory,
            Body::File(_) | Body::Input(_) => EntryKind::File,
        }
    }

    pub(super) fn entries(&self) -> Result<&Entries> {
        match &self.body {
            Body::Directory(entries) => Ok(entries),
            Body::File(_) | Body::Input(_) => Err(Errno::Notdir.into()),
        }
    }
}
