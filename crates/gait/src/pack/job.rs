//! Packs of durable jobs.

use std::io::Write;
use std::path::Path;

use worldcompute_fault::Result;
use worldcompute_proof::canonical_json;

use super::payload::JobPayload;
use super::{Build, Built, PackType, Part};
use crate::archive::fault_of;
use crate::job::{Event, JobId, JobState, Jobs};

/// Builds the pack of a job as it stands.
///
/// Errors: those of [`Jobs::inspect`] and of writing.
pub fn build_job(jobs: &Jobs, id: &JobId, build: &Build<'_>) -> Result<Built> {
    let (state, events) = jobs.inspect(id)?;
    let events = Part::streamed("job_events.jsonl", |out| write_events(&events, out))?;
    let parts = vec![
        Part::json("job_payload.json", &payload(&state))?,
        Part::json("job_state.json", &state)?,
        events.1,
    ];
    build.write(PackType::Job, id.as_str(), parts, Path::new("gait-out"))
}

fn write_events(events: &[Event], out: &mut dyn Write) -> Result<()> {
    for event in events {
        let mut line = canonical_json(event)?;
        line.push(b'\n');
        out.write_all(&line)
            .map_err(|error| fault_of("write job events", error))?;
    }
    Ok(())
}

/// What the pack of a job in `state` says of it.
pub(super) fn payload(state: &JobState) -> JobPayload {
    JobPayload {
        schema_id: JobPayload::SCHEMA_ID.to_owned(),
        schema_version: "1.0.0".to_owned(),
        created_at: state.created_at,
        job_id: state.job_id.clone(),
        status: state.status,
        stop_reason: state.stop_reason.clone(),
        status_reason_code: state.status_reason_code.clone(),
        environment_fingerprint: state.environment_fingerprint.clone(),
        safety_invariant_version: state.safety_invariant_version.clone(),
        safety_invariant_hash: state.safety_invariant_hash.clone(),
        checkpoint_count: state.checkpoints.len(),
        approval_count: state.approvals.len(),
    }
}
