//! What tree do these layers make, as a disk: layers of an OCI image merged into one tree, and that written as an ext4
//! image, without root, mounts or loop devices.
//!
//! [`Assembly::new`] begins with an empty tree, [`Assembly::layer`] puts one layer after the other over it, the base first,
//! and [`Assembly::build`] writes the image. Whoever has an image in a content store gives each layer's bytes as a
//! reader, packed as they are, its digest as the name for errors, and the `rootfs.diff_ids` of the configuration, which are
//! checked. [`Cache::rootfs`] does that once for the same layers; a run gets a [copy](CachedImage::copy_to) that it may write to.
//!
//! ```
//! use worldcompute_rootfs::{Assembly, DiffId, Devices, Limits, Size};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let blobs: [(&str, Vec<u8>); 1] = [("sha256:5f70..", vec![0; 1024])];
//! # let diff_ids = [DiffId::of(&blobs[0].1)];
//! let mut assembly = Assembly::new(Limits::default(), Devices::Refuse, dir.path())?;
//! for ((name, bytes), diff_id) in blobs.iter().zip(diff_ids) {
//!     assembly = assembly.layer(name, Some(diff_id), bytes.as_slice())?;
//! }
//! let image = assembly.build(&dir.path().join("rootfs.ext4"), Size::Fitting)?;
//! assert_eq!(image.size(), 64 << 20);
//! # Ok::<(), worldcompute_fault::Fault>(())
//! ```
//!
//! **The tree** is what the OCI image specification says of layers. A whiteout hides what older layers have, wherever it
//! stands in its layer, and makes nothing. A directory over a directory keeps what is in it; everything else takes the
//! place of what was there, with all below it. A parent that no layer describes is a directory of mode 0755, of root, of
//! 1970. Nothing is written but inside of the tree: paths with `..` are refused, absolute ones begin at its root, and links
//! on the way are followed as by a process that has the tree for its root.
//!
//! **The image** is sparse and says nothing of when or where it was made. Times of change, access and creation are the
//! one time that layers tell, from 1901 to 2446; others become the nearest. Extended attributes of other systems than
//! Linux are left out.
//!
//! **Memory** holds the tree without contents, within [`Limits`]; contents go through a file without a name. All calls
//! block.

mod assembly;
mod cache;
mod ext4;
mod image;
mod layer;
mod limits;
mod merge;
mod meta;
mod paths;
mod refusal;
mod spool;
mod tar;
mod tree;
mod unpack;

pub use assembly::{Assembly, Size};
pub use cache::{Cache, CachedImage, Recipe};
pub use image::RootfsImage;
pub use layer::DiffId;
pub use limits::{
    Devices, FREE_UNPACKED, Limits, MAX_DEPTH, MAX_EXTENDED_HEADER, MAX_FILE, MAX_HARD_LINKS,
    MAX_IMAGE, MAX_LAYERS, MAX_LINK_STEPS, MAX_NAME, MAX_PATH, MAX_RATIO, MAX_SPARSE_PIECES,
    MIN_IMAGE,
};
pub use meta::{Meta, Time, Xattrs};
