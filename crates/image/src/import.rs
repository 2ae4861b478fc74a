//! An image on its way in: found in its source, verified, and kept by the names of its parts.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use worldcompute_content::{ContentStore, Held};
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::{Cid, Sha256};

use crate::blob::Blob;
use crate::carried::carry;
use crate::config::ImageConfig;
use crate::document::{Document, MAX_MANIFEST_BYTES, Manifest};
use crate::image::Image;
use crate::platform::Choice;
use crate::refusal::{invalid, unproven};
use crate::source::{self, Root, Source};
use crate::unpack::{self, MAX_UNPACKED_BYTES};

/// How many indexes lead to a manifest at most.
pub const MAX_INDEX_DEPTH: usize = 4;

/// What is to be imported of a source.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which image, where there are several.
    pub choice: Choice,
    /// What it is to be called; what its source calls it, unless said.
    pub name: Option<String>,
    /// The most that its layers may unpack to together, in bytes.
    pub max_unpacked: u64,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            choice: Choice::default(),
            name: None,
            max_unpacked: MAX_UNPACKED_BYTES,
        }
    }
}

/// How far an import has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The layer that is at work, from 1.
    pub layer: usize,
    /// How many there are.
    pub layers: usize,
    /// Bytes of all layers that are there.
    pub bytes: u64,
    /// Bytes of all layers.
    pub total: u64,
}

/// An image whose every part is in the content store, verified, and stays there for as long as this lives.
pub struct Arrived {
    pub image: Image,
    /// What its source calls it.
    pub name: Option<String>,
    _held: Vec<Held>,
}

/// Brings one image in. `put` is told of every object that was not there before.
///
/// # Errors
/// Those of the source, of `progress` and of every check; what came in by then is in `put`.
pub fn bring_in(
    content: &ContentStore,
    source: &mut dyn Source,
    request: &Request,
    progress: &mut dyn FnMut(Progress) -> Result<()>,
    put: &mut Vec<Cid>,
) -> Result<Arrived> {
    let found = find(source, &request.choice)?;
    let config = source::whole(
        source.blob(&found.manifest.config)?,
        &found.manifest.config,
        "the configuration",
    )?;
    let image = Image::new(&found.blob, found.manifest, ImageConfig::parse(&config)?)?;
    check_platform(&image, &request.choice)?;
    let held = image
        .parts()
        .map(|blob| content.hold(&blob.cid()))
        .collect();
    let mut arrival = Arrival {
        content,
        source,
        image: &image,
        progress,
        unpacked: request.max_unpacked,
        put,
    };
    arrival.layers()?;
    arrival.keep(&image.manifest().config, &config)?;
    arrival.keep(&found.blob, &found.bytes)?;
    Ok(Arrived {
        image,
        name: found.name,
        _held: held,
    })
}

/// A manifest, and the bytes that it was read from.
struct Found {
    blob: Blob,
    bytes: Vec<u8>,
    manifest: Manifest,
    name: Option<String>,
}

/// Goes from the document that the source begins with, through indexes, to a manifest.
fn find(source: &mut dyn Source, choice: &Choice) -> Result<Found> {
    let Root {
        mut bytes,
        media_type,
        mut is_list,
        digest,
    } = source.root()?;
    if choice.name.is_some() && !is_list {
        return Err(not_a_list());
    }
    let mut blob = rooted(&bytes, digest)?;
    let mut document = Document::parse(&bytes, media_type.as_ref())?;
    let mut name = None;
    for _ in 0..=MAX_INDEX_DEPTH {
        let index = match document {
            Document::Manifest(manifest) => {
                return Ok(Found {
                    blob,
                    bytes,
                    manifest,
                    name,
                });
            }
            Document::Index(index) => index,
        };
        let entry = choice.of(&index, is_list)?;
        if is_list {
            name = entry.names().next().map(str::to_owned);
        }
        blob = Blob::described(&entry.descriptor, "the manifest", MAX_MANIFEST_BYTES)?;
        bytes = source::document(source, &blob)?;
        document = Document::parse(&bytes, Some(entry.descriptor.media_type()))?;
        is_list = false;
    }
    let message = format!("more than {MAX_INDEX_DEPTH} indexes, one in the other");
    Err(invalid("index_too_deep", message).hint("name one image of the index by its digest"))
}

