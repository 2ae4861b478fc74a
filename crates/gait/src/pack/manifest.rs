//! `pack_manifest.json`: what is in a pack, and who vouches for it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::{Sha256, canonical_json, parse_json_within};

use super::{Build, Part};
use crate::limits::MAX_PACK_MANIFEST_BYTES;
use crate::record::check_form;
use crate::signature::{SignatureObject, unverified};
use crate::wire_time::WireTime;

/// The `schema_id` of a pack's manifest.
const SCHEMA_ID: &str = "gait.pack.manifest";
/// The only `schema_version`.
const SCHEMA_VERSION: &str = "1.0.0";

/// What a pack is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackType {
    /// A recorded run.
    Run,
    /// A durable job.
    Job,
    /// A voice call.
    Call,
    /// An authorization and its evidence.
    Authorization,
}

impl PackType {
    /// The name in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Job => "job",
            Self::Call => "call",
            Self::Authorization => "authorization",
        }
    }
}

/// An entry that the manifest declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name in the pack.
    pub path: String,
    /// The digest of its content.
    pub sha256: String,
    /// `json`, `jsonl`, `zip` or `blob`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A pack's manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `gait.pack.manifest`.
    pub schema_id: String,
    /// `1.0.0`.
    pub schema_version: String,
    /// 1980-01-01.
    pub created_at: WireTime,
    /// The version of the program that built it.
    pub producer_version: String,
    /// The digest of this manifest without this field and without signatures.
    pub pack_id: String,
    /// What it is about.
    pub pack_type: PackType,
    /// The run, job, call or trace.
    pub source_ref: String,
    /// Every other entry, by name.
    pub contents: Vec<Entry>,
    /// Who vouches for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Value>,
}

impl Manifest {
    /// The manifest of these parts, named and, if there is a key, signed.
    pub(super) fn of(
        pack_type: PackType,
        source_ref: &str,
        build: &Build<'_>,
        parts: &[Part],
    ) -> Result<Self> {
        let mut contents: Vec<Entry> = parts.iter().map(Entry::of).collect();
        contents.sort_by(|a, b| a.path.cmp(&b.path));
        let mut manifest = Self {
            schema_id: SCHEMA_ID.to_owned(),
            schema_version: SCHEMA_VERSION.to_owned(),
            created_at: WireTime::at(WireTime::UNDATED),
            producer_version: build.producer_version.to_owned(),
            pack_id: String::new(),
            pack_type,
            source_ref: source_ref.to_owned(),
            contents,
            signatures: Vec::new(),
        };
        manifest.pack_id = Sha256::of(canonical_json(&manifest)?).to_string();
        if let Some(key) = build.key {
            let signature = SignatureObject::sign(&canonical_json(&manifest)?, key);
            manifest.signatures = vec![signature.to_value()?];
        }
        Ok(manifest)
    }

    /// Reads a manifest and checks that its id follows from it.
    ///
    /// Errors: `verification_failed` for anything that is not exactly a manifest.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let malformed = |why: &str| unverified(format!("parse manifest: {why}"));
        let value = parse_json_within(bytes, MAX_PACK_MANIFEST_BYTES)
            .map_err(|fault| malformed(fault.message()))?;
        check_schema(&value)?;
        check_form(super::MANIFEST_NAME, bytes, &value)?;
        let manifest: Self =
            serde_json::from_value(value.clone()).map_err(|error| malformed(&error.to_string()))?;
        manifest.check().map_err(malformed)?;
        manifest.check_id(value)?;
        Ok(manifest)
    }

    /// What the signatures are over.
    pub(super) fn signable(&self) -> Result<Vec<u8>> {
        canonical_json(&Self {
            signatures: Vec::new(),
            ..self.clone()
        })
    }

    fn check(&self) -> Result<(), &'static str> {
        let blank = |text: &str| text.trim().is_empty();
        let mut names = BTreeSet::new();
        if blank(&self.source_ref) || blank(&self.producer_version) || self.created_at.is_unset() {
            return Err("source_ref, producer_version and created_at are required");
        }
        if !is_digest(&self.pack_id) {
            return Err("pack_id must be sha256 hex");
        }
        for entry in &self.contents {
            if blank(&entry.path) || blank(&entry.kind) || !is_digest(&entry.sha256) {
                return Err("an entry needs a path, a type and a sha256 in hex");
            }
            if entry.path == super::MANIFEST_NAME || !names.insert(&entry.path) {
                return Err("an entry is declared twice, or is the manifest itself");
            }
        }
        Ok(())
    }

    /// The digest is taken of what was read, not of what was understood: nothing can hide between the two.
    fn check_id(&self, mut value: Value) -> Result<()> {
        if let Some(members) = value.as_object_mut() {
            members.remove("signatures");
            members.insert("pack_id".to_owned(), "".into());
        }
        let expected = Sha256::of(canonical_json(&value)?).to_string();
        if expected == self.pack_id {
            return Ok(());
        }
        let message = format!(
            "pack_id mismatch: expected={expected} actual={}",
            self.pack_id
        );
        Err(unverified(message))
    }
}

impl Entry {
    fn of(part: &Part) -> Self {
        Self {
            path: part.path.clone(),
            sha256: part.sha256.to_string(),
            kind: entry_type(&part.path).to_owned(),
        }
    }
}

/// The type of an entry, by its name.
pub(super) fn entry_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("json") => "json",
        Some("jsonl") => "jsonl",
        Some("zip") => "zip",
        _ => "blob",
    }
}

/// Whether the text is 64 hexadecimal digits.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A manifest of another schema says so, whatever else is in it.
fn check_schema(value: &Value) -> Result<(), Fault> {
    let wrong = |what: &str, found: &str| {
        unverified(format!(
            "parse manifest: unsupported manifest {what}: {found}"
        ))
    };
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    match (text("schema_id"), text("schema_version")) {
        (SCHEMA_ID, SCHEMA_VERSION) => Ok(()),
        (SCHEMA_ID, version) => Err(wrong("schema_version", version)),
        (id, _) => Err(wrong("schema_id", id)),
    }
}
