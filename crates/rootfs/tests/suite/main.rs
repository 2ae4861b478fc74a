//! Layers in, a disk out: what the kernel and e2fsck make of it.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod bounds;
mod cached;
mod debugfs;
mod failures;
mod hostile;
mod images;
mod inodes;
mod look;
mod model;
mod support;
mod trees;
