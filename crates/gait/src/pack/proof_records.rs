//! `proof_records.jsonl`: one record per entry, each with the hash of the one before it.
//!
//! The records are those of the `proof` format, so that its tools can follow the chain without knowing packs.

use std::collections::BTreeMap;
use std::io::Read;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use worldcompute_fault::Result;
use worldcompute_proof::{Sha256, Signature, VerifyingKey, canonical_json, parse_json_within};

use super::manifest::{Entry, PackType, entry_type};
use super::{Build, MANIFEST_NAME, PROOF_RECORDS_NAME, Part};
use crate::json_stream;
use crate::limits::MAX_PROOF_RECORD_BYTES;
use crate::signature::unverified;

/// The instant of every record.
const TIMESTAMP: &str = "1980-01-01T00:00:00Z";
/// How a signature is spelled in a record.
const SIGNATURE_PREFIX: &str = "base64:";
/// The permission bits of every entry.
const PERMISSIONS: u32 = 0o644;

/// A record as written and read.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    agent_id: String,
    controls: Value,
    event: Map<String, Value>,
    integrity: Integrity,
    metadata: Value,
    record_id: String,
    record_type: String,
    record_version: String,
    source: String,
    source_product: String,
    timestamp: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    relations: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    relationship: Option<Value>,
}

/// What binds a record to the one before it, and to a key.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Integrity {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    previous_record_hash: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    record_hash: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    signature: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    signing_key_id: String,
}

/// What the chain says.
pub(super) struct Chain {
    /// Records whose hash and place in the chain hold.
    pub(super) verified: u64,
    /// Records whose signature does not.
    pub(super) signature_errors: Vec<String>,
}

impl Chain {
    /// No chain at all.
    pub(super) const fn none() -> Self {
        Self {
            verified: 0,
            signature_errors: Vec::new(),
        }
    }
}

/// The chain over these parts, signed if there is a key.
pub(super) fn build(
    pack_type: PackType,
    source_ref: &str,
    build: &Build<'_>,
    parts: &[Part],
) -> Result<Vec<u8>> {
    let mut parts: Vec<&Part> = parts.iter().collect();
    parts.sort_by(|a, b| a.path.cmp(&b.path));
    let (mut lines, mut previous) = (Vec::new(), String::new());
    for part in parts {
        let event = event(pack_type, source_ref, build.producer_version, part);
        let record = Record::new(event, previous, build)?;
        lines.push(canonical_json(&record)?);
        previous = record.integrity.record_hash;
    }
    Ok(lines.join(&b'\n'))
}

/// Follows the chain, which has to cover exactly the entries that the manifest declares.
///
/// With a key, signatures are checked and reported. Errors: `verification_failed` where the chain breaks.
pub(super) fn verify(
    reader: impl Read,
    contents: &[Entry],
    key: Option<&VerifyingKey>,
) -> Result<Chain> {
    let declared = contents
        .iter()
        .filter(|entry| entry.path != PROOF_RECORDS_NAME);
    let mut uncovered: BTreeMap<&str, &str> = declared
        .map(|entry| (&*entry.path, &*entry.sha256))
        .collect();
    let (mut chain, mut previous) = (Chain::none(), String::new());
    json_stream::lines(PROOF_RECORDS_NAME, reader, |number, line| {
        let broken = |why: &str| unverified(format!("{PROOF_RECORDS_NAME}: line {number} {why}"));
        let record = Record::parse(line).map_err(|why| broken(&why))?;
        record.check_link(&previous).map_err(|why| broken(&why))?;
        record.cover(&mut uncovered).map_err(|why| broken(&why))?;
        chain.verified += 1;
        if let Some(Err(why)) = key.map(|key| record.check_signature(key)) {
            let error = format!("proof_records line {number} {why}");
            chain.signature_errors.push(error);
        }
        previous = record.integrity.record_hash;
        Ok(())
    })?;
    match uncovered.keys().next() {
        None => Ok(chain),
        Some(path) => Err(unverified(format!(
            "{PROOF_RECORDS_NAME}: no record covers {path}"
        ))),
    }
}

fn event(pack_type: PackType, source_ref: &str, version: &str, part: &Part) -> Map<String, Value> {
    let event = json!({
        "entry_path": part.path,
        "entry_permissions": PERMISSIONS,
        "entry_sha256": part.sha256,
        "entry_size_bytes": part.size,
        "entry_type": entry_type(&part.path),
        "pack_type": pack_type,
        "producer_version": version,
        "source_ref": source_ref,
    });
    match event {
        Value::Object(event) => event,
        _ => Map::new(),
    }
}

