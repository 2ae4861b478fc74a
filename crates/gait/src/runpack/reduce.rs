//! The smallest runpack that still shows a failure.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use worldcompute_fault::Result;

use super::index::Ids;
use super::read::Runpack;
use super::record::{Intent, ResultRecord};
use super::recorder::Recorder;
use super::refs::Refs;
use super::stamp::Stamp;
use crate::limits::invalid;
use crate::text::trim_lower;

/// What makes a run a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Predicate {
    /// An intent has no result.
    MissingResult,
    /// A result is not ok.
    NonOkStatus,
}

/// What became smaller.
#[derive(Clone, Debug, Serialize)]
pub struct ReduceReport {
    pub schema_id: &'static str,
    pub schema_version: &'static str,
    pub created_at: Stamp,
    pub producer_version: String,
    pub run_id: String,
    pub reduced_run_id: String,
    pub predicate: Predicate,
    pub selected_intent_id: String,
    pub original_intent_count: usize,
    pub reduced_intent_count: usize,
    pub original_result_count: usize,
    pub reduced_result_count: usize,
    pub original_ref_count: usize,
    pub reduced_ref_count: usize,
    pub still_failing: bool,
}

/// A runpack that was just made smaller.
#[derive(Clone, Debug)]
pub struct Reduced {
    /// Where it is.
    pub path: PathBuf,
    /// What became smaller.
    pub report: ReduceReport,
}

impl Predicate {
    /// Reads `missing_result` or `non_ok_status`; `invalid_input` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        match trim_lower(text).as_str() {
            "missing_result" => Ok(Self::MissingResult),
            "non_ok_status" => Ok(Self::NonOkStatus),
            _ => Err(invalid(format!("unsupported predicate {text:?}"))),
        }
    }

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingResult => "missing_result",
            Self::NonOkStatus => "non_ok_status",
        }
    }
}

/// Keeps of the runpack at `path` one intent on which `predicate` holds, and what belongs to it, and writes that to
/// `out`, or beside the original.
///
/// # Errors
/// `verification_failed` for a runpack that does not hold; `invalid_input` when the predicate holds nowhere; those of
/// writing.
pub fn reduce(path: &Path, predicate: Predicate, out: Option<&Path>) -> Result<Reduced> {
    let pack = Runpack::open(path)?;
    let found = find(&pack, predicate)?;
    let mut run = pack.run()?;
    let refs = pack.refs()?;
    let original_ref_count = refs.receipts.len();
    let original_run_id = run.run_id.clone();
    let out = out.map_or_else(
        || beside(path, &original_run_id, predicate),
        Path::to_path_buf,
    );
    run.run_id = reduced_run_id(&original_run_id, predicate);
    let id = found.intent.intent_id.as_ref();
    let report = ReduceReport {
        schema_id: "gait.runpack.reduce_report",
        schema_version: "1.0.0",
        created_at: run.created_at.utc(),
        producer_version: run.producer_version.clone(),
        run_id: original_run_id,
        reduced_run_id: run.run_id.clone(),
        predicate,
        selected_intent_id: id.to_owned(),
        original_intent_count: found.intents,
        reduced_intent_count: 1,
        original_result_count: found.results,
        reduced_result_count: usize::from(found.result.is_some()),
        original_ref_count,
        reduced_ref_count: 0,
        still_failing: true,
    };
    let refs = kept_refs(refs, &found, &run.run_id)?;
    let reduced_ref_count = refs.receipts.len();
    let mode = pack.manifest().capture_mode;
    let created_at = run.created_at;
    let mut recorder = Recorder::new(run, refs, mode, created_at)?;
    pack.timeline(|event| {
        let belongs = event.reference.is_empty() || event.reference == found.intent.intent_id;
        if belongs {
            recorder.happened(&event)
        } else {
            Ok(())
        }
    })?;
    found.record(&mut recorder, &report.reduced_run_id)?;
    recorder.finish(&out, None)?;
    find(&Runpack::open(&out)?, predicate)?;
    Ok(Reduced {
        path: out,
        report: ReduceReport {
            reduced_ref_count,
            ..report
        },
    })
}

