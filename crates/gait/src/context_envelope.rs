//! Evidence of the context that an agent acted on (`gait.context.envelope`): which documents, by digest.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Sha256, canonical_json, parse_json_within};

use crate::in_file::InFile;
use crate::limits::{MAX_ENVELOPE_BYTES, MAX_ENVELOPE_RECORDS, at_most, from_value, invalid};
use crate::text;
use crate::wire_time::WireTime;

/// The `schema_id` of an envelope.
pub const SCHEMA_ID: &str = "gait.context.envelope";
/// The only `schema_version`.
pub const SCHEMA_VERSION: &str = "1.0.0";

/// How far a record may be dated ahead of the gate's clock, in seconds, before its age counts as unknown.
const MAX_CLOCK_SKEW: i64 = 300;

/// An envelope whose digest is that of its records; only [`ContextEnvelope::parse`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct ContextEnvelope {
    digest: Sha256,
    mode: EvidenceMode,
    created_at: Timestamp,
    records: Vec<ReferenceRecord>,
}

/// How the evidence was collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceMode {
    /// Whatever could be had.
    #[default]
    BestEffort,
    /// All of it, or the run fails.
    Required,
}

/// One document that was consulted; serialised, it is its part of the digest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReferenceRecord {
    /// Its name in the run.
    pub ref_id: String,
    /// What kind of place it is from.
    pub source_type: String,
    /// Where it is.
    pub source_locator: String,
    /// SHA-256 of the query in hex.
    pub query_digest: String,
    /// SHA-256 of the content in hex.
    pub content_digest: String,
    /// When it was read.
    pub retrieved_at: WireTime,
    /// What was left out of the record.
    pub redaction_mode: String,
    /// `mutable`, `immutable` or `unknown`.
    pub immutability: String,
    /// How long it counts as fresh.
    #[serde(skip_serializing_if = "is_zero")]
    pub freshness_sla_seconds: i64,
    /// How sensitive it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sensitivity_label: String,
    /// How it was asked for.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub retrieval_params: Map<String, Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    schema_id: String,
    schema_version: String,
    created_at: WireTime,
    #[serde(rename = "producer_version")]
    _producer_version: String,
    context_set_id: String,
    context_set_digest: String,
    evidence_mode: String,
    records: Vec<ReferenceRecord>,
}

impl EvidenceMode {
    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BestEffort => "best_effort",
            Self::Required => "required",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        match text::trim_lower(text).as_str() {
            "" | "best_effort" => Ok(Self::BestEffort),
            "required" => Ok(Self::Required),
            _ => Err(invalid(
                "context evidence mode must be best_effort or required",
            )),
        }
    }
}

impl ContextEnvelope {
    /// How `context_source` names an envelope.
    pub const SOURCE: &'static str = "context_envelope";

    /// Reads the envelope in the file at `path`; see [`ContextEnvelope::parse`].
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&read_bounded(path, MAX_ENVELOPE_BYTES as u64)?).in_file(path)
    }

    /// Reads an envelope and checks its digest.
    ///
    /// Refused as `invalid_input`: anything but strict JSON of this format; as `context_envelope_too_large`: anything
    /// past [`crate::limits`]; as `context_envelope_digest_mismatch`: a digest that is not that of the records.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        at_most(
            "context envelope bytes",
            bytes.len(),
            MAX_ENVELOPE_BYTES,
            TOO_LARGE,
        )?;
        let value = parse_json_within(bytes, MAX_ENVELOPE_BYTES)
            .map_err(|fault| invalid(format!("parse context envelope: {fault}")))?;
        let records = value.get("records").and_then(Value::as_array);
        let named = records.is_none_or(|records| records.iter().all(Value::is_object));
        if !value.is_object() || !named {
            return Err(invalid("parse context envelope: not an object of objects"));
        }
        let file: File = from_value("parse context envelope", value)?;
        file.verify()
    }

    /// The digest of the records: `context_set_digest`.
    pub const fn digest(&self) -> Sha256 {
        self.digest
    }

    /// How the evidence was collected.
    pub const fn mode(&self) -> EvidenceMode {
        self.mode
    }

    /// The documents, sorted.
    pub fn records(&self) -> &[ReferenceRecord] {
        &self.records
    }

    /// The names of the documents, sorted, each once.
    pub fn refs(&self) -> Vec<String> {
        let mut refs: Vec<_> = self.records.iter().map(|one| one.ref_id.clone()).collect();
        refs.dedup();
        refs
    }

    /// How old the oldest evidence is at `now`; `None` when some of it is dated after `now`, and so its age is unknown.
    pub fn age_seconds(&self, now: Timestamp) -> Option<u64> {
        let oldest = self.records.iter().map(|one| age(one.dated(), now));
        let oldest: Option<Vec<u64>> = oldest.collect();
        match self.records.is_empty() {
            true => age(self.created_at, now),
            false => oldest?.into_iter().max(),
        }
    }
}

