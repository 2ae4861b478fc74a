//! Deleting traces and packs that are past their time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::canonical_json;

use crate::artefact;
use crate::clock::Clock;
use crate::limits::{MAX_RETAIN_DEPTH, MAX_RETAIN_FILES, at_most};
use crate::wire_time::WireTime;

/// How long what is kept, and where.
pub struct Policy<'a> {
    /// The directory to go through, with everything below it. Links are not followed.
    pub root: &'a Path,
    /// How long `trace_*.json` are kept; zero for ever.
    pub trace_ttl: SignedDuration,
    /// How long evidence and incident packs are kept; zero for ever.
    pub pack_ttl: SignedDuration,
    /// Only say what would be deleted.
    pub dry_run: bool,
    /// Where the report goes, if anywhere.
    pub report: Option<&'a Path>,
    /// The program's version.
    pub producer_version: &'a str,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What was kept and what deleted (`gait.guard.retention_report`).
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct Report {
    pub schema_id: &'static str,
    pub schema_version: &'static str,
    pub created_at: WireTime,
    pub producer_version: String,
    pub root_path: PathBuf,
    pub dry_run: bool,
    pub trace_ttl_seconds: i64,
    pub pack_ttl_seconds: i64,
    pub scanned_files: usize,
    pub deleted_files: Vec<Event>,
    pub kept_files: Vec<Event>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct Event {
    pub path: PathBuf,
    pub kind: Kind,
    pub modified_at: WireTime,
    pub age_seconds: u64,
    pub action: Action,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A decision.
    Trace,
    /// An evidence or incident pack, sealed or not.
    Pack,
}

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It stays.
    Kept,
    /// It is gone, or would be in a dry run.
    Deleted,
}

/// Deletes what is past its time.
///
/// The report is written before anything is deleted, and again when a deletion fails: nothing goes without a record.
/// Errors: `invalid_ttl`, `too_many_files`, `retention_incomplete`; those of listing and writing.
pub fn retain(policy: &Policy<'_>) -> Result<Report> {
    if policy.trace_ttl.is_negative() || policy.pack_ttl.is_negative() {
        let message = "a time to live cannot be negative";
        return Err(Fault::new(Category::InvalidInput, "invalid_ttl", message)
            .hint("give --trace-ttl and --pack-ttl such as 168h, or 0 to keep for ever"));
    }
    let mut report = plan(policy)?;
    write(policy, &report)?;
    if policy.dry_run {
        return Ok(report);
    }
    for index in 0..report.deleted_files.len() {
        let Some(event) = report.deleted_files.get(index) else {
            break;
        };
        if let Err(error) = fs::remove_file(&event.path) {
            let message = format!("delete {}", event.path.display());
            let fault = Fault::io(message, &error);
            report.keep_from(index);
            write(policy, &report)?;
            return Err(incomplete(&fault));
        }
    }
    Ok(report)
}

impl Report {
    /// What was not reached any more is kept.
    fn keep_from(&mut self, index: usize) {
        let kept = self.deleted_files.split_off(index).into_iter();
        self.kept_files.extend(kept.map(|event| Event {
            action: Action::Kept,
            ..event
        }));
        self.kept_files.sort_by(|a, b| a.path.cmp(&b.path));
    }
}

fn plan(policy: &Policy<'_>) -> Result<Report> {
    let now = policy.clock.now();
    let mut found = Vec::new();
    collect(policy.root, 0, &mut found)?;
    found.sort();
    let mut report = Report {
        schema_id: "gait.guard.retention_report",
        schema_version: "1.0.0",
        created_at: WireTime::at(now),
        producer_version: policy.producer_version.to_owned(),
        root_path: policy.root.to_owned(),
        dry_run: policy.dry_run,
        trace_ttl_seconds: policy.trace_ttl.as_secs(),
        pack_ttl_seconds: policy.pack_ttl.as_secs(),
        scanned_files: found.len(),
        deleted_files: Vec::new(),
        kept_files: Vec::new(),
    };
    for (path, modified) in found {
        let event = policy.judge(path, modified, now);
        match event.action {
            Action::Deleted => report.deleted_files.push(event),
            Action::Kept => report.kept_files.push(event),
        }
    }
    Ok(report)
}

impl Policy<'_> {
    fn judge(&self, path: PathBuf, modified: Timestamp, now: Timestamp) -> Event {
        let kind = kind(&path).unwrap_or(Kind::Pack);
        let ttl = match kind {
            Kind::Trace => self.trace_ttl,
            Kind::Pack => self.pack_ttl,
        };
        // What comes from the future has no age yet.
        let age = now.duration_since(modified).max(SignedDuration::ZERO);
        let expired = !ttl.is_zero() && age > ttl;
        Event {
            path,
            kind,
            modified_at: WireTime::at(modified),
            age_seconds: u64::try_from(age.as_secs()).unwrap_or_default(),
            action: if expired {
                Action::Deleted
            } else {
                Action::Kept
            },
        }
    }
}

/// The files below `dir` that are traces or packs, with the time of their last change.
fn collect(dir: &Path, depth: usize, found: &mut Vec<(PathBuf, Timestamp)>) -> Result<()> {
    at_most(
        "levels of directories",
        depth,
        MAX_RETAIN_DEPTH,
        "too_many_files",
    )?;
    let cannot_list = |error| Fault::io(format_args!("list {}", dir.display()), &error);
    for entry in fs::read_dir(dir).map_err(cannot_list)? {
        let entry = entry.map_err(cannot_list)?;
        let path = entry.path();
        let metadata = entry.metadata().map_err(cannot_list)?;
        if metadata.is_dir() {
            collect(&path, depth + 1, found)?;
        } else if metadata.is_file() && kind(&path).is_some() {
            let modified = metadata.modified().map_err(cannot_list)?;
            let modified = Timestamp::try_from(modified).unwrap_or(Timestamp::MIN);
            found.push((path, modified));
            at_most("files", found.len(), MAX_RETAIN_FILES, "too_many_files")?;
        }
    }
    Ok(())
}

fn kind(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let pack = name.starts_with("evidence_pack_") || name.starts_with("incident_pack_");
    if name.starts_with("trace_") && name.ends_with(".json") {
        return Some(Kind::Trace);
    }
    (pack && (name.ends_with(".zip") || name.ends_with(".gaitenc"))).then_some(Kind::Pack)
}

fn write(policy: &Policy<'_>, report: &Report) -> Result<()> {
    match policy.report {
        Some(path) => artefact::write(path, &canonical_json(report)?),
        None => Ok(()),
    }
}

fn incomplete(fault: &Fault) -> Fault {
    Fault::new(Category::IoFailure, "retention_incomplete", fault.message())
        .hint("see the report for what is left, and run it again once the file can be deleted")
}
