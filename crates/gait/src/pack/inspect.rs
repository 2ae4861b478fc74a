//! What a pack tells a reader.

use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};
use worldcompute_fault::Result;

use super::authorization::{BUNDLE_NAME, Bundle};
use super::manifest::{Manifest, PackType};
use super::open::{embedded_runpack, open};
use super::payload::{CallPayload, JobPayload, RunPayload, for_each_event, read};
use super::run::RunFacts;
use super::verify::Kind;
use crate::archive::Archive;
use crate::guard;
use crate::job::{CheckpointKind, JobState};
use crate::json_stream;
use crate::limits::{MAX_FIELD, MAX_JSONL_LINE};
use crate::runpack::{INTENTS, RESULTS};
use crate::signature::unverified;
use crate::sorter::Sorter;

/// What a pack tells.
#[derive(Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the names are those of the contract")]
pub struct Inspection {
    pub pack_id: String,
    pub pack_type: String,
    pub source_ref: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard_manifest: Option<guard::Manifest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_payload: Option<RunPayload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_payload: Option<JobPayload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_payload: Option<CallPayload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_bundle: Option<Bundle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_payload: Option<AuthorizationPayload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_lineage: Option<RunLineage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_lineage: Option<JobLineage>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub legacy_type: &'static str,
}

/// How much happened in a run.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the contract")]
pub struct RunLineage {
    pub timeline_events: u64,
    pub receipt_count: u64,
}

/// How one intent ended.
#[derive(Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the names are those of the contract")]
pub struct IntentResult {
    pub intent_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tool_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
}

/// How a job came to be where it is.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the contract")]
pub struct JobLineage {
    pub event_count: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_event_type: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checkpoint_refs: Vec<CheckpointRef>,
}

/// One checkpoint, by name.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the contract")]
pub struct CheckpointRef {
    pub checkpoint_id: String,
    #[serde(rename = "type")]
    pub kind: CheckpointKind,
    pub reason_code: String,
}

/// An authorization in short (`gait.pack.authorization`).
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the contract")]
pub struct AuthorizationPayload {
    pub schema_id: &'static str,
    pub schema_version: &'static str,
    pub created_at: crate::wire_time::WireTime,
    pub trace_id: String,
    pub policy_digest: String,
    pub intent_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub outcome_status: String,
    pub linked_evidence_count: usize,
    pub required_evidence_count: usize,
}

/// Reads what the pack at `path` tells, once it was verified. How the intents of a run ended is handed to `each`, one
/// by one in the order of their ids: there may be more than one would want to hold.
///
/// Errors: those of [`open`] and of `each`.
pub fn inspect(
    path: &Path,
    mut each: impl FnMut(&IntentResult) -> Result<()>,
) -> Result<Inspection> {
    let pack = open(path)?;
    let mut told = Inspection {
        pack_id: pack.report.pack_id.clone(),
        pack_type: pack.report.pack_type.clone(),
        source_ref: pack.report.source_ref.clone(),
        legacy_type: pack.report.legacy_type,
        ..Inspection::default()
    };
    match pack.kind {
        Kind::Runpack(_) => tell_run(&mut told, &pack.archive, &mut each)?,
        Kind::Guard(manifest) => told.guard_manifest = Some(*manifest),
        Kind::Pack(manifest) => {
            tell(&mut told, &pack.archive, manifest.pack_type, &mut each)?;
            told.manifest = Some(manifest);
        }
    }
    Ok(told)
}

type Each<'a> = &'a mut dyn FnMut(&IntentResult) -> Result<()>;

fn tell(
    told: &mut Inspection,
    archive: &Archive<File>,
    pack_type: PackType,
    each: Each<'_>,
) -> Result<()> {
    match pack_type {
        PackType::Run => {
            let source = embedded_runpack(archive)?;
            tell_run(told, &source.archive, each)?;
            told.run_payload = Some(read(archive, "run_payload.json")?);
        }
        PackType::Job => {
            told.job_payload = Some(read(archive, "job_payload.json")?);
            told.job_lineage = Some(job_lineage(archive)?);
        }
        PackType::Call => told.call_payload = Some(read(archive, "call_payload.json")?),
        PackType::Authorization => {
            let bundle: Bundle = read(archive, BUNDLE_NAME)?;
            told.authorization_payload = Some(AuthorizationPayload::of(&bundle));
            told.authorization_bundle = Some(bundle);
        }
    }
    Ok(())
}

