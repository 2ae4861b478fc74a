//! Packs of recorded runs.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use worldcompute_fault::Result;
use worldcompute_proof::parse_json_within;

use super::payload::RunPayload;
use super::refs::Refs;
use super::{Build, Built, PackType, Part, SOURCE_NAME};
use crate::archive::{Archive, ReadAt, Writer};
use crate::json_stream;
use crate::limits::MAX_PACK_MANIFEST_BYTES;
use crate::signature::unverified;
use crate::wire_time::WireTime;

/// Builds the pack of the runpack at `runpack`.
///
/// Errors: `verification_failed` when the runpack is not what its manifest says; those of reading and writing.
pub fn build_run(runpack: &Path, build: &Build<'_>) -> Result<Built> {
    let archive = super::open::sound_runpack(runpack)?;
    let facts = RunFacts::read(&archive)?;
    let payload = facts.payload();
    payload.check()?;
    let mut parts = vec![Part::json("run_payload.json", &payload)?];
    if facts.refs.receipts > 0 {
        let envelope = Part::streamed("context_envelope.json", |out| {
            facts.refs.write_envelope(&archive, out)
        });
        parts.push(envelope?.1);
    }
    let source = Part::streamed(SOURCE_NAME, |out| normalise(&archive, out));
    parts.push(source?.1);
    let beside = runpack.parent().unwrap_or(Path::new(""));
    build.write(PackType::Run, &facts.run_id, parts, beside)
}

/// What a pack says about a run, gathered without holding it.
#[derive(Clone, Debug)]
pub(crate) struct RunFacts {
    pub(crate) run_id: String,
    pub(crate) created_at: WireTime,
    pub(crate) capture_mode: String,
    pub(crate) manifest_digest: String,
    pub(crate) intents: u64,
    pub(crate) results: u64,
    pub(crate) timeline: u64,
    pub(crate) refs: Refs,
}

/// The part of a runpack's manifest that is needed here.
#[derive(Deserialize)]
struct RunpackManifest {
    run_id: String,
    capture_mode: String,
    manifest_digest: String,
}

/// The part of `run.json` that is needed here.
#[derive(Deserialize)]
struct Run {
    run_id: String,
    created_at: WireTime,
}

impl RunFacts {
    /// Gathers the facts of a runpack whose files are as its manifest says.
    pub(crate) fn read<R: ReadAt>(archive: &Archive<R>) -> Result<Self> {
        let manifest = archive.bytes("manifest.json", MAX_PACK_MANIFEST_BYTES as u64)?;
        let manifest = parse_json_within(&manifest, MAX_PACK_MANIFEST_BYTES)
            .map_err(|fault| unverified(format!("manifest.json: {}", fault.message())))?;
        let manifest: RunpackManifest = serde_json::from_value(manifest)
            .map_err(|error| unverified(format!("manifest.json: {error}")))?;
        let mut timeline = 0;
        let members = json_stream::object_with_list(
            "run.json",
            archive.read("run.json")?,
            "timeline",
            |_: serde::de::IgnoredAny| {
                timeline += 1;
                Ok(())
            },
        )?;
        let run: Run = serde_json::from_value(Value::Object(members))
            .map_err(|error| unverified(format!("run.json: {error}")))?;
        if run.run_id != manifest.run_id || run.run_id.trim() != run.run_id {
            return Err(unverified("run.json and manifest.json do not name one run"));
        }
        Ok(Self {
            run_id: run.run_id,
            created_at: WireTime::at(run.created_at.get().unwrap_or(WireTime::UNDATED)),
            capture_mode: manifest.capture_mode,
            manifest_digest: manifest.manifest_digest,
            intents: count(archive, "intents.jsonl")?,
            results: count(archive, "results.jsonl")?,
            timeline,
            refs: Refs::read(archive)?,
        })
    }

    pub(super) fn payload(&self) -> RunPayload {
        RunPayload {
            schema_id: RunPayload::SCHEMA_ID.to_owned(),
            schema_version: "1.0.0".to_owned(),
            created_at: self.created_at,
            run_id: self.run_id.clone(),
            capture_mode: self.capture_mode.clone(),
            manifest_digest: self.manifest_digest.clone(),
            intents_count: self.intents,
            results_count: self.results,
            refs_count: self.refs.receipts,
            context_set_digest: self.refs.set_digest().to_owned(),
            context_ref_count: self.refs.receipts,
            context_evidence_mode: self.refs.evidence_mode().to_owned(),
            context_privacy_mode: self.refs.privacy_mode.clone(),
        }
    }

    /// `runpack_summary.json` of a guard pack.
    pub(crate) fn summary(&self) -> Value {
        json!({
            "capture_mode": self.capture_mode,
            "intent_count": self.intents,
            "manifest_digest": self.manifest_digest,
            "receipt_count": self.refs.receipts,
            "result_count": self.results,
            "run_id": self.run_id,
        })
    }
}

/// How many records an entry has, one a line.
fn count<R: ReadAt>(archive: &Archive<R>, name: &str) -> Result<u64> {
    let mut records = 0;
    json_stream::lines(name, archive.read(name)?, |_, _| {
        records += 1;
        Ok(())
    })?;
    Ok(records)
}

/// Writes the runpack again, so that it has the same bytes whoever zipped it.
pub(super) fn normalise(archive: &Archive<File>, out: &mut dyn Write) -> Result<()> {
    let mut names: Vec<String> = archive
        .entries()
        .iter()
        .map(|entry| entry.name().to_owned())
        .collect();
    names.sort();
    let mut writer = Writer::new(out, SOURCE_NAME);
    for name in names {
        writer.add(&name, archive.read(&name)?)?;
    }
    writer.finish().map(drop)
}