const TOO_LARGE: &str = "context_envelope_too_large";

fn age(dated: Timestamp, now: Timestamp) -> Option<u64> {
    let seconds = now.duration_since(dated).as_secs();
    if seconds < -MAX_CLOCK_SKEW {
        return None;
    }
    Some(u64::try_from(seconds).unwrap_or_default())
}

impl File {
    fn verify(self) -> Result<ContextEnvelope> {
        known("schema_id", &self.schema_id, SCHEMA_ID)?;
        known("schema_version", &self.schema_version, SCHEMA_VERSION)?;
        if self.context_set_id.trim().is_empty() {
            return Err(invalid("context_set_id is required"));
        }
        at_most(
            "context records",
            self.records.len(),
            MAX_ENVELOPE_RECORDS,
            TOO_LARGE,
        )?;
        let mode = EvidenceMode::parse(&self.evidence_mode)?;
        let records = self.records.into_iter().map(ReferenceRecord::normal);
        let mut records: Vec<_> = records.collect::<Result<_>>()?;
        records.sort_by(|a, b| a.order().cmp(&b.order()));
        let digest = Sha256::of(canonical_json(&records)?);
        matches(&self.context_set_digest, digest)?;
        Ok(ContextEnvelope {
            digest,
            mode,
            created_at: self.created_at.get().unwrap_or(WireTime::UNDATED),
            records,
        })
    }
}

fn known(what: &str, given: &str, only: &str) -> Result<()> {
    match given.trim() {
        "" => Ok(()),
        given if given == only => Ok(()),
        given => Err(invalid(format!(
            "unsupported context envelope {what}: {given}"
        ))),
    }
}

fn matches(claimed: &str, digest: Sha256) -> Result<()> {
    let claimed = text::trim_lower(claimed);
    if claimed.is_empty() || claimed == digest.to_string() {
        return Ok(());
    }
    let message = format!("context_set_digest mismatch: the records have {digest}");
    Err(Fault::new(
        Category::InvalidInput,
        "context_envelope_digest_mismatch",
        message,
    )
    .hint("collect the context again; the envelope was changed after it was made"))
}

impl ReferenceRecord {
    fn normal(self) -> Result<Self> {
        let record = Self {
            ref_id: self.ref_id.trim().to_owned(),
            source_type: self.source_type.trim().to_owned(),
            source_locator: self.source_locator.trim().to_owned(),
            query_digest: digest("query_digest", &self.query_digest)?,
            content_digest: digest("content_digest", &self.content_digest)?,
            retrieved_at: WireTime::at(self.dated()),
            redaction_mode: self.redaction_mode.trim().to_owned(),
            immutability: immutability(&self.immutability)?,
            ..self
        };
        let required = [
            &record.ref_id,
            &record.source_type,
            &record.source_locator,
            &record.redaction_mode,
        ];
        if required.iter().any(|field| field.is_empty()) {
            return Err(invalid(
                "context record fields ref_id/source_type/source_locator/redaction_mode are required",
            ));
        }
        if record.freshness_sla_seconds < 0 {
            return Err(invalid("context record freshness_sla_seconds must be >= 0"));
        }
        Ok(record)
    }

    fn dated(&self) -> Timestamp {
        self.retrieved_at.get().unwrap_or(WireTime::UNDATED)
    }

    fn order(&self) -> [&str; 4] {
        [
            &self.ref_id,
            &self.source_type,
            &self.source_locator,
            &self.content_digest,
        ]
    }
}

fn digest(name: &str, text: &str) -> Result<String> {
    let digest = text::trim_lower(text);
    if text::is_sha256_hex(&digest) {
        return Ok(digest);
    }
    Err(invalid(format!("context record {name} must be sha256 hex")))
}

fn immutability(text: &str) -> Result<String> {
    match text::trim_lower(text).as_str() {
        "" => Ok("unknown".to_owned()),
        known @ ("unknown" | "mutable" | "immutable") => Ok(known.to_owned()),
        _ => Err(invalid(
            "context record immutability must be unknown|mutable|immutable",
        )),
    }
}

#[cfg(test)]
mod tests;
