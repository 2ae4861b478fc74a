//! The manifest: which entries there are, with which content, and who says so.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, SigningKey, canonical_json, parse_json_within};

use super::MANIFEST;
use super::record::VERSION;
use super::stamp::Stamp;
use crate::limits::{MAX_MANIFEST_BYTES, invalid};
use crate::record::check_form;
use crate::signature::{SignatureObject, unverified};

const SCHEMA_ID: &str = "gait.runpack.manifest";

/// Whether a runpack keeps what calls were given and returned, or only the digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMode {
    /// The digests.
    Reference,
    /// Arguments and results, too.
    Raw,
}

/// What is in a runpack.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub capture_mode: CaptureMode,
    pub created_at: Stamp,
    pub files: Vec<ManifestFile>,
    pub manifest_digest: String,
    pub producer_version: String,
    pub run_id: String,
    pub schema_id: String,
    pub schema_version: String,
    /// Kept as written, to be judged one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Value>,
}

/// One entry and its content.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    pub path: String,
    pub sha256: String,
}

/// A manifest as somebody wrote it: what is in it, and what its digest and its signatures cover.
pub(super) struct Stated {
    pub manifest: Manifest,
    members: Map<String, Value>,
}

impl CaptureMode {
    /// Reads `reference` or `raw`; `invalid_input` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        match text.trim() {
            "reference" => Ok(Self::Reference),
            "raw" => Ok(Self::Raw),
            _ => Err(invalid("capture mode must be one of: reference, raw")),
        }
    }
}

impl Manifest {
    pub(super) fn new(
        run: &super::Run,
        capture_mode: CaptureMode,
        mut files: Vec<ManifestFile>,
    ) -> Result<Self> {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut manifest = Self {
            capture_mode,
            created_at: run.created_at,
            files,
            manifest_digest: String::new(),
            producer_version: run.producer_version.clone(),
            run_id: run.run_id.clone(),
            schema_id: SCHEMA_ID.to_owned(),
            schema_version: VERSION.to_owned(),
            signatures: Vec::new(),
        };
        manifest.manifest_digest = Sha256::of(canonical_json(&manifest)?).to_string();
        Ok(manifest)
    }

    pub(super) fn sign(&mut self, key: &SigningKey) -> Result<String> {
        let signature = SignatureObject::sign(&canonical_json(self)?, key);
        let key_id = signature.key_id.clone();
        let value = serde_json::to_value(signature);
        self.signatures = vec![value.map_err(|error| invalid("signature").caused_by(error))?];
        Ok(key_id)
    }
}

impl Stated {
    /// Reads a manifest; `verification_failed` for anything that is not exactly one, an unknown member or a blank
    /// included.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let malformed = |why: &str| unverified(format!("parse manifest.json: {why}"));
        let value = parse_json_within(bytes, MAX_MANIFEST_BYTES)
            .map_err(|fault| malformed(fault.message()))?;
        check_schema(&value)?;
        check_form(MANIFEST, bytes, &value)?;
        let manifest =
            serde_json::from_value(value.clone()).map_err(|error| malformed(&error.to_string()))?;
        match value {
            Value::Object(mut members) => {
                members.remove("signatures");
                Ok(Self { manifest, members })
            }
            _ => Err(malformed("not a JSON object")),
        }
    }

    /// What the signatures cover: everything but themselves.
    pub(super) fn signable(&self) -> Result<Vec<u8>> {
        canonical_json(&self.members)
    }

    /// The digest of everything but itself and the signatures.
    pub(super) fn digest(&self) -> Result<String> {
        let mut members = self.members.clone();
        members.insert("manifest_digest".to_owned(), String::new().into());
        Ok(Sha256::of(canonical_json(&members)?).to_string())
    }
}

/// Says what is wrong before the shape does, in the words of the format.
fn check_schema(manifest: &Value) -> Result<()> {
    let is = |name: &str, only: &str| manifest.get(name).is_some_and(|value| value == only);
    if !is("schema_id", SCHEMA_ID) {
        return Err(unverified(
            "manifest schema_id must be gait.runpack.manifest",
        ));
    }
    if !is("schema_version", VERSION) {
        return Err(unverified("manifest schema_version must be 1.0.0"));
    }
    match manifest.get("run_id").and_then(Value::as_str) {
        None | Some("") => Err(unverified("manifest missing run_id")),
        Some(_) => Ok(()),
    }
}
