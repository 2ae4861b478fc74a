//! Layers in, a disk out: what the kernel and e2fsck make of it.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;
mod trees;
