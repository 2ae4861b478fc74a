//! From layers to an image.

use std::fmt::Display;
use std::io::Read;
use std::path::Path;

use worldcompute_durable::{AtomicFile, Mode};
use worldcompute_fault::{Category, Fault, Result};

use crate::cache::Recipe;
use crate::ext4::{self, BLOCK_LEN, Identity, Plan};
use crate::image::RootfsImage;
use crate::layer::DiffId;
use crate::limits::{Devices, Limits, MAX_IMAGE, MAX_LAYERS, MIN_IMAGE};
use crate::merge::Merge;
use crate::refusal::{in_layer, refuse};

/// How large an image is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Size {
    /// 1.1 times the unpacked layers and at least 64 MiB; more where many small files need it.
    #[default]
    Fitting,
    /// So many bytes, rounded up to whole blocks of 4 KiB.
    Declared(u64),
    /// As [`Size::Fitting`], and so many bytes more, for whoever writes to it later. Holes take no room until then.
    WithRoom(u64),
}

/// Layers on their way to an image.
///
/// An error drops what was there until then: nothing is left, on disk or in memory.
#[must_use = "layers become an image by `build`"]
pub struct Assembly {
    merge: Merge,
    layers: Vec<DiffId>,
    devices: Devices,
}

impl Assembly {
    /// An empty tree. What files hold is kept meanwhile in `scratch`, a directory, in a file without a name: as
    /// much room as the unpacked layers.
    ///
    /// # Errors
    /// What the disk says.
    pub fn new(limits: Limits, devices: Devices, scratch: &Path) -> Result<Self> {
        Ok(Self {
            merge: Merge::new(limits, devices, scratch)?,
            layers: Vec::new(),
            devices,
        })
    }

    /// Puts a layer over the others: a tar archive, packed with gzip or zstd or not at all, whatever its media type
    /// says. `name` is what errors call it. Where `id` is given, the unpacked bytes must have that digest.
    ///
    /// # Errors
    /// All name the layer. `layer_truncated`, `layer_corrupt`, `unsupported_compression`, `invalid_archive`;
    /// `layer_digest_mismatch`; `too_many_layers`, `too_many_entries`, `too_much_metadata`, `unpacked_too_large`,
    /// `compression_ratio_exceeded`, `entry_too_large`, `extended_header_too_large`, `too_many_links`,
    /// `directory_too_large` past the limits;
    /// `path_not_confined`, `path_too_long`, `path_too_deep`, `symlink_loop`, `parent_not_directory`, `invalid_path`,
    /// `invalid_symlink`, `invalid_whiteout`, `hard_link_missing`, `hard_link_to_directory`, `device_refused`,
    /// `invalid_device`, `invalid_xattr`, `xattrs_too_large`, `invalid_sparse_map`, `unsupported_entry` for what it
    /// holds; what the disk and the reader say.
    pub fn layer(
        mut self,
        name: impl Display,
        id: Option<DiffId>,
        source: impl Read,
    ) -> Result<Self> {
        match self.apply(id, source) {
            Ok(()) => Ok(self),
            Err(fault) => Err(in_layer(name, fault)),
        }
    }

    /// The digests of the layers so far, unpacked, in order.
    pub fn diff_ids(&self) -> &[DiffId] {
        &self.layers
    }

    /// What is done with device nodes.
    pub const fn devices(&self) -> Devices {
        self.devices
    }

    /// Writes the tree as an ext4 image to `path`, mode 0600: on stable storage when this returns, and not there at
    /// all, nor any part of it, when it fails. The directory must exist.
    ///
    /// The same layers, policy and size give the same bytes, whoever writes them, when and where.
    ///
    /// # Errors
    /// `rootfs_too_small`, with the size that would do; `rootfs_too_large` past [`MAX_IMAGE`];
    /// `rootfs_content_too_large` past [`Limits::max_image`]; what the disk says.
    pub fn build(mut self, path: &Path, size: Size) -> Result<RootfsImage> {
        let (plan, size) = self.plan(size)?;
        self.merge.spool.flush()?;
        let mut file = AtomicFile::create(path, Mode::Private)?;
        let identity = Identity::of(&self.digest(size));
        let Merge { tree, spool, .. } = &self.merge;
        let written = ext4::write(tree, spool, &plan, &identity, size, &mut file);
        written?;
        file.commit()?;
        Ok(RootfsImage::new(path.to_owned(), size))
    }

    fn apply(&mut self, id: Option<DiffId>, source: impl Read) -> Result<()> {
        if self.layers.len() >= MAX_LAYERS {
            let message = format!("{MAX_LAYERS} layers are the most");
            return Err(refuse("too_many_layers", message, "flatten the image"));
        }
        let found = self.merge.apply(source)?;
        if id.is_some_and(|id| id != found) {
            let message = format!("is {found} when unpacked");
            let hint =
                "fetch the image again: the layer is not the one that its configuration names";
            let fault = Fault::new(
                Category::VerificationFailed,
                "layer_digest_mismatch",
                message,
            );
            return Err(fault.hint(hint));
        }
        self.layers.push(found);
        Ok(())
    }

    fn plan(&self, size: Size) -> Result<(Plan, u64)> {
        self.check_content()?;
        let size = match size {
            Size::Fitting => self.fitting(),
            Size::Declared(size) => size,
            Size::WithRoom(room) => self.fitting().saturating_add(room),
        };
        if size > MAX_IMAGE {
            return Err(too_large(size));
        }
        let size = size.next_multiple_of(BLOCK_LEN);
        let plan = Plan::new(&self.merge.tree, size);
        plan.map(|plan| (plan, size))
            .ok_or_else(|| self.too_small(size))
    }

    /// Small pieces take whole blocks: little that was unpacked may fill a disk.
    fn check_content(&self) -> Result<()> {
        let (content, max) = (Plan::content(&self.merge.tree), self.merge.limits.max_image);
        if content <= max {
            return Ok(());
        }
        let message = format!("the layers take {content} bytes of a disk: {max} is the most");
        let hint = "use a smaller image, or files with fewer holes";
        Err(refuse("rootfs_content_too_large", message, hint))
    }

    /// What the contract says, or a tenth more than the tree needs.
    fn fitting(&self) -> u64 {
        let told = self.merge.unpacked.saturating_mul(11).div_ceil(10);
        let told = told.max(MIN_IMAGE);
        let tree = &self.merge.tree;
        if told > MAX_IMAGE || Plan::new(tree, told.next_multiple_of(BLOCK_LEN)).is_some() {
            return told;
        }
        let least = Plan::least(tree, MAX_IMAGE).unwrap_or(MAX_IMAGE);
        least.saturating_add(least / 10)
    }

    fn too_small(&self, size: u64) -> Fault {
        let Some(least) = Plan::least(&self.merge.tree, MAX_IMAGE) else {
            return too_large(size);
        };
        let message = format!("the layers do not fit into {size} bytes: {least} are needed");
        let hint = "declare a larger disk, with room for what the job writes";
        refuse("rootfs_too_small", message, hint)
    }

    /// All that the image's bytes follow from.
    fn digest(&self, size: u64) -> [u8; 32] {
        Recipe {
            layers: &self.layers,
            devices: self.devices,
            size: Size::Declared(size),
        }
        .digest()
    }
}

fn too_large(size: u64) -> Fault {
    let message = format!("an image of {size} bytes: {MAX_IMAGE} is the most");
    refuse("rootfs_too_large", message, "use a smaller image")
}
