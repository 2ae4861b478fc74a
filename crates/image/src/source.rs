//! Where images come from.

mod archive;
mod layout;
mod tarball;

use std::io::Read;
use std::path::Path;

use oci_spec::image::MediaType;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::Sha256;

use crate::blob::Blob;
use crate::carried::fault_of;
use crate::document::MAX_MANIFEST_BYTES;
use crate::refusal::unproven;

pub use self::tarball::{MAX_ENTRIES, MAX_ENTRY_NAME_BYTES, MAX_HEADER_BYTES};

/// Something that holds images. What it gives is not verified.
pub trait Source {
    /// The document to begin with.
    fn root(&mut self) -> Result<Root>;

    /// The bytes of a manifest or an index.
    fn document(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>>;

    /// The bytes of a configuration or a layer.
    fn blob(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>>;
}

/// The document that a source begins with.
pub struct Root {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it was announced as.
    pub media_type: Option<MediaType>,
    /// Whether it may list images that have nothing to do with each other.
    pub is_list: bool,
    /// What it has to be, if that is known.
    pub digest: Option<Sha256>,
}

/// What is at a path: the folder of an OCI layout, or the archive of one or of `docker save`.
///
/// # Errors
/// `not_an_image`, `archive_compressed`, and those of what is found.
pub fn at(path: &Path) -> Result<Box<dyn Source>> {
    if path.is_dir() {
        return Ok(Box::new(layout::Layout::open(path)?));
    }
    archive::open(path)
}

/// A document, verified.
///
/// # Errors
/// `image_too_large`, `size_mismatch`, `digest_mismatch`; those of the source.
pub fn document(source: &mut dyn Source, blob: &Blob) -> Result<Vec<u8>> {
    let blob = blob.within("the manifest", MAX_MANIFEST_BYTES)?;
    whole(source.document(&blob)?, &blob, "the manifest")
}

/// All of a blob that fits into memory, verified: one byte more than it should have is enough to refuse it.
pub fn whole(reader: impl Read, blob: &Blob, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = reader
        .take(blob.size().saturating_add(1))
        .read_to_end(&mut bytes);
    read.map_err(|error| {
        fault_of(&error).unwrap_or_else(|| Fault::io(format_args!("read {what}"), &error))
    })?;
    check(&Blob::of(&bytes), blob, what)?;
    Ok(bytes)
}

/// Whether what came is what was named.
pub fn check(came: &Blob, named: &Blob, what: &str) -> Result<()> {
    const AGAIN: &str = "get the image again; if it stays so, tell whoever made it";
    if came.size() != named.size() {
        let message = format!(
            "{what} has {} bytes, {named} has {}",
            at_least(came, named),
            named.size()
        );
        return Err(unproven("size_mismatch", message).hint(AGAIN));
    }
    if came.digest() != named.digest() {
        let message = format!("{what} is {came}, not {named}");
        return Err(unproven("digest_mismatch", message).hint(AGAIN));
    }
    Ok(())
}

fn at_least(came: &Blob, named: &Blob) -> String {
    match came.size() > named.size() {
        true => format!("more than {}", named.size()),
        false => came.size().to_string(),
    }
}
