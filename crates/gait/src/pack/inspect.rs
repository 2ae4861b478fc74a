//! What a pack tells a reader.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};
use worldcompute_fault::Result;
use worldcompute_proof::parse_json_within;

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
use crate::limits::MAX_JSONL_LINE;
use crate::signature::unverified;

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

/// How a run's intents ended.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the contract")]
pub struct RunLineage {
    pub timeline_events: u64,
    pub receipt_count: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub intent_results: Vec<IntentResult>,
}

/// How one intent ended.
#[derive(Debug, Serialize)]
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

/// Reads what the pack at `path` tells, once it was verified.
///
/// Errors: those of [`open`].
pub fn inspect(path: &Path) -> Result<Inspection> {
    let mut pack = open(path)?;
    let mut told = Inspection {
        pack_id: pack.report.pack_id.clone(),
        pack_type: pack.report.pack_type.clone(),
        source_ref: pack.report.source_ref.clone(),
        legacy_type: pack.report.legacy_type,
        ..Inspection::default()
    };
    match pack.kind {
        Kind::Runpack(_) => tell_run(&mut told, &mut pack.archive)?,
        Kind::Guard(manifest) => told.guard_manifest = Some(*manifest),
        Kind::Pack(manifest) => {
            tell(&mut told, &mut pack.archive, manifest.pack_type)?;
            told.manifest = Some(manifest);
        }
    }
    Ok(told)
}

fn tell(told: &mut Inspection, archive: &mut Archive<File>, pack_type: PackType) -> Result<()> {
    match pack_type {
        PackType::Run => {
            let mut source = embedded_runpack(archive)?;
            tell_run(told, &mut source.archive)?;
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

fn tell_run(told: &mut Inspection, runpack: &mut Archive<File>) -> Result<()> {
    let facts = RunFacts::read(runpack)?;
    told.run_payload = Some(facts.payload());
    told.run_lineage = Some(RunLineage {
        timeline_events: facts.timeline,
        receipt_count: facts.refs.receipts,
        intent_results: intent_results(runpack)?,
    });
    Ok(())
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

fn intent_results(runpack: &mut Archive<File>) -> Result<Vec<IntentResult>> {
    let mut links: BTreeMap<String, (String, String)> = BTreeMap::new();
    for name in ["intents.jsonl", "results.jsonl"] {
        json_stream::lines(name, runpack.read(name)?, |number, line| {
            let malformed = |why: &str| unverified(format!("{name} line {number}: {why}"));
            let value = parse_json_within(line, MAX_JSONL_LINE)
                .map_err(|fault| malformed(fault.message()))?;
            let told: Told =
                serde_json::from_value(value).map_err(|error| malformed(&error.to_string()))?;
            let (tool, status) = links.entry(told.intent_id).or_default();
            match name {
                "intents.jsonl" => *tool = told.tool_name,
                _ => *status = told.status,
            }
            Ok(())
        })?;
    }
    let link = |(intent_id, (tool_name, status))| IntentResult {
        intent_id,
        tool_name,
        status,
    };
    Ok(links.into_iter().map(link).collect())
}

fn job_lineage(archive: &mut Archive<File>) -> Result<JobLineage> {
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
