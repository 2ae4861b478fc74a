//! Container images: brought in from where they are, verified, and kept by name.
//!
//! - A [`Source`] is an OCI layout, an archive ([`source::at`]) or a [`Registry`]. What it gives is not trusted.
//! - [`ImageStore::import`] finds one image in it by [`Choice`], checks every digest, every size and every `diff_id`, and keeps
//!   manifest, configuration and layers in the content store, pinned as `image:<cid>`. It is all or nothing.
//! - An image's name is the CID of its manifest: its digest in any registry, spelled as a CID.
//! - [`ImageConfig::process`] says what runs for a job, [`User::resolve`] as whom.
//! - [`rootfs`] makes a disk of its layers.
//!
//! Limits are the constants `MAX_*`. Everything blocks: from async code, call it where blocking is allowed.

mod blob;
mod carried;
mod config;
mod document;
mod furnishing;
mod image;
mod import;
mod list;
mod platform;
mod process;
mod refusal;
pub mod registry;
mod rootfs;
pub mod source;
mod store;
mod unpack;
mod users;

pub use blob::Blob;
pub use config::{
    ImageConfig, MAX_CONFIG_BYTES, MAX_CREATED_BYTES, MAX_PATH_BYTES, MAX_WORD_BYTES, MAX_WORDS,
};
pub use document::{
    Document, Index, MAX_IMAGE_BYTES, MAX_INDEX_ENTRIES, MAX_LAYERS, MAX_MANIFEST_BYTES, Manifest,
};
pub use furnishing::{Furnishing, OUTPUT_PATH, STDIN_PATH};
pub use image::Image;
pub use import::{MAX_INDEX_DEPTH, Progress, Request};
pub use list::{Listed, MAX_IMAGES, MAX_LIST_BYTES, MAX_NAME_BYTES, MAX_NAMES, Removed};
pub use platform::{Choice, Platform};
pub use process::{DEFAULT_PATH, Overrides, Process};
pub use registry::{Reference, Registry};
pub use rootfs::{Making, rootfs};
pub use source::Source;
pub use store::{ImageStore, Inspection, Layer};
pub use unpack::{MAX_UNPACKED_BYTES, MAX_WINDOW_BYTES};
pub use users::{Identity, MAX_ACCOUNTS_BYTES, MAX_GROUPS, User};
