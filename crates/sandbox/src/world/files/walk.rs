//! Paths: resolving them, and everything that is done by path.

use super::entries::Entries;
use super::tree::{Body, EntryKind, Filesystem, NodeId};
use crate::request::{MAX_NAME, MAX_PATH};
use crate::stop::{Errno, Result};
use crate::world::Account;

/// How to open a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenHow {
    pub create: bool,
    /// With `create`: fail if it is there.
    pub exclusive: bool,
    pub truncate: bool,
    /// Fail unless it is a directory.
    pub directory: bool,
    pub write: bool,
}

/// Where a path leads.
#[derive(Clone, Copy, Debug)]
pub enum Walk<'p> {
    /// To a directory by `.`, `..` or nothing at all.
    Directory(NodeId),
    /// To a place in a directory, taken or not. `slash`: only a directory may be there.
    Place {
        parent: NodeId,
        name: &'p str,
        node: Option<NodeId>,
        slash: bool,
    },
}

impl Filesystem {
    /// Resolves `path` below `base`.
    pub fn walk<'p>(&self, base: NodeId, path: &'p str) -> Result<Walk<'p>> {
        check_path(path)?;
        let mut parts = path
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .peekable();
        let slash = path.ends_with('/') || path.ends_with("/.");
        // The way back: `..` may undo what this path has done, and no more.
        let mut way = Vec::new();
        let mut dir = base;
        while let Some(part) = parts.next() {
            if part == ".." {
                dir = way.pop().ok_or(Errno::Perm)?;
                continue;
            }
            if part.len() > MAX_NAME {
                return Err(Errno::NameTooLong.into());
            }
            let node = self.entry(dir, part)?;
            if parts.peek().is_none() {
                return Ok(Walk::Place {
                    parent: dir,
                    name: part,
                    node,
                    slash,
                });
            }
            way.push(dir);
            dir = node.ok_or(Errno::Noent)?;
            self.node(dir)?.entries()?;
        }
        Ok(Walk::Directory(dir))
    }

    /// The node a path leads to.
    pub fn lookup(&self, base: NodeId, path: &str) -> Result<NodeId> {
        match self.walk(base, path)? {
            Walk::Directory(dir) => Ok(dir),
            Walk::Place { node, slash, .. } => {
                let node = node.ok_or(Errno::Noent)?;
                if slash {
                    self.node(node)?.entries()?;
                }
                Ok(node)
            }
        }
    }

    /// Opens a file or directory; the caller retains it.
    pub fn open(
        &mut self,
        base: NodeId,
        path: &str,
        how: OpenHow,
        account: &mut Account,
        now: u64,
    ) -> Result<NodeId> {
        let node = match self.walk(base, path)? {
            Walk::Place {
                parent,
                name,
                node: None,
                slash,
            } if how.create => {
                if slash || how.directory {
                    return Err(Errno::Noent.into());
                }
                self.check_writable(parent)?;
                return self.insert(parent, name, Body::File(Vec::new()), now);
            }
            Walk::Place { node: None, .. } => return Err(Errno::Noent.into()),
            Walk::Place { node: Some(_), .. } if how.create && how.exclusive => {
                return Err(Errno::Exist.into());
            }
            Walk::Place {
                node: Some(node),
                slash,
                ..
            } => {
                if slash || how.directory {
                    self.node(node)?.entries()?;
                }
                node
            }
            Walk::Directory(dir) => dir,
        };
        self.open_existing(node, how, account, now)?;
        Ok(node)
    }

    pub fn create_dir(&mut self, base: NodeId, path: &str, now: u64) -> Result<()> {
        match self.walk(base, path)? {
            Walk::Place {
                parent,
                name,
                node: None,
                ..
            } => {
                self.check_writable(parent)?;
                self.insert(parent, name, Body::Directory(Entries::default()), now)
                    .map(|_| ())
            }
            Walk::Place { .. } | Walk::Directory(_) => Err(Errno::Exist.into()),
        }
    }

    pub fn remove_dir(
        &mut self,
        base: NodeId,
        path: &str,
        account: &mut Account,
        now: u64,
    ) -> Result<()> {
        let (parent, name, node) = self.taken(base, path)?;
        if !self.node(node)?.entries()?.is_empty() {
            return Err(Errno::Notempty.into());
        }
        self.remove(parent, name, account, now)
    }

    pub fn unlink(
        &mut self,
        base: NodeId,
        path: &str,
        account: &mut Account,
        now: u64,
    ) -> Result<()> {
        let (parent, name, node) = self.taken(base, path)?;
        match self.node(node)?.kind() {
            EntryKind::Directory => Err(Errno::Isdir.into()),
            EntryKind::File => self.remove(parent, name, account, now),
        }
    }

    /// Moves an entry, over a file or an empty directory of the same kind if there is one.
    pub fn rename(
        &mut self,
        from: (NodeId, &str),
        to: (NodeId, &str),
        account: &mut Account,
        now: u64,
    ) -> Result<()> {
        let (old_parent, old_name, node) = self.taken(from.0, from.1)?;
        let Walk::Place {
            parent,
            name,
            node: there,
            slash,
        } = self.walk(to.0, to.1)?
        else {
            return Err(Errno::Inval.into());
        };
        self.check_writable(parent)?;
        let kind = self.node(node)?.kind();
        if slash && kind == EntryKind::File {
            return Err(Errno::Notdir.into());
        }
        if !self.node(parent)?.linked {
            return Err(Errno::Noent.into());
        }
        if self.is_within(parent, node, account)? {
            return Err(Errno::Inval.into());
        }
        if there == Some(node) {
            return Ok(());
        }
        if let Some(there) = there {
            self.check_replaceable(there, kind)?;
            self.remove(parent, name, account, now)?;
        }
        self.relink((old_parent, old_name), (parent, name), now)
    }

    fn open_existing(
        &mut self,
        node: NodeId,
        how: OpenHow,
        account: &mut Account,
        now: u64,
    ) -> Result<()> {
        if !how.write && !how.truncate {
            return Ok(());
        }
        if self.node(node)?.kind() == EntryKind::Directory {
            return Err(Errno::Isdir.into());
        }
        self.check_writable(node)?;
        if how.truncate {
            self.set_size(node, 0, account, now)
        } else {
            Ok(())
        }
    }

    /// A place that is taken, and whose entry may be removed.
    fn taken<'p>(&self, base: NodeId, path: &'p str) -> Result<(NodeId, &'p str, NodeId)> {
        match self.walk(base, path)? {
            Walk::Directory(_) => Err(Errno::Inval.into()),
            Walk::Place { node: None, .. } => Err(Errno::Noent.into()),
            Walk::Place {
                parent,
                name,
                node: Some(node),
                slash,
            } => {
                if slash {
                    self.node(node)?.entries()?;
                }
                self.check_writable(parent)?;
                Ok((parent, name, node))
            }
        }
    }

    fn check_writable(&self, node: NodeId) -> Result<()> {
        if self.node(node)?.writable {
            Ok(())
        } else {
            Err(Errno::Rofs.into())
        }
    }

    fn check_replaceable(&self, there: NodeId, by: EntryKind) -> Result<()> {
        let there = self.node(there)?;
        match (there.kind(), by) {
            (EntryKind::File, EntryKind::File) => Ok(()),
            (EntryKind::File, EntryKind::Directory) => Err(Errno::Notdir.into()),
            (EntryKind::Directory, EntryKind::File) => Err(Errno::Isdir.into()),
            (EntryKind::Directory, EntryKind::Directory) if there.entries()?.is_empty() => Ok(()),
            (EntryKind::Directory, EntryKind::Directory) => Err(Errno::Notempty.into()),
        }
    }

    /// Whether `node` is `ancestor` or lies below it.
    fn is_within(&self, mut node: NodeId, ancestor: NodeId, account: &mut Account) -> Result<bool> {
        while node != ancestor {
            account.looks_up(1)?;
            if node == NodeId::ROOT {
                return Ok(false);
            }
            node = self.node(node)?.parent;
        }
        Ok(true)
    }
}

fn check_path(path: &str) -> Result<()> {
    if path.len() > MAX_PATH {
        return Err(Errno::NameTooLong.into());
    }
    if path.is_empty() {
        return Err(Errno::Noent.into());
    }
    if path.contains('\0') {
        return Err(Errno::Ilseq.into());
    }
    if path.starts_with('/') {
        return Err(Errno::Perm.into());
    }
    Ok(())
}
