//! Packs of authorizations: a decision and the evidence it rests on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use worldcompute_durable::{open_to_read, read_bounded};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, canonicalize_json, parse_json_within};

use super::manifest::{Manifest, is_digest};
use super::payload::{disagree, read};
use super::{Build, Built, PackType, Part};
use crate::archive::{Archive, ReadAt, fault_of};
use crate::in_file::InFile;
use crate::limits::{MAX_PACK_RECORD_BYTES, MAX_TRACE_BYTES, invalid};
use crate::signature::unverified;
use crate::text::clean_path;
use crate::trace;
use crate::wire_time::WireTime;

/// The bundle's name in a pack.
pub(super) const BUNDLE_NAME: &str = "authorization_bundle.json";
const SCHEMA_ID: &str = "gait.gate.authorization_bundle";

/// `authorization_bundle.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct Bundle {
    pub schema_id: String,
    pub schema_version: String,
    pub created_at: WireTime,
    pub producer_version: String,
    pub trace_id: String,
    pub policy_digest: String,
    pub intent_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub approval_audit_path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub approval_audit_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credential_evidence_path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credential_evidence_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub delegation_audit_path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub delegation_audit_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub context_evidence_path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub context_evidence_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub outcome_path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub outcome_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub outcome_status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze_window: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_switch: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Value>,
}

/// Builds the pack of the authorization bundle at `path`; the evidence it links lies beside or below it.
///
/// Errors: `invalid_input` for what is no bundle or links out of its folder, `verification_failed` for evidence that
/// has another digest than the bundle says; those of reading and writing.
pub fn build_authorization(path: &Path, build: &Build<'_>) -> Result<Built> {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let bytes = read_bounded(path, MAX_PACK_RECORD_BYTES as u64)?;
    let mut bundle = Bundle::parse(&bytes).in_file(path)?;
    bundle.complete(build.producer_version)?;
    let mut parts = Vec::new();
    let mut packed = BTreeSet::new();
    for (link, digest) in bundle.links_mut() {
        if let Some(part) = bind(&folder, link, digest)? {
            parts.extend(packed.insert(part.path.clone()).then_some(part));
        }
    }
    bundle.check_links().map_err(invalid)?;
    let trace = below(&folder, &bundle.trace_path)?;
    bundle.check_trace(&read_bounded(&trace, MAX_TRACE_BYTES as u64)?)?;
    parts.push(Part::json(BUNDLE_NAME, &bundle)?);
    build.write(PackType::Authorization, &bundle.trace_id, parts, &folder)
}

/// Checks that the bundle of a pack is complete, and that its evidence is what it says.
pub(super) fn check<R: ReadAt>(archive: &Archive<R>, manifest: &Manifest) -> Result<()> {
    let mut bundle: Bundle = read(archive, BUNDLE_NAME)?;
    bundle.check().map_err(unverified)?;
    bundle.check_links().map_err(unverified)?;
    if bundle.trace_id != manifest.source_ref {
        return Err(disagree(
            "authorization bundle trace_id",
            "manifest source_ref",
        ));
    }
    for (link, digest) in bundle.links_mut() {
        if link.is_empty() {
            continue;
        }
        let inside = archive_path(link)
            .ok_or_else(|| unverified("an evidence path leads out of its folder"))?;
        if archive.entry(&inside).is_none() {
            return Err(unverified(format!("missing {inside}")));
        }
        let actual = match is_json(link) {
            true => json_digest(&archive.bytes(&inside, MAX_PACK_RECORD_BYTES as u64)?)?,
            false => archive.digest(&inside)?,
        };
        if actual.to_string() != digest.to_ascii_lowercase() {
            return Err(unverified(format!("{inside} digest mismatch")));
        }
    }
    let trace = archive_path(&bundle.trace_path).unwrap_or_default();
    bundle.check_trace(&archive.bytes(&trace, MAX_TRACE_BYTES as u64)?)
}

