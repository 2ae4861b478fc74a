//! Where the user's master key comes from.

use std::path::PathBuf;

/// Holds the master key and derives from it.
pub trait KeyProvider: Send + Sync {}

/// The master key in a file.
pub struct LocalFileKeyProvider {
    _path: PathBuf,
}

impl LocalFileKeyProvider {
    /// The key at `path`; made at the first set-up of a store.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { _path: path.into() }
    }
}

impl KeyProvider for LocalFileKeyProvider {}