fn tell_run(told: &mut Inspection, runpack: &Archive<File>, each: Each<'_>) -> Result<()> {
    let facts = RunFacts::read(runpack)?;
    told.run_payload = Some(facts.payload());
    told.run_lineage = Some(RunLineage {
        timeline_events: facts.timeline,
        receipt_count: facts.refs.receipts,
    });
    for_each_result(runpack, each)
}

/// The part of an intent or result that is told.
#[derive(Deserialize)]
struct Told {
    intent_id: String,
    #[serde(default)]
    tool_name: String,
    #[serde(default)]
    status: String,
}

/// What a note on an intent starts with: it says which tool was meant, or how it ended.
const TOOL: &str = "t";
const STATUS: &str = "s";

/// Hands how each intent ended to `each`. Of several records with one id the last counts.
fn for_each_result(runpack: &Archive<File>, each: Each<'_>) -> Result<()> {
    let mut notes = Sorter::new()?;
    note(&mut notes, runpack, INTENTS, |told| (TOOL, &told.tool_name))?;
    note(&mut notes, runpack, RESULTS, |told| (STATUS, &told.status))?;
    let mut result = None;
    notes.finish(|id, note| {
        if let Some(whole) = result.take_if(|last: &mut IntentResult| last.intent_id != id) {
            each(&whole)?;
        }
        let result = result.get_or_insert_with(|| IntentResult {
            intent_id: id.to_owned(),
            ..IntentResult::default()
        });
        match note.split_at_checked(1) {
            Some((TOOL, tool)) => tool.clone_into(&mut result.tool_name),
            Some((_, status)) => status.clone_into(&mut result.status),
            None => {}
        }
        Ok(())
    })?;
    result.iter().try_for_each(each)
}

fn note(
    notes: &mut Sorter,
    runpack: &Archive<File>,
    name: &str,
    what: impl Fn(&Told) -> (&'static str, &str),
) -> Result<()> {
    json_stream::values(
        name,
        runpack.read(name)?,
        MAX_JSONL_LINE,
        |number, told: Told| {
            let (kind, text) = what(&told);
            for field in [&told.intent_id, text] {
                if field.len() > MAX_FIELD {
                    let message = format!(
                        "{name} line {number}: a field is past the limit of {MAX_FIELD} bytes"
                    );
                    return Err(unverified(message));
                }
            }
            notes.push(&told.intent_id, &format!("{kind}{text}"))
        },
    )
}

fn job_lineage(archive: &Archive<File>) -> Result<JobLineage> {
    let state: JobState = read(archive, "job_state.json")?;
    let (mut event_count, mut last_event_type) = (0, String::new());
    for_each_event(archive, |event| {
        event_count += 1;
        event.kind.clone_into(&mut last_event_type);
        Ok(())
    })?;
    let mut checkpoint_refs: Vec<CheckpointRef> = state
        .checkpoints
        .into_iter()
        .map(|checkpoint| CheckpointRef {
            checkpoint_id: checkpoint.checkpoint_id,
            kind: checkpoint.kind,
            reason_code: checkpoint.reason_code,
        })
        .collect();
    checkpoint_refs.sort_by(|a, b| a.checkpoint_id.cmp(&b.checkpoint_id));
    Ok(JobLineage {
        event_count,
        last_event_type,
        checkpoint_refs,
    })
}

impl AuthorizationPayload {
    fn of(bundle: &Bundle) -> Self {
        let complete = |path: &str, digest: &str| !path.is_empty() && !digest.is_empty();
        let required = [
            complete(&bundle.trace_path, &bundle.trace_digest),
            complete(&bundle.outcome_path, &bundle.outcome_digest),
        ];
        Self {
            schema_id: "gait.pack.authorization",
            schema_version: "1.0.0",
            created_at: bundle.created_at,
            trace_id: bundle.trace_id.clone(),
            policy_digest: bundle.policy_digest.clone(),
            intent_digest: bundle.intent_digest.clone(),
            outcome_status: bundle.outcome_status.clone(),
            linked_evidence_count: bundle.linked(),
            required_evidence_count: required.into_iter().filter(|there| *there).count(),
        }
    }
}
