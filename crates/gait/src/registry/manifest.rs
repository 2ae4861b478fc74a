//! The manifest of a pack (`gait.registry.pack` 1.0.0).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, VerifyingKey, canonical_json, parse_json_within};

use super::fetch::MAX_PACK_BYTES;
use crate::signature::SignatureObject;
use crate::text;
use crate::wire_time::WireTime;

const SCHEMA_ID: &str = "gait.registry.pack";
const SCHEMA_VERSION: &str = "1.0.0";
/// The longest name or version of a pack, in bytes.
const MAX_NAME: usize = 128;
/// The most artefacts of a pack.
const MAX_ARTIFACTS: usize = 4096;
/// The most signatures of a pack.
const MAX_SIGNATURES: usize = 64;

/// A manifest that is well formed. Whether it is signed is another matter.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(default)]
    schema_id: String,
    #[serde(default)]
    schema_version: String,
    created_at: WireTime,
    producer_version: String,
    #[serde(default)]
    pack_name: String,
    #[serde(default)]
    pack_version: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pack_type: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    publisher: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    source: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    risk_class: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    use_case: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    compatibility: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    provenance: BTreeMap<String, Value>,
    artifacts: Vec<Artifact>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    signatures: Vec<Value>,
}

/// A file of the pack.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Artifact {
    path: String,
    sha256: Sha256,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    media_type: String,
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl Manifest {
    /// Reads a manifest. What its signature cannot cover, such as members of no known name, is refused.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Self, Malformed> {
        let limit = usize::try_from(MAX_PACK_BYTES).unwrap_or(usize::MAX);
        let value = parse_json_within(bytes, limit)
            .map_err(|fault| Malformed(format!("parse registry manifest: {}", fault.message())))?;
        let manifest: Self = serde_json::from_value(value)
            .map_err(|error| Malformed(format!("parse registry manifest: {error}")))?;
        let manifest = manifest.normalised();
        manifest.check().map_err(Malformed)?;
        Ok(manifest)
    }

    /// The pack's name.
    pub fn name(&self) -> &str {
        &self.pack_name
    }

    /// The pack's version.
    pub fn version(&self) -> &str {
        &self.pack_version
    }

    /// Who published it, in lower case.
    pub fn publisher(&self) -> &str {
        &self.publisher
    }

    /// Where it came from, in lower case.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The canonical JSON to keep, signatures included.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        canonical_json(self)
    }

    /// The digest of everything but the signatures.
    pub fn digest(&self) -> Result<Sha256> {
        self.signable().map(Sha256::of)
    }

    /// Checks that `key` signed it. Reasons: `signature_missing`, `signature_invalid`.
    pub fn verify(&self, key: &VerifyingKey) -> Result<()> {
        if self.signatures.is_empty() {
            return Err(
                super::verify::unproven("registry manifest has no signatures")
                    .because("signature_missing", "ask the publisher for a signed pack"),
            );
        }
        let signable = self.signable()?;
        let by_key = |value: &Value| {
            SignatureObject::deserialize(value)
                .is_ok_and(|signature| signature.verify(&signable, key).is_ok())
        };
        if self.signatures.iter().any(by_key) {
            return Ok(());
        }
        Err(
            super::verify::unproven("no valid signature for manifest digest").because(
                "signature_invalid",
                "check the key, and ask the publisher for the pack again",
            ),
        )
    }

    fn signable(&self) -> Result<Vec<u8>> {
        let unsigned = Self {
            signatures: Vec::new(),
            ..self.clone()
        };
        canonical_json(&unsigned)
    }

    fn normalised(mut self) -> Self {
        for field in [&mut self.pack_type, &mut self.publisher, &mut self.source] {
            *field = text::trim_lower(field);
        }
        self
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.schema_id != SCHEMA_ID {
            return Err(format!("unsupported schema_id {:?}", self.schema_id));
        }
        if self.schema_version != SCHEMA_VERSION {
            return Err(format!(
                "unsupported schema_version {:?}",
                self.schema_version
            ));
        }
        check_name("pack_name", &self.pack_name)?;
        check_name("pack_version", &self.pack_version)?;
        if self.pack_name == super::cache::PINS {
            return Err(format!("pack_name {:?} is reserved", self.pack_name));
        }
        if self.pack_type == "skill" && (self.publisher.is_empty() || self.source.is_empty()) {
            return Err("skill pack requires publisher and source".to_owned());
        }
        at_most("artifacts", self.artifacts.len(), MAX_ARTIFACTS)?;
        at_most("signatures", self.signatures.len(), MAX_SIGNATURES)
    }
}

/// Names become directories of the cache.
fn check_name(what: &str, name: &str) -> std::result::Result<(), String> {
    if name.trim().is_empty() {
        return Err(format!("{what} is required"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+@".contains(&byte);
    if name.len() <= MAX_NAME && !name.starts_with('.') && name.bytes().all(plain) {
        return Ok(());
    }
    Err(format!("{what} {name:?} cannot name a directory"))
}

fn at_most(what: &str, actual: usize, limit: usize) -> std::result::Result<(), String> {
    match actual <= limit {
        true => Ok(()),
        false => Err(format!("{what}: {actual} is past the limit of {limit}")),
    }
}

impl From<Malformed> for Fault {
    /// What arrives in place of a signed manifest proves nothing.
    fn from(Malformed(why): Malformed) -> Self {
        super::verify::unproven(why).because(
            "manifest_invalid",
            "check that the source is a pack manifest",
        )
    }
}

impl Malformed {
    /// The refusal of a file that the user named.
    pub fn into_input_fault(self) -> Fault {
        Fault::new(Category::InvalidInput, "invalid_input", self.0)
            .because("manifest_invalid", "give the path of a registry_pack.json")
    }
}
