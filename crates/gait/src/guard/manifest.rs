//! `pack_manifest.json` of a guard pack.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, canonical_json, parse_json_within};

use crate::limits::MAX_PACK_MANIFEST_BYTES;
use crate::pack::{Entry, MANIFEST_NAME};
use crate::record::check_form;
use crate::signature::unverified;
use crate::wire_time::WireTime;

/// The `schema_id` of a guard pack's manifest.
pub(super) const SCHEMA_ID: &str = "gait.guard.pack_manifest";
/// The only `schema_version`.
pub(super) const SCHEMA_VERSION: &str = "1.0.0";

/// A guard pack's manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct Manifest {
    pub schema_id: String,
    pub schema_version: String,
    pub created_at: WireTime,
    pub producer_version: String,
    pub pack_id: String,
    pub run_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub case_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub template_id: String,
    pub generated_at: WireTime,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub control_index: Vec<Control>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence_pointers: Vec<Evidence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident_window: Option<Window>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rendered_artifacts: Vec<Rendered>,
    pub contents: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Value>,
}

/// A control, and the evidence that speaks to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct Control {
    pub control_id: String,
    pub title: String,
    pub evidence_paths: Vec<String>,
}

/// A piece of evidence, numbered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct Evidence {
    pub pointer_id: String,
    pub path: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub sha256: String,
}

/// The time that an incident's evidence was taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct Window {
    pub from: WireTime,
    pub to: WireTime,
    pub window_seconds: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selection_anchor: String,
}

/// Something made for people to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct Rendered {
    pub format: String,
    pub path: String,
    pub sha256: String,
}

impl Manifest {
    /// Whether the bytes are the manifest of a guard pack, sound or not.
    pub(crate) fn is_in(bytes: &[u8]) -> bool {
        let value = parse_json_within(bytes, MAX_PACK_MANIFEST_BYTES).unwrap_or_default();
        value.get("schema_id").and_then(Value::as_str) == Some(SCHEMA_ID)
    }

    /// Reads a manifest and what its signatures are over.
    ///
    /// Errors: `verification_failed` for anything that is not exactly a manifest, or whose id does not follow from its
    /// contents.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, Vec<u8>)> {
        let malformed = |why: &str| unverified(format!("parse pack manifest: {why}"));
        let mut value = parse_json_within(bytes, MAX_PACK_MANIFEST_BYTES)
            .map_err(|fault| malformed(fault.message()))?;
        let manifest: Self =
            serde_json::from_value(value.clone()).map_err(|error| malformed(&error.to_string()))?;
        if manifest.schema_id != SCHEMA_ID || manifest.schema_version != SCHEMA_VERSION {
            return Err(malformed("not a gait.guard.pack_manifest 1.0.0"));
        }
        check_form(MANIFEST_NAME, bytes, &value)?;
        let expected = pack_id(&manifest.run_id, &manifest.contents)?;
        if manifest.pack_id != expected {
            let actual = &manifest.pack_id;
            let message = format!("pack_id mismatch: expected={expected} actual={actual}");
            return Err(unverified(message));
        }
        if let Some(members) = value.as_object_mut() {
            members.remove("signatures");
        }
        Ok((manifest, canonical_json(&value)?))
    }
}

/// The id of a guard pack: `pack_` and the start of the digest of its run and contents.
pub(super) fn pack_id(run_id: &str, contents: &[Entry]) -> Result<String> {
    let facts = json!({"contents": contents, "run_id": run_id});
    let digest = Sha256::of(canonical_json(&facts)?).to_string();
    let short: String = digest.chars().take(16).collect();
    Ok(format!("pack_{short}"))
}
