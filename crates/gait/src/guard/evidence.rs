//! The evidence that goes into a guard pack, read from the files that the gate and its tools wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{VerifyingKey, parse_json_within};

use crate::limits::{MAX_EVIDENCE_FILES, MAX_PACK_RECORD_BYTES, MAX_TRACE_BYTES, at_most};
use crate::pack::Part;
use crate::trace::{self, UnverifiedTrace};
use crate::wire_time::WireTime;

/// A kind of evidence that is packed record by record.
pub(super) struct Kind {
    /// How its entries are called, followed by a number.
    pub(super) prefix: &'static str,
    /// The `schema_id` of its records.
    pub(super) schema_id: &'static str,
}

pub(super) const INVENTORY: Kind = Kind {
    prefix: "inventory_snapshot",
    schema_id: "gait.scout.inventory_snapshot",
};
pub(super) const APPROVAL: Kind = Kind {
    prefix: "approval_audit",
    schema_id: "gait.gate.approval_audit_record",
};
pub(super) const CREDENTIAL: Kind = Kind {
    prefix: "credential_evidence",
    schema_id: "gait.gate.broker_credential_record",
};

/// The facts of a regression's result.
#[derive(Deserialize)]
pub(super) struct RegressFacts {
    fixture_set: String,
    status: String,
    #[serde(default)]
    graders: Vec<Value>,
    pub(super) created_at: WireTime,
}

/// The facts of an approval audit or credential record that an incident is selected by.
#[derive(Deserialize)]
pub(super) struct AuditFacts {
    #[serde(default)]
    pub(super) trace_id: String,
    pub(super) created_at: WireTime,
}

/// The records in these files, each a part of its own, numbered in the order of their paths.
///
/// Errors: `invalid_evidence` for what is no such record; `too_many_evidence_files`; those of reading.
pub(super) fn records(kind: &Kind, paths: &[PathBuf]) -> Result<Vec<Part>> {
    let paths = in_order(paths)?;
    let part = |(index, path): (usize, &PathBuf)| {
        let value = read_value(path)?;
        if value.get("schema_id").and_then(Value::as_str) != Some(kind.schema_id) {
            return Err(not_evidence(
                path,
                &format!("its schema_id is not {}", kind.schema_id),
            ));
        }
        Part::json(format!("{}_{:02}.json", kind.prefix, index + 1), &value)
    };
    paths.iter().enumerate().map(part).collect()
}

/// The decision in the file at `path`, which agrees with itself, and which somebody signed: `key`, if there is one.
///
/// Errors: `invalid_evidence` for what is no such decision; those of reading.
pub(super) fn decision(path: &Path, key: Option<&VerifyingKey>) -> Result<UnverifiedTrace> {
    let bytes = read_bounded(path, MAX_TRACE_BYTES as u64)?;
    let no_evidence = |fault: Fault| not_evidence(path, fault.message());
    if let Some(key) = key {
        trace::verify(&bytes, key).map_err(no_evidence)?;
    }
    let trace = trace::unverified_trace(&bytes).map_err(no_evidence)?;
    match trace.is_signed {
        true => Ok(trace),
        false => Err(not_evidence(path, trace::UNSIGNED)),
    }
}

/// The verdict as it is counted; a simulation decided nothing and does not count as what it says.
fn counted(trace: &UnverifiedTrace) -> String {
    match trace.simulated {
        Some(simulated) => format!("simulated:{simulated}"),
        None => trace.verdict.to_string(),
    }
}

/// `trace_summary.json`; `None` without traces.
pub(super) fn trace_summary(paths: &[PathBuf], key: Option<&VerifyingKey>) -> Result<Option<Part>> {
    #[derive(Serialize)]
    struct Line {
        trace_id: String,
        tool_name: String,
        verdict: String,
    }
    let (mut lines, mut counts) = (Vec::new(), BTreeMap::<String, usize>::new());
    for path in in_order(paths)? {
        let trace = decision(&path, key)?;
        let verdict = counted(&trace);
        *counts.entry(verdict.clone()).or_default() += 1;
        lines.push(Line {
            trace_id: trace.trace_id,
            tool_name: trace.tool_name,
            verdict,
        });
    }
    lines.sort_by(|a, b| a.trace_id.cmp(&b.trace_id));
    let total = lines.len();
    let summary = json!({"traces": lines, "total": total, "verdict_counts": counts});
    (total > 0)
        .then(|| Part::json("trace_summary.json", &summary))
        .transpose()
}

/// `regress_summary.json`; `None` without results.
pub(super) fn regress_summary(paths: &[PathBuf]) -> Result<Option<Part>> {
    let (mut lines, mut counts) = (Vec::new(), BTreeMap::<String, usize>::new());
    for path in in_order(paths)? {
        let facts: RegressFacts = read(&path)?;
        *counts.entry(facts.status.clone()).or_default() += 1;
        lines.push((facts.fixture_set, facts.status, facts.graders.len()));
    }
    lines.sort();
    let total = lines.len();
    let results: Vec<Value> = lines
        .into_iter()
        .map(|(set, status, graders)| json!({"fixture_set": set, "graders": graders, "status": status}))
        .collect();
    let summary = json!({"results": results, "status_counts": counts, "total": total});
    (total > 0)
        .then(|| Part::json("regress_summary.json", &summary))
        .transpose()
}

/// The files `<prefix>*<suffix>` in `folder`, in order.
///
/// Errors: `too_many_evidence_files`; those of listing.
pub(super) fn discover(folder: &Path, prefix: &str, suffix: &str) -> Result<Vec<PathBuf>> {
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let cannot_list = |error| Fault::io(format_args!("list {}", folder.display()), &error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot_list)? {
        let entry = entry.map_err(cannot_list)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let plain = entry.file_type().map_err(cannot_list)?.is_file();
        if plain && name.starts_with(prefix) && name.ends_with(suffix) {
            found.push(entry.path());
        }
    }
    in_order(&found)
}

/// The facts of the JSON record at `path`.
///
/// Errors: `invalid_evidence` for what is no such record; those of reading.
pub(super) fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    serde_json::from_value(read_value(path)?)
        .map_err(|error| not_evidence(path, &error.to_string()))
}

fn read_value(path: &Path) -> Result<Value> {
    let bytes = read_bounded(path, MAX_PACK_RECORD_BYTES as u64)?;
    parse_json_within(&bytes, MAX_PACK_RECORD_BYTES)
        .map_err(|fault| not_evidence(path, fault.message()))
}

fn in_order(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut paths = paths.to_vec();
    paths.sort();
    paths.dedup();
    at_most(
        "evidence files",
        paths.len(),
        MAX_EVIDENCE_FILES,
        "too_many_evidence_files",
    )?;
    Ok(paths)
}

fn not_evidence(path: &Path, why: &str) -> Fault {
    let message = format!("{} is no such evidence: {why}", path.display());
    Fault::new(Category::InvalidInput, "invalid_evidence", message)
        .hint("give the file that the gate wrote, or leave it out")
}