/// What was asked for by its digest has to have it.
fn rooted(bytes: &[u8], digest: Option<Sha256>) -> Result<Blob> {
    let came = Blob::of(bytes);
    if let Some(digest) = digest {
        source::check(&came, &Blob::new(digest, came.size()), "the manifest")?;
    }
    Ok(came)
}

/// The configuration has the last word on what the image runs on: an index may say anything.
fn check_platform(image: &Image, choice: &Choice) -> Result<()> {
    let own = &image.config().platform;
    if choice.platform.takes(own) {
        return Ok(());
    }
    let message = format!("the image is for {own}, not for {}", choice.platform);
    Err(invalid("platform_not_available", message)
        .hint("name its platform with --platform, or another image"))
}

/// The layers of one image as they come in.
struct Arrival<'a> {
    content: &'a ContentStore,
    source: &'a mut dyn Source,
    image: &'a Image,
    progress: &'a mut dyn FnMut(Progress) -> Result<()>,
    /// How much more may be unpacked.
    unpacked: u64,
    put: &'a mut Vec<Cid>,
}

impl Arrival<'_> {
    fn layers(&mut self) -> Result<()> {
        let image = self.image;
        let layers = image.layers().count();
        let mut step = Progress {
            layer: 0,
            layers,
            bytes: 0,
            total: image.manifest().layer_bytes(),
        };
        for (number, (blob, diff_id)) in image.layers().enumerate() {
            step.layer = number + 1;
            let what = format!("layer {} of {layers}", step.layer);
            self.layer(blob, &what, step)?;
            self.unpacked -= unpack::verify(
                self.content.reader(&blob.cid())?,
                &what,
                diff_id,
                self.unpacked,
            )?;
            step.bytes = step.bytes.saturating_add(blob.size());
            (self.progress)(step)?;
        }
        Ok(())
    }

    /// A layer that is there, whole, is not asked for again.
    fn layer(&mut self, blob: &Blob, what: &str, step: Progress) -> Result<()> {
        if let Ok(kept) = self.content.reader(&blob.cid()) {
            return source::check(&Blob::new(blob.digest(), kept.length()), blob, what);
        }
        let arriving = Arriving {
            reader: self.source.blob(blob)?,
            blob: *blob,
            what,
            came: 0,
            step,
            progress: &mut *self.progress,
        };
        let put = self.content.put_reader_as(&blob.cid(), arriving);
        let is_new = put.map_err(|fault| match fault.code() {
            "verification_failed" => other_bytes(what, blob),
            _ => fault,
        })?;
        self.put.extend(is_new.then(|| blob.cid()));
        Ok(())
    }

    fn keep(&mut self, blob: &Blob, bytes: &[u8]) -> Result<()> {
        let is_new = self.content.put_as(&blob.cid(), bytes)?;
        self.put.extend(is_new.then(|| blob.cid()));
        Ok(())
    }
}

/// Counts what comes, and refuses the first byte too many and the last too few.
struct Arriving<'a> {
    reader: Box<dyn Read + 'a>,
    blob: Blob,
    what: &'a str,
    came: u64,
    step: Progress,
    progress: &'a mut dyn FnMut(Progress) -> Result<()>,
}

impl Read for Arriving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.came = self.came.saturating_add(read as u64);
        let is_over = read == 0 && !buffer.is_empty();
        if self.came > self.blob.size() || is_over {
            let came = Blob::new(self.blob.digest(), self.came);
            source::check(&came, &self.blob, self.what).map_err(carry)?;
        }
        let step = Progress {
            bytes: self.step.bytes.saturating_add(self.came),
            ..self.step
        };
        (self.progress)(step).map_err(carry)?;
        Ok(read)
    }
}

fn not_a_list() -> Fault {
    invalid(
        "source_not_a_list",
        "the source holds no images to select from by their names",
    )
    .hint("leave --select out: in a registry the reference is the name, and --platform chooses")
}

fn other_bytes(what: &str, blob: &Blob) -> Fault {
    unproven(
        "digest_mismatch",
        format!("{what} has other bytes than {blob}"),
    )
    .hint("get the image again; if it stays so, tell whoever made it")
}
