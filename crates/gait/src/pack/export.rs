//! Packs for other systems: lines of telemetry and an index row for PostgreSQL.

mod postgres;

use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use worldcompute_fault::Result;
use worldcompute_proof::Sha256;

use super::SignatureStatus;
use super::diff::manifest_digest;
use super::manifest::{PackType, is_digest};
use super::open::{Pack, embedded_runpack, open};
use super::verify::Kind;
use crate::archive::Archive;
use crate::artefact;
use crate::json_stream;
use crate::limits::{MAX_EXPORT_LINE, MAX_JSONL_LINE};
use crate::record_log::{self, append_shared};
use crate::runpack::{INTENTS, RESULTS};
use crate::wire_time::WireTime;

pub use postgres::postgres_sql;

const RECORDS: record_log::Kind = record_log::Kind {
    max_record: MAX_EXPORT_LINE,
    mark: "\"gait.pack_id\":",
};

/// What is exported of a pack.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the contract")]
pub struct Export {
    pub pack_id: String,
    pub pack_type: String,
    pub source_ref: String,
    pub manifest_digest: String,
    pub files_checked: usize,
    pub hash_mismatches: usize,
    pub missing_files: usize,
    pub undeclared_files: usize,
    pub signature_status: SignatureStatus,
    pub signatures_total: usize,
    pub signatures_valid: usize,
    pub created_at: WireTime,
    pub metrics: ExportMetrics,
}

/// How the tool calls of a run went.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the names are those of the contract")]
pub struct ExportMetrics {
    pub tool_calls_total: u64,
    pub tool_calls_success: u64,
    pub tool_calls_success_rate: f64,
    pub policy_blocked: u64,
    pub approval_required: u64,
    pub regress_failures: u64,
}

/// Reads what is exported of the pack at `path`, once it was verified.
///
/// Errors: those of [`open`].
pub fn export(path: &Path) -> Result<Export> {
    let pack = open(path)?;
    let metrics = metrics(&pack)?;
    let manifest_digest = manifest_digest(&pack)?;
    let created_at = match &pack.kind {
        Kind::Pack(manifest) => manifest.created_at,
        Kind::Guard(manifest) => manifest.created_at,
        Kind::Runpack(_) => WireTime::at(WireTime::UNDATED),
    };
    let report = pack.report;
    Ok(Export {
        pack_id: report.pack_id,
        pack_type: report.pack_type,
        source_ref: report.source_ref,
        manifest_digest,
        files_checked: report.files_checked,
        hash_mismatches: report.hash_mismatches.len(),
        missing_files: report.missing_files.len(),
        undeclared_files: report.undeclared_files.len(),
        signature_status: report.signature_status,
        signatures_total: report.signatures_total,
        signatures_valid: report.signatures_valid,
        created_at,
        metrics,
    })
}

fn metrics(pack: &Pack) -> Result<ExportMetrics> {
    let is_run = matches!(&pack.kind, Kind::Pack(manifest)
        if matches!(manifest.pack_type, PackType::Run | PackType::Call));
    match pack.kind {
        Kind::Runpack(_) => run_metrics(&pack.archive),
        _ if is_run => run_metrics(&embedded_runpack(&pack.archive)?.archive),
        _ => Ok(ExportMetrics::default()),
    }
}

/// The part of a result that is counted.
#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    status: String,
    #[serde(default)]
    result: Map<String, Value>,
}

fn run_metrics(runpack: &Archive<File>) -> Result<ExportMetrics> {
    let mut metrics = ExportMetrics::default();
    let results = runpack.read(RESULTS)?;
    json_stream::values(RESULTS, results, MAX_JSONL_LINE, |_, result| {
        metrics.count(&result);
        Ok(())
    })?;
    if metrics.tool_calls_total == 0 {
        json_stream::lines(INTENTS, runpack.read(INTENTS)?, |_, _| {
            metrics.tool_calls_total += 1;
            Ok(())
        })?;
    }
    if metrics.tool_calls_total > 0 {
        metrics.tool_calls_success_rate =
            metrics.tool_calls_success as f64 / metrics.tool_calls_total as f64;
    }
    Ok(metrics)
}

