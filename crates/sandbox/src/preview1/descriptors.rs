//! The table of open files.

use std::collections::BTreeMap;

use crate::stop::{Errno, Result};
use crate::world::{NodeId, Printer};

/// Most open files at a time.
const MAX_DESCRIPTORS: usize = 1024;
/// The directory every path starts from.
pub const PREOPEN: u32 = 3;

#[derive(Clone, Copy, Debug)]
pub enum Descriptor {
    Stdin,
    Print(Printer),
    Directory(NodeId),
    File(OpenFile),
}

#[derive(Clone, Copy, Debug)]
pub struct OpenFile {
    pub node: NodeId,
    pub offset: u64,
    pub append: bool,
    pub read: bool,
    pub write: bool,
}

impl Descriptor {
    pub const fn node(&self) -> Option<NodeId> {
        match self {
            Self::Directory(node) | Self::File(OpenFile { node, .. }) => Some(*node),
            Self::Stdin | Self::Print(_) => None,
        }
    }
}

pub struct Descriptors {
    open: BTreeMap<u32, Descriptor>,
}

impl Default for Descriptors {
    fn default() -> Self {
        let open = [
            (0, Descriptor::Stdin),
            (1, Descriptor::Print(Printer::Stdout)),
            (2, Descriptor::Print(Printer::Stderr)),
            (PREOPEN, Descriptor::Directory(NodeId::ROOT)),
        ];
        Self { open: open.into() }
    }
}

impl Descriptors {
    pub fn get(&self, fd: u32) -> Result<Descriptor> {
        Ok(*self.open.get(&fd).ok_or(Errno::Badf)?)
    }

    pub fn directory(&self, fd: u32) -> Result<NodeId> {
        match self.get(fd)? {
            Descriptor::Directory(node) => Ok(node),
            Descriptor::File(_) => Err(Errno::Notdir.into()),
            Descriptor::Stdin | Descriptor::Print(_) => Err(Errno::Badf.into()),
        }
    }

    pub fn file(&self, fd: u32) -> Result<OpenFile> {
        match self.get(fd)? {
            Descriptor::File(file) => Ok(file),
            Descriptor::Directory(_) => Err(Errno::Isdir.into()),
            Descriptor::Stdin | Descriptor::Print(_) => Err(Errno::Spipe.into()),
        }
    }

    pub fn file_mut(&mut self, fd: u32) -> Result<&mut OpenFile> {
        match self.open.get_mut(&fd) {
            Some(Descriptor::File(file)) => Ok(file),
            _ => Err(Errno::Badf.into()),
        }
    }

    pub fn node(&self, fd: u32) -> Result<NodeId> {
        Ok(self.get(fd)?.node().ok_or(Errno::Badf)?)
    }

    /// Whether another file may be opened.
    pub fn check_room(&self) -> Result<()> {
        if self.open.len() < MAX_DESCRIPTORS {
            Ok(())
        } else {
            Err(Errno::Mfile.into())
        }
    }

    /// Takes the lowest free number.
    pub fn insert(&mut self, descriptor: Descriptor) -> u32 {
        let gap = (0..).zip(self.open.keys()).find(|(fd, taken)| fd != *taken);
        let free = gap.map_or(self.open.len() as u32, |(fd, _)| fd);
        self.open.insert(free, descriptor);
        free
    }

    pub fn remove(&mut self, fd: u32) -> Result<Descriptor> {
        Ok(self.open.remove(&fd).ok_or(Errno::Badf)?)
    }

    /// Moves an open file onto the number of another, which is returned.
    pub fn renumber(&mut self, from: u32, to: u32) -> Result<Option<Descriptor>> {
        self.get(to)?;
        let moved = self.get(from)?;
        if from == to {
            return Ok(None);
        }
        self.open.remove(&from);
        Ok(self.open.insert(to, moved))
    }
}
