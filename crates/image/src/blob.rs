//! What an image is made of, by name: a descriptor that was checked.

use std::fmt;

use oci_spec::image::{Descriptor, Digest, MediaType};
use worldcompute_fault::Result;
use worldcompute_proof::{Cid, Codec, Sha256};

use crate::refusal::{excerpt, invalid};

/// Bytes that are yet to be seen: their digest and their length (image spec, "OCI Content Descriptors").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob {
    digest: Sha256,
    size: u64,
}

impl Blob {
    /// Names `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::new(Sha256::of(bytes), bytes.len() as u64)
    }

    /// Names bytes that were hashed elsewhere.
    pub const fn new(digest: Sha256, size: u64) -> Self {
        Self { digest, size }
    }

    /// The digest of the bytes.
    pub const fn digest(&self) -> Sha256 {
        self.digest
    }

    /// How many there are.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Their name in the content store: the same digest, as a CIDv1 of raw bytes.
    pub const fn cid(&self) -> Cid {
        Cid::new(Codec::Raw, self.digest)
    }

    /// Reads a descriptor of at most `limit` bytes.
    ///
    /// # Errors
    /// `unsupported_digest`, `image_too_large`; `foreign_layer` for bytes that lie elsewhere.
    pub(crate) fn described(descriptor: &Descriptor, what: &str, limit: u64) -> Result<Self> {
        if descriptor
            .urls()
            .as_ref()
            .is_some_and(|urls| !urls.is_empty())
        {
            return Err(foreign(what));
        }
        let blob = Self::new(sha256(descriptor.digest())?, descriptor.size());
        blob.within(what, limit)
    }

    /// Refuses a blob that says of itself that it is too long.
    pub(crate) fn within(self, what: &str, limit: u64) -> Result<Self> {
        check_size(what, self.size, limit)?;
        Ok(self)
    }
}

/// Refuses what is too long.
pub(crate) fn check_size(what: &str, size: u64, limit: u64) -> Result<()> {
    if size <= limit {
        return Ok(());
    }
    let message = format!("{what} has {size} bytes: {limit} is the most");
    Err(invalid("image_too_large", message).hint("use a smaller image"))
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.digest)
    }
}

/// What a descriptor points to, by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Index,
    Manifest,
    Config,
    Layer,
    /// A layer that its maker does not let others pass on.
    ForeignLayer,
    Unknown,
}

impl Kind {
    pub(crate) fn of(media_type: &MediaType) -> Self {
        match media_type {
            MediaType::ImageIndex => Self::Index,
            MediaType::ImageManifest => Self::Manifest,
            MediaType::ImageConfig => Self::Config,
            MediaType::ImageLayer | MediaType::ImageLayerGzip | MediaType::ImageLayerZstd => {
                Self::Layer
            }
            MediaType::ImageLayerNonDistributable
            | MediaType::ImageLayerNonDistributableGzip
            | MediaType::ImageLayerNonDistributableZstd => Self::ForeignLayer,
            MediaType::Other(name) => Self::of_docker(name),
            _ => Self::Unknown,
        }
    }

    /// Docker's own names for the same things (Image Manifest V2, Schema 2).
    fn of_docker(name: &str) -> Self {
        match name {
            "application/vnd.docker.distribution.manifest.list.v2+json" => Self::Index,
            "application/vnd.docker.distribution.manifest.v2+json" => Self::Manifest,
            "application/vnd.docker.container.image.v1+json" => Self::Config,
            "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Self::Layer,
            "application/vnd.docker.image.rootfs.foreign.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Self::ForeignLayer,
            _ => Self::Unknown,
        }
    }
}

/// The media types of manifests and indexes, as a registry is asked for them.
pub(crate) const DOCUMENT_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

pub(crate) fn sha256(digest: &Digest) -> Result<Sha256> {
    parse_digest(digest.as_ref())
}

/// Reads `sha256:` and 64 lowercase hexadecimal digits.
pub(crate) fn parse_digest(text: &str) -> Result<Sha256> {
    let hex = text.strip_prefix("sha256:");
    hex.and_then(|hex| hex.parse().ok()).ok_or_else(|| {
        let message = format!("{} is no sha256 digest", excerpt(text));
        invalid("unsupported_digest", message)
            .hint("use an image whose digests are sha256: and 64 lowercase hexadecimal digits")
    })
}

pub(crate) fn unknown_type(what: &str, media_type: &MediaType) -> worldcompute_fault::Fault {
    let message = format!("{what} has the media type {}", excerpt(media_type.as_ref()));
    invalid("unsupported_media_type", message)
        .hint("use an image of the OCI image format or of Docker's schema 2")
}

pub(crate) fn foreign(what: &str) -> worldcompute_fault::Fault {
    let message =
        format!("{what} lies elsewhere, with somebody who does not let others pass it on");
    invalid("foreign_layer", message).hint("use an image whose layers are all in it")
}
