//! The store as its users see it: files, keys, limits, and processes that are killed.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests, which damage files on purpose"
)]

mod attack_table;
mod common;
mod core_dumps;
mod files;
mod kill;
mod kill_keys;
#[cfg(feature = "aws")]
mod kms_endpoint;
mod limits;
mod local_key;
