//! Manifests and indexes: which of the two a document is, and what it names.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde::de::DeserializeOwned;
use serde_json::Value;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::parse_json_within;

use crate::blob::{self, Blob, Kind};
use crate::config::MAX_CONFIG_BYTES;
use crate::platform::Platform;
use crate::refusal::invalid;

/// The largest manifest or index, in bytes: what registries take (distribution spec, "Pushing Manifests").
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// The most layers of an image. Docker's own limit is 127.
pub const MAX_LAYERS: usize = 128;
/// The most entries of an index.
pub const MAX_INDEX_ENTRIES: usize = 1_000;
/// The largest image, in bytes of its layers as they are carried.
pub const MAX_IMAGE_BYTES: u64 = 8 << 30;

/// What names an image, or a choice of images.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// A choice, by platform or by name.
    Index(Index),
    /// One image.
    Manifest(Manifest),
}

/// One image: its configuration and its layers, the lowest first (image spec, "Image Manifest").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What to run, and what the layers unpack to.
    pub config: Blob,
    /// Archives of changes, in the order in which they are applied.
    pub layers: Vec<Blob>,
}

/// A choice of images (image spec, "Image Index").
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    pub(crate) entries: Vec<Entry>,
}

/// One of the images of an index, or another index.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) descriptor: Descriptor,
    pub(crate) platform: Option<Platform>,
}

impl Document {
    /// Reads a document. `declared` is the media type that it was announced with, if it was.
    ///
    /// Annotations and whatever is not known are ignored.
    ///
    /// # Errors
    /// `invalid_json`; `schema1_refused`; `invalid_manifest_document` for what is neither or both, or not what was
    /// announced; `unsupported_media_type`, `unsupported_digest`, `foreign_layer`, `image_too_large`.
    pub fn parse(bytes: &[u8], declared: Option<&MediaType>) -> Result<Self> {
        let value = parse_json_within(bytes, MAX_MANIFEST_BYTES as usize)?;
        check_version(&value)?;
        match kind(&value, declared)? {
            Kind::Index => Index::new(&read(value)?).map(Self::Index),
            _ => Manifest::new(&read(value)?).map(Self::Manifest),
        }
    }
}

impl Manifest {
    fn new(manifest: &ImageManifest) -> Result<Self> {
        let config = manifest.config();
        if Kind::of(config.media_type()) != Kind::Config {
            return Err(blob::unknown_type("the configuration", config.media_type()));
        }
        let count = manifest.layers().len();
        if count > MAX_LAYERS {
            let message = format!("an image of {count} layers: {MAX_LAYERS} is the most");
            return Err(invalid("too_many_layers", message).hint("squash the image's layers"));
        }
        let read = Self {
            config: Blob::described(config, "the configuration", MAX_CONFIG_BYTES)?,
            layers: manifest
                .layers()
                .iter()
                .enumerate()
                .map(layer)
                .collect::<Result<_>>()?,
        };
        Blob::new(read.config.digest(), read.layer_bytes()).within("the image", MAX_IMAGE_BYTES)?;
        Ok(read)
    }

    /// Bytes of all layers as they are carried; a layer that is there twice counts twice.
    pub fn layer_bytes(&self) -> u64 {
        let sizes = self.layers.iter().map(Blob::size);
        sizes.fold(0, u64::saturating_add)
    }
}

fn layer((number, descriptor): (usize, &Descriptor)) -> Result<Blob> {
    let what = format!("layer {}", number + 1);
    match Kind::of(descriptor.media_type()) {
        Kind::Layer => Blob::described(descriptor, &what, MAX_IMAGE_BYTES),
        Kind::ForeignLayer => Err(blob::foreign(&what)),
        _ => Err(blob::unknown_type(&what, descriptor.media_type())),
    }
}

impl Index {
    fn new(index: &ImageIndex) -> Result<Self> {
        let count = index.manifests().len();
        if count > MAX_INDEX_ENTRIES {
            let message = format!("an index of {count} images: {MAX_INDEX_ENTRIES} is the most");
            return Err(invalid("too_many_index_entries", message)
                .hint("name one image of it by its digest"));
        }
        let entries = index.manifests().iter().cloned().map(Entry::new);
        Ok(Self {
            entries: entries.collect(),
        })
    }
}

impl Entry {
    fn new(descriptor: Descriptor) -> Self {
        Self {
            kind: Kind::of(descriptor.media_type()),
            platform: descriptor.platform().as_ref().map(Platform::of),
            descriptor,
        }
    }

    /// What the maker of a layout or an archive called it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        const NAMES: [&str; 2] = [
            "io.containerd.image.name",
            "org.opencontainers.image.ref.name",
        ];
        let annotations: Option<&HashMap<_, _>> = self.descriptor.annotations().as_ref();
        NAMES
            .into_iter()
            .filter_map(move |name| annotations?.get(name).map(String::as_str))
    }
}

/// Docker's first schema carries its layers without their digests' being those of the bytes: no such image can be verified.
fn check_version(value: &Value) -> Result<()> {
    let media_type = value
        .get("mediaType")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let is_first = value
        .get("schemaVersion")
        .is_some_and(|version| version == 1)
        || media_type.starts_with("application/vnd.docker.distribution.manifest.v1");
    if is_first {
        return Err(invalid(
            "schema1_refused",
            "an image in Docker's schema 1, which cannot be verified",
        )
        .hint("push the image again with a program of the last years, which makes schema 2"));
    }
    match value.get("schemaVersion") {
        Some(version) if version == 2 => Ok(()),
        _ => Err(ambiguous("schemaVersion is not 2")),
    }
}

/// A document that could be read as either is read as neither: two readers would see two images (CVE-2021-41190).
fn kind(value: &Value, declared: Option<&MediaType>) -> Result<Kind> {
    let has = |name| value.get(name).is_some();
    let shape = match (has("manifests"), has("config") || has("layers")) {
        (true, false) => Kind::Index,
        (false, true) => Kind::Manifest,
        (true, true) => return Err(ambiguous("it is a manifest and an index at once")),
        (false, false) => return Err(ambiguous("it is neither a manifest nor an index")),
    };
    let own = value
        .get("mediaType")
        .and_then(Value::as_str)
        .map(MediaType::from);
    for media_type in own.iter().chain(declared) {
        match Kind::of(media_type) {
            told if told == shape => {}
            Kind::Index | Kind::Manifest => {
                return Err(ambiguous("its media type is not that of what it holds"));
            }
            _ => return Err(blob::unknown_type("the document", media_type)),
        }
    }
    Ok(shape)
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|error| ambiguous("it lacks what the format asks for").caused_by(error))
}

fn ambiguous(why: &str) -> Fault {
    invalid(
        "invalid_manifest_document",
        format!("no image manifest: {why}"),
    )
    .hint("check that the source is an image, and how it was made")
}