impl ExportMetrics {
    /// Each number with its name, its kind and its unit.
    fn named(&self) -> [(&'static str, &'static str, &'static str, Value); 6] {
        let count = |name, value: u64| (name, "value_int", "1", value.into());
        let rate = self.tool_calls_success_rate.into();
        [
            count("tool_calls_total", self.tool_calls_total),
            count("tool_calls_success_total", self.tool_calls_success),
            ("tool_calls_success_rate", "value_double", "ratio", rate),
            count("policy_blocked_total", self.policy_blocked),
            count("approval_required_total", self.approval_required),
            count("regress_failures_total", self.regress_failures),
        ]
    }

    fn count(&mut self, counted: &Counted) {
        self.tool_calls_total += 1;
        self.tool_calls_success += u64::from(counted.status.trim().eq_ignore_ascii_case("ok"));
        match &*counted.text("verdict") {
            "block" => self.policy_blocked += 1,
            "require_approval" | "approval_required" | "needs_approval" | "needsapproval" => {
                self.approval_required += 1;
            }
            _ => {}
        }
        self.regress_failures += u64::from(counted.is_regression());
    }
}

impl Counted {
    fn text(&self, name: &str) -> String {
        let text = self.result.get(name).and_then(Value::as_str);
        text.unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Whether the result reports a failed regression, in one of the ways graders do.
    fn is_regression(&self) -> bool {
        let counts = |name: &str| self.result.get(name).and_then(Value::as_f64);
        if ["regress_failures", "failed"]
            .iter()
            .any(|name| counts(name).is_some_and(|n| n >= 1.0))
        {
            return true;
        }
        let failed =
            |name: &&str| matches!(&*self.text(name), "fail" | "failed" | "regress_failed");
        if ["regress_status", "status", "result_status"]
            .iter()
            .any(failed)
        {
            return true;
        }
        let codes = self.result.get("reason_codes").and_then(Value::as_array);
        let listed = codes.into_iter().flatten().filter_map(Value::as_str);
        let reasons = listed.map(|code| code.trim().to_ascii_lowercase());
        reasons
            .chain(["reason", "failure_reason"].map(|name| self.text(name)))
            .any(|reason| {
                reason.contains("regress") && (reason.contains("fail") || reason.contains("drift"))
            })
    }
}

/// Appends the export to the log at `path`, as lines of OpenTelemetry-like JSON: a span, an event and six metrics.
///
/// # Errors
/// `not_a_log` for a file that ends otherwise than a log, `state_contention`, and those of writing.
pub fn append_otel(path: &Path, export: &Export) -> Result<()> {
    artefact::prepare(path)?;
    append_shared(path, &otel_lines(export), RECORDS)
}

fn otel_lines(export: &Export) -> Vec<String> {
    let nanos = export
        .created_at
        .get()
        .unwrap_or(WireTime::UNDATED)
        .as_nanosecond();
    let nanos = i64::try_from(nanos).unwrap_or_default();
    let (trace_id, span_id) = otel_ids(export);
    let attributes = attributes(export);
    let intact = attributes.get("gait.integrity_ok") == Some(&Value::Bool(true));
    let mut lines = vec![
        json!({
            "record_type": "span", "trace_id": trace_id, "span_id": span_id, "name": "gait.pack.verify",
            "start_time_unix_nano": nanos, "end_time_unix_nano": nanos,
            "status": {"code": if intact { "ok" } else { "error" }},
            "attributes": attributes, "instrumentation_scope": "gait.pack.export",
        }),
        json!({
            "record_type": "event", "time_unix_nano": nanos, "severity_text": "INFO",
            "body": "gait.pack.export.metadata", "trace_id": trace_id, "span_id": span_id,
            "attributes": attributes,
        }),
    ];
    lines.extend(export.metrics.named().map(|(name, kind, unit, value)| {
        json!({
            "record_type": "metric", "time_unix_nano": nanos, "name": format!("gait.pack.{name}"), "unit": unit,
            "attributes": attributes, kind: value,
        })
    }));
    lines.iter().map(Value::to_string).collect()
}

fn attributes(export: &Export) -> Map<String, Value> {
    let intact = export.hash_mismatches + export.missing_files + export.undeclared_files == 0;
    let attributes = json!({
        "gait.pack_id": export.pack_id,
        "gait.pack_type": export.pack_type,
        "gait.source_ref": export.source_ref,
        "gait.manifest_digest": export.manifest_digest,
        "gait.files_checked": export.files_checked,
        "gait.hash_mismatches": export.hash_mismatches,
        "gait.missing_files": export.missing_files,
        "gait.undeclared_files": export.undeclared_files,
        "gait.signature_status": export.signature_status,
        "gait.signatures_total": export.signatures_total,
        "gait.signatures_valid": export.signatures_valid,
        "gait.integrity_ok": intact,
        "gait.tool_calls_total": export.metrics.tool_calls_total,
        "gait.tool_calls_ok": export.metrics.tool_calls_success,
        "gait.policy_blocked": export.metrics.policy_blocked,
        "gait.approval_required": export.metrics.approval_required,
        "gait.regress_failures": export.metrics.regress_failures,
    });
    match attributes {
        Value::Object(attributes) => attributes,
        _ => Map::new(),
    }
}

/// Ids that follow from the pack, so that the same pack is the same trace wherever it is exported.
fn otel_ids(export: &Export) -> (String, String) {
    let named = [&export.pack_id, &export.manifest_digest];
    let seed = named.into_iter().find(|id| is_digest(id)).map_or_else(
        || Sha256::of(format!("{}|{}", export.pack_type, export.source_ref)).to_string(),
        |id| id.to_ascii_lowercase(),
    );
    let (trace, rest) = seed.split_at(32);
    (trace.to_owned(), rest.chars().take(16).collect())
}
