//! What a store is opened with.

use std::path::PathBuf;

/// Where the embedded engine keeps its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePath {
    /// In this file, created with mode 0600, in a directory that only its owner enters. `.lock`, `.anchor`, `-wal` and `-shm` files of the same name lie beside it.
    File(PathBuf),
    /// In memory: gone when the last handle is dropped.
    Memory,
}

/// Where a store lives and whose it is.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    pub(crate) path: StorePath,
    pub(crate) anchor: Option<PathBuf>,
    pub(crate) tenant: String,
    pub(crate) user: String,
}

impl StoreConfig {
    /// The store at `path` of tenant `local`, user `local`.
    pub fn new(path: StorePath) -> Self {
        Self {
            path,
            anchor: None,
            tenant: "local".to_owned(),
            user: "local".to_owned(),
        }
    }

    /// Where to remember, outside of the table, how far each partition has come; by default beside the table.
    ///
    /// A table that is put back as it was earlier is recognised by it. Whoever can put both files back is not.
    #[must_use]
    pub fn anchor(mut self, path: impl Into<PathBuf>) -> Self {
        self.anchor = Some(path.into());
        self
    }

    /// The tenant that the keys are bound to (an id, see [`crate::Id`]).
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// The user that the keys are bound to (an id, see [`crate::Id`]).
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }
}