impl Record {
    fn new(event: Map<String, Value>, previous: String, build: &Build<'_>) -> Result<Self> {
        let mut record = Self {
            agent_id: "gait".to_owned(),
            controls: json!({"permissions_enforced": false}),
            event,
            integrity: Integrity {
                previous_record_hash: previous,
                ..Integrity::default()
            },
            metadata: json!({"artifact_kind": "gait.pack.entry"}),
            record_id: String::new(),
            record_type: "tool_invocation".to_owned(),
            record_version: "1.0".to_owned(),
            source: "gait.pack".to_owned(),
            source_product: "gait".to_owned(),
            timestamp: TIMESTAMP.to_owned(),
            relations: None,
            relationship: None,
        };
        record.record_id = record.derived_id()?;
        record.integrity.record_hash = record.hash()?;
        if let Some(key) = build.key {
            let signature = key.sign(record.integrity.record_hash.as_bytes());
            record.integrity.signing_key_id = key.verifying_key().key_id();
            record.integrity.signature = format!("{SIGNATURE_PREFIX}{signature}");
        }
        Ok(record)
    }

    fn parse(line: &[u8]) -> Result<Self, String> {
        let value = parse_json_within(line, MAX_PROOF_RECORD_BYTES)
            .map_err(|fault| format!("parse record: {}", fault.message()))?;
        let record: Self =
            serde_json::from_value(value).map_err(|error| format!("parse record: {error}"))?;
        let required = [
            &record.record_version,
            &record.timestamp,
            &record.source,
            &record.source_product,
            &record.record_type,
        ];
        match required.iter().all(|text| !text.trim().is_empty()) {
            true => Ok(record),
            false => Err("validate record: a required field is empty".to_owned()),
        }
    }

    fn check_link(&self, previous: &str) -> Result<(), String> {
        let expected = self.hash().map_err(|fault| fault.message().to_owned())?;
        if expected != self.integrity.record_hash {
            let found = &self.integrity.record_hash;
            return Err(format!(
                "record hash mismatch: expected {expected} got {found}"
            ));
        }
        if self.integrity.previous_record_hash != previous {
            let found = &self.integrity.previous_record_hash;
            return Err(format!(
                "previous_record_hash mismatch: expected {previous:?} got {found:?}"
            ));
        }
        Ok(())
    }

    /// Takes the entry that the record is about from those that no record is about yet.
    fn cover(&self, uncovered: &mut BTreeMap<&str, &str>) -> Result<(), String> {
        let text = |name: &str| {
            self.event
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let path = text("entry_path");
        match uncovered.remove(path) {
            Some(sha256) if sha256.eq_ignore_ascii_case(text("entry_sha256")) => Ok(()),
            Some(_) => Err(format!("entry_sha256 of {path} is not the declared one")),
            None if path == MANIFEST_NAME => Err("covers the manifest".to_owned()),
            None => Err(format!(
                "entry_path {path} is not declared, or covered twice"
            )),
        }
    }

    fn check_signature(&self, key: &VerifyingKey) -> Result<(), &'static str> {
        let Integrity {
            signature,
            signing_key_id,
            record_hash,
            ..
        } = &self.integrity;
        if signature.trim().is_empty() {
            return Err("missing signature");
        }
        if signing_key_id.trim().is_empty() {
            return Err("missing signing_key_id");
        }
        let encoded = signature
            .strip_prefix(SIGNATURE_PREFIX)
            .ok_or("unsupported signature prefix")?;
        let signature = Signature::from_base64(encoded).map_err(|_| "malformed signature")?;
        if *signing_key_id != key.key_id() {
            return Err("key id mismatch");
        }
        key.verify(record_hash.as_bytes(), &signature)
            .map_err(|_| "signature verification failed")
    }

    /// The hash of everything but hash and signature.
    fn hash(&self) -> Result<String> {
        let mut payload = json!({
            "agent_id": self.agent_id,
            "controls": self.controls,
            "event": self.event,
            "integrity": {"previous_record_hash": self.integrity.previous_record_hash},
            "metadata": self.metadata,
            "record_id": self.record_id,
            "record_type": self.record_type,
            "record_version": self.record_version,
            "source": self.source,
            "source_product": self.source_product,
            "timestamp": self.timestamp,
        });
        let optional = [
            ("relations", &self.relations),
            ("relationship", &self.relationship),
        ];
        if let Some(members) = payload.as_object_mut() {
            let given = optional
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
            members.extend(given);
        }
        Ok(format!("sha256:{}", Sha256::of(canonical_json(&payload)?)))
    }

    /// The id that follows from what happened.
    fn derived_id(&self) -> Result<String> {
        let facts = json!({
            "agent_id": self.agent_id,
            "event": self.event,
            "record_type": self.record_type,
            "source": self.source,
            "source_product": self.source_product,
            "timestamp": self.timestamp,
        });
        let digest = Sha256::of(canonical_json(&facts)?).to_string();
        let short: String = digest.chars().take(8).collect();
        Ok(format!("prf-{}-{short}", self.timestamp))
    }
}
