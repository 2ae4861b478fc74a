//! What differs between two packs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, canonicalize_json};

use super::MANIFEST_NAME;
use super::manifest::{Entry, PackType};
use super::open::{Pack, embedded_runpack, open};
use super::refs::{Context, Drift};
use super::verify::Kind;
use crate::limits::MAX_PACK_MANIFEST_BYTES;
use crate::wire_time::WireTime;

/// A comparison of two packs (`gait.pack.diff`).
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct Diff {
    pub schema_id: &'static str,
    pub schema_version: &'static str,
    pub created_at: WireTime,
    pub left_pack_id: String,
    pub right_pack_id: String,
    pub left_pack_type: String,
    pub right_pack_type: String,
    pub summary: DiffSummary,
}

/// What differs.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct DiffSummary {
    pub changed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added_files: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed_files: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed_files: Vec<String>,
    pub manifest_delta: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub context_changed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub context_runtime_only_changes: bool,
    pub context_drift_classification: Drift,
}

/// Compares two packs, each verified first: what they merely claim to hold is not compared.
///
/// Errors: those of [`open`].
pub fn diff(left: &Path, right: &Path) -> Result<Diff> {
    let left = Side::read(open(left)?)?;
    let right = Side::read(open(right)?)?;
    let summary = left.compare(&right);
    Ok(Diff {
        schema_id: "gait.pack.diff",
        schema_version: "1.0.0",
        created_at: WireTime::at(WireTime::UNDATED),
        left_pack_id: left.pack_id,
        right_pack_id: right.pack_id,
        left_pack_type: left.pack_type,
        right_pack_type: right.pack_type,
        summary,
    })
}

/// What is compared of one pack.
struct Side {
    pack_id: String,
    pack_type: String,
    manifest_digest: String,
    files: BTreeMap<String, String>,
    context: Option<Context>,
}

impl Side {
    fn read(pack: Pack) -> Result<Self> {
        let manifest_digest = match pack.kind {
            Kind::Runpack(_) => pack.report.pack_id.clone(),
            _ => manifest_digest(&pack)?,
        };
        let is_run =
            matches!(&pack.kind, Kind::Pack(manifest) if manifest.pack_type == PackType::Run);
        let context = match &pack.kind {
            Kind::Runpack(_) => Some(Context::read(&pack.archive)?),
            _ if is_run => Some(Context::read(&embedded_runpack(&pack.archive)?.archive)?),
            _ => None,
        };
        let files = match pack.kind {
            Kind::Pack(manifest) => files(manifest.contents),
            Kind::Runpack(contents) => files(contents),
            Kind::Guard(manifest) => files(manifest.contents),
        };
        Ok(Self {
            pack_id: pack.report.pack_id,
            pack_type: pack.report.pack_type,
            manifest_digest,
            files,
            context,
        })
    }

    fn compare(&self, right: &Self) -> DiffSummary {
        let only = |one: &Self, other: &Self| {
            let missing = |name: &&String| !other.files.contains_key(*name);
            one.files
                .keys()
                .filter(missing)
                .cloned()
                .collect::<Vec<_>>()
        };
        let differs = |(name, digest): (&String, &String)| {
            let other = right.files.get(name)?;
            (other != digest).then(|| name.clone())
        };
        let (added, removed) = (only(right, self), only(self, right));
        let changed: Vec<String> = self.files.iter().filter_map(differs).collect();
        let drift = match (&self.context, &right.context) {
            (Some(left), Some(right)) => left.drift(right),
            _ => Drift::None,
        };
        let manifest_delta =
            self.manifest_digest != right.manifest_digest || self.pack_type != right.pack_type;
        let files_differ = !(added.is_empty() && removed.is_empty() && changed.is_empty());
        DiffSummary {
            changed: manifest_delta || files_differ || drift != Drift::None,
            added_files: added,
            removed_files: removed,
            changed_files: changed,
            manifest_delta,
            context_changed: drift != Drift::None,
            context_runtime_only_changes: drift == Drift::RuntimeOnly,
            context_drift_classification: drift,
        }
    }
}

/// The digest of a manifest as it is, signatures included.
pub(super) fn manifest_digest(pack: &Pack) -> Result<String> {
    let name = match pack.kind {
        Kind::Runpack(_) => "manifest.json",
        _ => MANIFEST_NAME,
    };
    let bytes = pack.archive.bytes(name, MAX_PACK_MANIFEST_BYTES as u64)?;
    Ok(Sha256::of(canonicalize_json(&bytes)?).to_string())
}

fn files(contents: Vec<Entry>) -> BTreeMap<String, String> {
    let entries = contents.into_iter();
    entries
        .map(|entry| (entry.path, entry.sha256.to_ascii_lowercase()))
        .collect()
}
