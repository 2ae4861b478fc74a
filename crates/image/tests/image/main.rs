//! Images from every kind of source, honest and hostile.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

mod archives;
mod documents;
mod layouts;
mod made;
mod registries;
mod rootfs;
mod server;
mod stores;
