//! Rulings for other programs' logs: one line of JSON each, without arguments.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use worldcompute_fault::{Category, Fault, Result};

use super::boundary::Ruling;
use crate::limits::MAX_EXPORT_LINE;
use crate::record_log::{self, append_shared};
use crate::verdict::Verdict;
use crate::wire_time::WireTime;

const RECORDS: record_log::Kind = record_log::Kind {
    max_record: MAX_EXPORT_LINE,
    mark: "\"trace_id\":",
};

/// The files that rulings are told to, a line each.
#[derive(Clone, Debug, Default)]
pub struct Exports {
    /// Lines of JSON.
    pub log: Option<PathBuf>,
    /// Log records of OpenTelemetry.
    pub otel: Option<PathBuf>,
}

impl Exports {
    /// Tells `ruling` to every file there is.
    pub fn append(&self, ruling: &Ruling, decision_latency_ms: u64) -> Result<()> {
        let event = ExportEvent::of(ruling, decision_latency_ms);
        if let Some(path) = &self.log {
            append_shared(path, &[log_line(&event)?], RECORDS)?;
        }
        if let Some(path) = &self.otel {
            append_shared(path, &[otel_line(&event)?], RECORDS)?;
        }
        Ok(())
    }

    /// Where they are, as answers say it.
    pub fn fields(&self) -> impl Iterator<Item = (String, Value)> {
        let places = [("log_export", &self.log), ("otel_export", &self.otel)];
        places.into_iter().filter_map(|(name, path)| {
            let path = path.as_ref()?.display().to_string();
            Some((name.to_owned(), path.into()))
        })
    }
}

/// What is told of a ruling.
#[derive(Clone, Debug, Serialize)]
struct ExportEvent {
    created_at: WireTime,
    producer_version: &'static str,
    run_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    session_id: String,
    trace_id: String,
    trace_path: String,
    tool_name: String,
    verdict: Verdict,
    reason_codes: Vec<String>,
    policy_digest: String,
    intent_digest: String,
    decision_latency_ms: u64,
    #[serde(skip_serializing_if = "is_zero")]
    delegation_depth: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl ExportEvent {
    /// What is told of `ruling`.
    fn of(ruling: &Ruling, decision_latency_ms: u64) -> Self {
        let decision = &ruling.decision;
        Self {
            created_at: ruling.intent.created_at(),
            producer_version: crate::VERSION,
            run_id: ruling.run_id.clone(),
            session_id: ruling.intent.context().session_id.clone(),
            trace_id: decision.trace().trace_id().to_owned(),
            trace_path: ruling.trace_path.display().to_string(),
            tool_name: ruling.intent.tool_name().to_owned(),
            verdict: decision.verdict(),
            reason_codes: decision.reason_codes().to_vec(),
            policy_digest: decision.policy_digest().to_string(),
            intent_digest: decision.intent_digest().to_string(),
            decision_latency_ms,
            delegation_depth: ruling
                .intent
                .delegation()
                .map_or(0, |delegation| delegation.chain.len()),
        }
    }
}

/// The event as it is.
fn log_line(event: &ExportEvent) -> Result<Vec<u8>> {
    serde_json::to_vec(event).map_err(unwritable)
}

/// The event as a log record of OpenTelemetry.
fn otel_line(event: &ExportEvent) -> Result<Vec<u8>> {
    let at = event.created_at.get().unwrap_or(Timestamp::UNIX_EPOCH);
    let nanos = i64::try_from(at.as_nanosecond()).unwrap_or_default();
    let record = json!({
        "time_unix_nano": nanos,
        "severity_text": "INFO",
        "body": "gait.mcp.proxy.decision",
        "trace_id": event.trace_id,
        "attributes": {
            "gait.run_id": event.run_id,
            "gait.session_id": event.session_id,
            "gait.trace_path": event.trace_path,
            "gait.tool_name": event.tool_name,
            "gait.verdict": event.verdict,
            "gait.policy_digest": event.policy_digest,
            "gait.intent_digest": event.intent_digest,
            "gait.delegation_depth": event.delegation_depth,
            "gait.reason_codes": event.reason_codes,
            "gait.decision_latency_ms": event.decision_latency_ms,
        },
    });
    serde_json::to_vec(&record).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "internal_failure",
        "write an export",
    )
    .caused_by(error)
}
