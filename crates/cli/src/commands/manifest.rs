//! From a manifest's file to what a daemon takes: the files it names are read, named by their content, and handed over.

use std::path::Path;
use std::time::Duration;

use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_node::api::{Client, MAX_CONTENT_BYTES, SubmitRequest, Submitted};
use worldcompute_node::{durable, manifest};
use worldcompute_proof::Cid;

/// A manifest ready to be submitted, and the bytes it names.
pub struct Prepared {
    request: SubmitRequest,
    objects: Vec<Vec<u8>>,
}

impl Prepared {
    /// Reads a manifest: signed wire form, or YAML or JSON whose files lie relative to it.
    ///
    /// # Errors
    /// WC-001 for a manifest or a file that cannot be read or is not valid.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read(
            path,
            manifest::MAX_DOCUMENT_BYTES.max(manifest::MAX_WIRE_BYTES) as u64,
        )?;
        if looks_signed(&bytes) {
            let signed = manifest::VerifiedManifest::open(&bytes)?;
            return Ok(Self {
                request: SubmitRequest::Signed(signed.bytes().to_vec()),
                objects: vec![],
            });
        }
        Self::from_document(&bytes, path.parent().unwrap_or(Path::new(".")))
    }

    /// The same from a document's text; files lie relative to `base`.
    pub fn from_document(document: &[u8], base: &Path) -> Result<Self> {
        let mut objects = Vec::new();
        let manifest = manifest::Manifest::parse(document)?.resolve(|file| {
            let bytes = read(&base.join(file), MAX_CONTENT_BYTES as u64)?;
            let cid = Cid::raw(&bytes);
            objects.push(bytes);
            Ok(cid)
        })?;
        Ok(Self {
            request: SubmitRequest::Manifest(Box::new(manifest)),
            objects,
        })
    }

    /// What would be submitted.
    pub fn request(&self) -> &SubmitRequest {
        &self.request
    }

    /// The named objects, then the manifest, to the daemon. See [`Client::submit`] for patience.
    pub async fn hand_over(self, client: &Client, patience: Option<Duration>) -> Result<Submitted> {
        for object in self.objects {
            client.add_content(object).await?;
        }
        client.submit(&self.request, patience).await
    }
}

/// A CBOR map opens with major type 5; no YAML or JSON text does, being UTF-8 (RFC 8949 3.1, RFC 3629).
fn looks_signed(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first >> 5 == 5)
}

/// A file that a manifest names, or a manifest itself, of at most so many bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    durable::read_bounded(path, limit).map_err(|fault| {
        let category = fault.category();
        // It names the path already.
        let wrapped = Fault::wc(WcCode::InvalidManifest, fault.message());
        match category {
            Category::IoFailure | Category::InvalidInput => {
                wrapped.hint("check the path; files lie relative to the manifest")
            }
            _ => wrapped,
        }
    })
}
