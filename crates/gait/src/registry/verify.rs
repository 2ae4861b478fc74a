//! What a manifest has to prove.

use std::path::{Path, PathBuf};

use crate::in_file::InFile;
use serde::Serialize;
use worldcompute_durable::{Mode, output_dir, read_bounded, write_atomic};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, VerifyingKey};

use super::Request;
use super::cache::{Cache, METADATA};
use super::fetch::MAX_PACK_BYTES;
use super::manifest::Manifest;

/// The digest that a manifest must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin(Sha256);

/// What was found out about a cached manifest.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// Its name.
    pub pack_name: String,
    /// Its version.
    pub pack_version: String,
    /// Its digest.
    pub digest: Sha256,
    /// The file.
    pub metadata_path: PathBuf,
    /// Where its pin would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin_path: Option<PathBuf>,
    /// What the pin says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pin_digest: String,
    /// Whether there is a pin.
    pub pin_present: bool,
    /// Whether it says this digest.
    pub pin_verified: bool,
    /// Whether the key signed it.
    pub signature_verified: bool,
    /// Why it did not.
    #[serde(skip)]
    pub signature_error: Option<String>,
    /// Who published it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub publisher: String,
    /// Where it came from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Whether the publisher is accepted.
    pub publisher_allowed: bool,
}

impl Pin {
    /// Reads `[sha256:]<64 hex digits>`; `pin_malformed` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim().to_ascii_lowercase();
        let hex = text.strip_prefix("sha256:").unwrap_or(&text);
        hex.parse().map(Self).map_err(|_| {
            Fault::new(
                Category::InvalidInput,
                "pin_malformed",
                format!("{text:?} is not a digest"),
            )
            .hint("give --pin sha256:<64 hex digits>")
        })
    }

    /// The digest.
    pub const fn digest(&self) -> Sha256 {
        self.0
    }
}

impl Verification {
    /// Whether everything that had to hold does.
    pub const fn holds(&self) -> bool {
        self.signature_verified
            && (!self.pin_present || self.pin_verified)
            && self.publisher_allowed
    }

    /// What does not hold, by stable name.
    pub fn failure_reasons(&self) -> Vec<&'static str> {
        let findings = [
            (self.pin_present && !self.pin_verified, "pin_mismatch"),
            (!self.publisher_allowed, "publisher_not_allowed"),
            (!self.signature_verified, "signature_not_verified"),
        ];
        findings
            .into_iter()
            .filter_map(|(found, name)| found.then_some(name))
            .collect()
    }
}

/// The digest of a manifest that satisfies the request: publisher, then pin, then signature.
///
/// Reasons: `publisher_not_allowed`, `pin_mismatch`, `signature_missing`, `signature_invalid`.
pub(super) fn accept(manifest: &Manifest, request: &Request) -> Result<Sha256> {
    if !publisher_allowed(manifest, &request.publishers) {
        let message = format!(
            "manifest publisher {:?} is not in the allowlist",
            manifest.publisher()
        );
        return Err(unproven(message).because(
            "publisher_not_allowed",
            "add the publisher to --publisher-allowlist if you trust it",
        ));
    }
    let digest = manifest.digest()?;
    if request.pin.is_some_and(|pin| pin.digest() != digest) {
        let message = format!("pin digest mismatch: the manifest has {digest}");
        return Err(unproven(message).because(
            "pin_mismatch",
            "check with the publisher which digest is the right one",
        ));
    }
    manifest.verify(&request.key)?;
    Ok(digest)
}

/// Examines the manifest at `path`, and the pin of `cache` or else of the cache that the path lies in.
///
/// Errors: those of reading; `invalid_input` for a file that is no manifest. What does not hold is in the result.
pub fn verify(
    path: &Path,
    cache: Option<&Cache>,
    key: &VerifyingKey,
    publishers: &[String],
) -> Result<Verification> {
    let bytes = read_bounded(path, MAX_PACK_BYTES)?;
    let manifest = Manifest::parse(&bytes)
        .map_err(super::manifest::Malformed::into_input_fault)
        .in_file(path)?;
    let digest = manifest.digest()?;
    let signed = manifest.verify(key);
    let own = cache
        .cloned()
        .or_else(|| enclosing(path, &manifest, digest));
    let pin = own
        .as_ref()
        .map(|cache| cache.pin(manifest.name()))
        .transpose()?
        .flatten();
    Ok(Verification {
        pack_name: manifest.name().to_owned(),
        pack_version: manifest.version().to_owned(),
        digest,
        metadata_path: path.to_owned(),
        pin_path: own.map(|cache| cache.pin_path(manifest.name())),
        pin_present: pin.is_some(),
        pin_verified: pin.as_deref().is_some_and(|pin| pins(pin, digest)),
        pin_digest: pin.unwrap_or_default(),
        signature_verified: signed.is_ok(),
        signature_error: signed.err().map(|fault| fault.message().to_owned()),
        publisher: manifest.publisher().to_owned(),
        source: manifest.source().to_owned(),
        publisher_allowed: publisher_allowed(&manifest, publishers),
    })
}

/// Writes the findings (`gait.registry.verification_report` 1.0.0).
pub fn report(path: &Path, found: &Verification) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(&Report::of(found)).map_err(|error| {
        Fault::new(
            Category::InternalFailure,
            "internal_failure",
            "write report",
        )
        .caused_by(error)
    })?;
    bytes.push(b'\n');
    output_dir(path.parent().unwrap_or(Path::new("")))?;
    write_atomic(path, &bytes, Mode::Private)
}

#[derive(Serialize)]
struct Report<'a> {
    schema_id: &'static str,
    schema_version: &'static str,
    created_at: &'static str,
    producer_version: &'static str,
    #[serde(flatten)]
    found: &'a Verification,
    status: &'static str,
    failure_reasons: Vec<&'static str>,
}

impl<'a> Report<'a> {
    fn of(found: &'a Verification) -> Self {
        Self {
            schema_id: "gait.registry.verification_report",
            schema_version: "1.0.0",
            // The same findings give the same report.
            created_at: "1980-01-01T00:00:00Z",
            producer_version: crate::VERSION,
            found,
            status: if found.holds() { "pass" } else { "fail" },
            failure_reasons: found.failure_reasons(),
        }
    }
}

/// Whether the text of a pin file says `digest`.
pub(super) fn pins(text: &str, digest: Sha256) -> bool {
    Pin::parse(text).is_ok_and(|pin| pin.digest() == digest)
}

fn publisher_allowed(manifest: &Manifest, publishers: &[String]) -> bool {
    let allowed = |publisher: &String| publisher.trim().eq_ignore_ascii_case(manifest.publisher());
    publishers.is_empty() || (!manifest.publisher().is_empty() && publishers.iter().any(allowed))
}

/// The cache whose layout the path follows.
fn enclosing(path: &Path, manifest: &Manifest, digest: Sha256) -> Option<Cache> {
    let digest = digest.to_string();
    let layout = [METADATA, &digest, manifest.version(), manifest.name()];
    let mut rest = path;
    for name in layout {
        if rest.file_name()?.to_str()? != name {
            return None;
        }
        rest = rest.parent()?;
    }
    Some(Cache::at(rest))
}

pub(super) fn unproven(message: impl Into<String>) -> Fault {
    Fault::new(Category::VerificationFailed, "verification_failed", message)
}
