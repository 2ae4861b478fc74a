//! An image whose manifest and configuration were read and fit together.

use worldcompute_content::ContentStore;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Cid, Sha256};

use crate::blob::Blob;
use crate::config::{ImageConfig, MAX_CONFIG_BYTES};
use crate::document::{Document, MAX_MANIFEST_BYTES, Manifest};
use crate::refusal::invalid;

/// One image. Its name is the CID of its manifest, and so of all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    blob: Blob,
    manifest: Manifest,
    config: ImageConfig,
}

impl Image {
    pub(crate) fn new(blob: &Blob, manifest: Manifest, config: ImageConfig) -> Result<Self> {
        let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids.len());
        if layers != diff_ids {
            let message =
                format!("the manifest has {layers} layers, the configuration names {diff_ids}");
            return Err(invalid("layer_count_mismatch", message)
                .hint("get the image again from whoever made it"));
        }
        Ok(Self {
            blob: *blob,
            manifest,
            config,
        })
    }

    /// Reads an image whose manifest is in the content store.
    ///
    /// # Errors
    /// `object_missing`; `not_an_image` for other bytes; those of [`Document::parse`] and [`ImageConfig::parse`].
    pub fn read(content: &ContentStore, cid: &Cid) -> Result<Self> {
        let (bytes, manifest) = manifest(content, cid)?;
        let config = bounded(content, &manifest.config.cid(), MAX_CONFIG_BYTES)?;
        Self::new(&Blob::of(&bytes), manifest, ImageConfig::parse(&config)?)
    }

    /// Its name: the CID of its manifest.
    pub const fn cid(&self) -> Cid {
        self.blob.cid()
    }

    /// Its parts, by name.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it says to run.
    pub const fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Its layers, the lowest first, and the digests of what they unpack to.
    pub fn layers(&self) -> impl Iterator<Item = (&Blob, &Sha256)> {
        self.manifest.layers.iter().zip(&self.config.diff_ids)
    }

    /// Everything that it is made of: manifest, configuration, layers.
    pub fn parts(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.blob).chain(self.manifest.parts())
    }

    /// Bytes of all parts as they are kept; what is in it twice is kept once.
    pub fn size(&self) -> u64 {
        let parts: std::collections::BTreeSet<_> = self.parts().collect();
        parts
            .into_iter()
            .map(Blob::size)
            .fold(0, u64::saturating_add)
    }
}

impl Manifest {
    /// Reads a manifest that is in the content store, whether or not its parts are.
    ///
    /// # Errors
    /// `object_missing`; `not_an_image` for other bytes; those of [`Document::parse`].
    pub fn read(content: &ContentStore, cid: &Cid) -> Result<Self> {
        manifest(content, cid).map(|(_, manifest)| manifest)
    }

    /// What it names: the configuration, and the layers.
    pub fn parts(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

fn manifest(content: &ContentStore, cid: &Cid) -> Result<(Vec<u8>, Manifest)> {
    let bytes = bounded(content, cid, MAX_MANIFEST_BYTES)?;
    match Document::parse(&bytes, None)? {
        Document::Manifest(manifest) => Ok((bytes, manifest)),
        Document::Index(_) => {
            let message = format!("{cid} is an index of images");
            Err(invalid("not_an_image", message).hint("name one of them"))
        }
    }
}

fn bounded(content: &ContentStore, cid: &Cid, limit: u64) -> Result<Vec<u8>> {
    let size = content.size(cid).map_err(|fault| match fault.code() {
        "object_missing" => missing(cid),
        _ => fault,
    })?;
    Blob::new(cid.digest(), size).within("the object", limit)?;
    content.get(cid)
}

fn missing(cid: &Cid) -> Fault {
    Fault::new(
        Category::DependencyMissing,
        "object_missing",
        format!("no object {cid} in the content store"),
    )
    .hint("import the image: worldcompute image import")
}