impl Bundle {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let refused = |why: &str| invalid(format!("parse authorization bundle: {why}"));
        let value = parse_json_within(bytes, MAX_PACK_RECORD_BYTES)
            .map_err(|fault| refused(fault.message()))?;
        serde_json::from_value(value).map_err(|error| refused(&error.to_string()))
    }

    fn complete(&mut self, producer_version: &str) -> Result<()> {
        let default = |text: &mut String, value: &str| {
            if text.trim().is_empty() {
                value.clone_into(text);
            }
        };
        default(&mut self.schema_id, SCHEMA_ID);
        default(&mut self.schema_version, "1.0.0");
        default(&mut self.producer_version, producer_version);
        self.created_at = WireTime::at(self.created_at.get().unwrap_or(WireTime::UNDATED));
        self.trace_id = self.trace_id.trim().to_owned();
        self.policy_digest = self.policy_digest.trim().to_ascii_lowercase();
        self.intent_digest = self.intent_digest.trim().to_ascii_lowercase();
        self.check().map_err(invalid)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.schema_id != SCHEMA_ID || self.schema_version != "1.0.0" {
            return Err("authorization bundle schema must be gait.gate.authorization_bundle 1.0.0");
        }
        let bound = is_digest(&self.policy_digest) && is_digest(&self.intent_digest);
        if !bound || self.trace_id.trim().is_empty() || self.created_at.is_unset() {
            return Err(
                "authorization bundle requires created_at, trace_id, policy_digest, and intent_digest",
            );
        }
        match &*self.outcome_status {
            "" | "allow" | "block" | "dry_run" | "require_approval" => Ok(()),
            _ => Err(
                "authorization bundle outcome_status must be allow|block|dry_run|require_approval",
            ),
        }
    }

    fn check_links(&self) -> Result<(), &'static str> {
        if self.trace_path.is_empty() || self.trace_digest.is_empty() {
            return Err("authorization bundle trace_path and trace_digest are required");
        }
        let outcome = !self.outcome_path.is_empty() && !self.outcome_digest.is_empty();
        if !self.outcome_status.is_empty() && !outcome {
            return Err(
                "authorization bundle outcome status requires outcome_path and outcome_digest",
            );
        }
        Ok(())
    }

    /// The bundle says of the decision what its trace says; who signed the trace is looked at by those who have a key.
    fn check_trace(&self, trace: &[u8]) -> Result<()> {
        let trace = trace::claims(trace)
            .map_err(|fault| unverified(format!("authorization trace: {}", fault.message())))?;
        let agree = self.trace_id == trace.trace_id
            && self
                .policy_digest
                .eq_ignore_ascii_case(&trace.policy_digest)
            && self
                .intent_digest
                .eq_ignore_ascii_case(&trace.intent_digest)
            && (self.outcome_status.is_empty() || self.outcome_status == trace.verdict);
        match agree {
            true => Ok(()),
            false => Err(disagree("authorization bundle", "its trace")),
        }
    }

    /// How many pieces of evidence it links.
    pub fn linked(&self) -> usize {
        let mut bundle = self.clone();
        let links = bundle.links_mut();
        links
            .iter()
            .filter(|(path, _)| !path.trim().is_empty())
            .count()
    }

    fn links_mut(&mut self) -> [(&mut String, &mut String); 6] {
        [
            (&mut self.trace_path, &mut self.trace_digest),
            (
                &mut self.approval_audit_path,
                &mut self.approval_audit_digest,
            ),
            (
                &mut self.credential_evidence_path,
                &mut self.credential_evidence_digest,
            ),
            (
                &mut self.delegation_audit_path,
                &mut self.delegation_audit_digest,
            ),
            (
                &mut self.context_evidence_path,
                &mut self.context_evidence_digest,
            ),
            (&mut self.outcome_path, &mut self.outcome_digest),
        ]
    }
}

/// Packs the evidence behind a link and notes its digest in the bundle; `None` for a link to nothing.
fn bind(folder: &Path, link: &mut String, digest: &mut String) -> Result<Option<Part>> {
    let declared = digest.trim().to_ascii_lowercase();
    if link.trim().is_empty() {
        return match declared.is_empty() {
            true => Ok(None),
            false => Err(invalid(
                "authorization bundle digest requires corresponding path",
            )),
        };
    }
    let inside = archive_path(link).ok_or_else(|| {
        invalid(format!(
            "authorization evidence path must be local relative: {link}"
        ))
    })?;
    let local = inside
        .strip_prefix("evidence/")
        .unwrap_or(&inside)
        .to_owned();
    let (actual, part) = pack(&below(folder, &local)?, &local, inside)?;
    if !declared.is_empty() && declared != actual.to_string() {
        return Err(unverified(format!(
            "authorization evidence digest mismatch for {link}"
        )));
    }
    *link = local;
    *digest = actual.to_string();
    Ok(Some(part))
}

/// The file `local` in `folder`, which no symbolic link may lead out of either.
fn below(folder: &Path, local: &str) -> Result<PathBuf> {
    let path = folder.join(local);
    let resolved = |path: &Path| {
        let found = path.canonicalize();
        found.map_err(|error| Fault::io(format_args!("read {}", path.display()), &error))
    };
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let (root, found) = (resolved(folder)?, resolved(&path)?);
    match found.starts_with(root) {
        true => Ok(found),
        false => Err(invalid(format!(
            "authorization evidence leads out of its folder: {local}"
        ))),
    }
}

/// The evidence as a part, and its digest: of the value for JSON, of the bytes for anything else.
fn pack(path: &Path, name: &str, inside: String) -> Result<(Sha256, Part)> {
    if is_json(name) {
        let bytes = read_bounded(path, MAX_PACK_RECORD_BYTES as u64)?;
        let digest = json_digest(&bytes)?;
        return Ok((digest, Part::bytes(inside, bytes)));
    }
    let cannot_read = |error| fault_of(&format!("read {}", path.display()), error);
    let mut file = open_to_read(path)?;
    let ((), part) = Part::streamed(inside, |out| {
        std::io::copy(&mut file, out).map(drop).map_err(cannot_read)
    })?;
    Ok((part.sha256, part))
}

fn json_digest(bytes: &[u8]) -> Result<Sha256> {
    let canonical = canonicalize_json(bytes).map_err(|fault| {
        let message = format!("digest authorization json evidence: {}", fault.message());
        Fault::new(Category::InvalidInput, "invalid_input", message)
    })?;
    Ok(Sha256::of(canonical))
}

fn is_json(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".json")
}

/// Where linked evidence lies in a pack; `None` for a path that leads out of its folder.
fn archive_path(link: &str) -> Option<String> {
    let cleaned = clean_path(&link.trim().replace('\\', "/"));
    let outside =
        cleaned.starts_with('/') || cleaned == "." || cleaned == ".." || cleaned.starts_with("../");
    (!outside).then(|| format!("evidence/{cleaned}"))
}
