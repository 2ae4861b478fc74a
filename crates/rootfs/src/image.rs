//! A finished image.

use std::path::{Path, PathBuf};

/// An image that [`Assembly::build`](crate::Assembly::build) wrote whole: nothing else makes this type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootfsImage {
    path: PathBuf,
    size: u64,
}

impl RootfsImage {
    pub(crate) const fn new(path: PathBuf, size: u64) -> Self {
        Self { path, size }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes, holes included: a multiple of 4096.
    pub const fn size(&self) -> u64 {
        self.size
    }
}
