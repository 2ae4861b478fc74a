//! What a store is opened with.

use std::path::PathBuf;

/// Where the embedded engine keeps its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePath {
    /// In this file, created with mode 0600.
    File(PathBuf),
    /// In memory: gone when the last handle is dropped.
    Memory,
}

/// Where a store lives and whose it is.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    pub(crate) path: StorePath,
    pub(crate) tenant: String,
    pub(crate) user: String,
}

impl StoreConfig {
    /// The store at `path` of tenant `local`, user `local`.
    pub fn new(path: StorePath) -> Self {
        Self {
            path,
            tenant: "local".to_owned(),
            user: "local".to_owned(),
        }
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
