//! What a run read, and how much of that is proven.

use serde::{Deserialize, Serialize};
use worldcompute_fault::Result;

use super::record::{Receipt, Run, VERSION, is_zero};
use super::stamp::Stamp;
use crate::context_envelope::{ContextEnvelope, EvidenceMode, ReferenceRecord};
use crate::limits::invalid;
use crate::record::is_digest;
use crate::text::trim_lower;
use crate::wire_time::WireTime;

/// The receipts of a run. Fields are declared in the order of RFC 8785.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Refs {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub context_evidence_mode: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub context_ref_count: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub context_set_digest: String,
    pub created_at: Stamp,
    pub producer_version: String,
    pub receipts: Vec<Receipt>,
    pub run_id: String,
    pub schema_id: String,
    pub schema_version: String,
}

/// Reads `best_effort` or `required`, `None` for nothing; `invalid_input` for anything else.
pub fn evidence_mode(text: &str) -> Result<Option<EvidenceMode>> {
    match trim_lower(text).as_str() {
        "" => Ok(None),
        "best_effort" => Ok(Some(EvidenceMode::BestEffort)),
        "required" => Ok(Some(EvidenceMode::Required)),
        _ => Err(invalid(
            "context evidence mode must be best_effort or required",
        )),
    }
}

impl Refs {
    /// Whether a receipt keeps what was read itself.
    pub fn has_raw(&self) -> bool {
        let raw = |receipt: &Receipt| trim_lower(&receipt.redaction_mode) == "raw";
        self.receipts.iter().any(raw)
    }

    /// Puts what a verified envelope proves in the place of the receipts.
    pub fn prove(&mut self, envelope: &ContextEnvelope) {
        self.context_set_digest = envelope.digest().to_string();
        self.receipts = envelope.records().iter().map(Receipt::of).collect();
        self.context_ref_count = i64::try_from(self.receipts.len()).unwrap_or(i64::MAX);
    }

    /// What is left out, taken from the run.
    pub(super) fn complete(&mut self, run: &Run) {
        or(&mut self.schema_id, "gait.runpack.refs");
        or(&mut self.schema_version, VERSION);
        self.created_at = self.created_at.or(run.created_at);
        or(&mut self.producer_version, &run.producer_version);
        or(&mut self.run_id, &run.run_id);
    }

    /// The one form that the digest covers.
    pub(super) fn normalise(&mut self) -> Result<()> {
        let mode = evidence_mode(&self.context_evidence_mode)?;
        self.context_evidence_mode = mode.map_or("", EvidenceMode::as_str).to_owned();
        self.context_set_digest = trim_lower(&self.context_set_digest);
        if !self.context_set_digest.is_empty() && !is_digest(&self.context_set_digest) {
            return Err(invalid("refs context_set_digest must be sha256 hex"));
        }
        if self.context_ref_count < 0 {
            return Err(invalid("refs context_ref_count must be >= 0"));
        }
        self.receipts.iter_mut().for_each(Receipt::normalise);
        self.receipts.sort_by(|a, b| a.ref_id.cmp(&b.ref_id));
        if self.context_ref_count == 0 {
            self.context_ref_count = i64::try_from(self.receipts.len()).unwrap_or(i64::MAX);
        }
        Ok(())
    }
}

impl Receipt {
    fn of(record: &ReferenceRecord) -> Self {
        let record = record.clone();
        let params = record.retrieval_params;
        Self {
            content_digest: record.content_digest,
            freshness_sla_seconds: record.freshness_sla_seconds,
            immutability: record.immutability,
            query_digest: record.query_digest,
            redaction_mode: record.redaction_mode,
            ref_id: record.ref_id,
            retrieval_params: (!params.is_empty()).then_some(params),
            retrieved_at: record.retrieved_at.into(),
            sensitivity_label: record.sensitivity_label,
            source_locator: record.source_locator,
            source_type: record.source_type,
        }
    }

    fn normalise(&mut self) {
        for text in [
            &mut self.query_digest,
            &mut self.content_digest,
            &mut self.immutability,
        ] {
            *text = trim_lower(text);
        }
        or(&mut self.immutability, "unknown");
        self.retrieved_at = self.retrieved_at.or(Stamp::at(WireTime::UNDATED)).utc();
    }
}

/// `text`, or `other` when it is empty.
pub(super) fn or(text: &mut String, other: &str) {
    if text.is_empty() {
        other.clone_into(text);
    }
}
