//! The guest's files: a tree in memory, read-only but for `/out`.
//!
//! There is nothing behind it, so there is nothing to escape to. It has no links of any kind. A path is resolved below
//! the directory it is given with, and `..` does not leave that directory.

mod entries;
mod tree;
mod walk;

pub use tree::{EntryKind, Filesystem, Listed, NodeId, SetTimes, Stat};
pub use walk::OpenHow;

#[cfg(test)]
mod tests;