/// The intent that shows the failure, its result if that is the failure, and how many there were.
struct Found {
    intent: Intent<'static>,
    result: Option<ResultRecord<'static>>,
    intents: usize,
    results: usize,
}

impl Found {
    fn record(self, recorder: &mut Recorder, run_id: &str) -> Result<()> {
        let mut intent = self.intent;
        intent.run_id = run_id.into();
        recorder.intent(intent, None)?;
        if let Some(mut result) = self.result {
            result.run_id = run_id.into();
            recorder.result(result, None)?;
        }
        Ok(())
    }
}

/// The first intent by id on which the predicate holds.
fn find(pack: &Runpack, predicate: Predicate) -> Result<Found> {
    let mut noted = Ids::default();
    let mut results = 0;
    let mut records = pack.results()?;
    while let Some(result) = records.advance()? {
        results += 1;
        if predicate == Predicate::MissingResult || !is_ok(&result) {
            noted.insert(&result.intent_id);
        }
    }
    let (mut intents, mut first): (usize, Option<Intent<'static>>) = (0, None);
    let mut records = pack.intents()?;
    while let Some(intent) = records.advance()? {
        intents += 1;
        let failing = noted.contains(&intent.intent_id) == (predicate == Predicate::NonOkStatus);
        let earlier = first
            .as_ref()
            .is_none_or(|first| intent.intent_id < first.intent_id);
        if failing && earlier && !intent.intent_id.is_empty() {
            first = Some(intent.into_owned());
        }
    }
    let intent = first.ok_or_else(|| not_triggered(predicate, intents))?;
    let result = match predicate {
        Predicate::MissingResult => None,
        Predicate::NonOkStatus => failing_result(pack, &intent.intent_id)?,
    };
    Ok(Found {
        intent,
        result,
        intents,
        results,
    })
}

fn not_triggered(predicate: Predicate, intents: usize) -> worldcompute_fault::Fault {
    match intents {
        0 => invalid("runpack has no intent IDs"),
        _ => invalid(format!(
            "predicate {} not triggered by runpack",
            predicate.as_str()
        )),
    }
}

fn failing_result(pack: &Runpack, intent_id: &str) -> Result<Option<ResultRecord<'static>>> {
    let mut results = pack.results()?;
    while let Some(result) = results.advance()? {
        if result.intent_id == intent_id && !is_ok(&result) {
            return Ok(Some(result.into_owned()));
        }
    }
    Ok(None)
}

fn is_ok(result: &ResultRecord<'_>) -> bool {
    matches!(trim_lower(&result.status).as_str(), "ok" | "success")
}

/// The receipts that the kept records mention.
fn kept_refs(mut refs: Refs, found: &Found, run_id: &str) -> Result<Refs> {
    let mut mentioned = BTreeSet::new();
    let args = found.intent.args.as_ref();
    let result = found
        .result
        .as_ref()
        .and_then(|result| result.result.as_ref());
    for payload in [args, result].into_iter().flatten() {
        collect_mentions(&Value::Object(payload.members()?), &mut mentioned);
    }
    refs.receipts
        .retain(|receipt| mentioned.contains(&receipt.ref_id));
    run_id.clone_into(&mut refs.run_id);
    Ok(refs)
}

fn collect_mentions(value: &Value, mentioned: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if let (true, Some(text)) = (trim_lower(name).contains("ref"), member.as_str()) {
                    mentioned.insert(text.trim().to_owned());
                }
                collect_mentions(member, mentioned);
            }
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect_mentions(item, mentioned)),
        Value::String(text) if text.starts_with("ref_") => {
            mentioned.insert(text.clone());
        }
        _ => {}
    }
}

fn reduced_run_id(original: &str, predicate: Predicate) -> String {
    let original = original.trim();
    let prefix = if original.starts_with("run_") {
        ""
    } else {
        "run_"
    };
    let predicate = predicate.as_str().replace('_', "");
    format!("{prefix}{original}_reduced_{predicate}")
}

fn beside(path: &Path, run_id: &str, predicate: Predicate) -> PathBuf {
    path.with_file_name(format!(
        "runpack_{run_id}_reduced_{}.zip",
        predicate.as_str()
    ))
}
