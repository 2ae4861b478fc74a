//! The payload of each type of pack, and what has to agree inside a pack.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::parse_json_within;

use super::manifest::{Manifest, PackType, is_digest};
use super::run::RunFacts;
use super::{SOURCE_NAME, authorization, call, job, open};
use crate::archive::{Archive, ReadAt};
use crate::job::{Event, JobState, Status};
use crate::json_stream;
use crate::limits::{MAX_JOB_EVENT_BYTES, MAX_PACK_RECORD_BYTES};
use crate::signature::unverified;
use crate::wire_time::WireTime;

/// `run_payload.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct RunPayload {
    pub schema_id: String,
    pub schema_version: String,
    pub created_at: WireTime,
    pub run_id: String,
    pub capture_mode: String,
    pub manifest_digest: String,
    pub intents_count: u64,
    pub results_count: u64,
    pub refs_count: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context_set_digest: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub context_ref_count: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context_evidence_mode: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context_privacy_mode: String,
}

/// `job_payload.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct JobPayload {
    pub schema_id: String,
    pub schema_version: String,
    pub created_at: WireTime,
    pub job_id: String,
    pub status: Status,
    pub stop_reason: String,
    pub status_reason_code: String,
    pub environment_fingerprint: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub safety_invariant_version: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub safety_invariant_hash: String,
    pub checkpoint_count: usize,
    pub approval_count: usize,
}

/// `call_payload.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct CallPayload {
    pub schema_id: String,
    pub schema_version: String,
    pub created_at: WireTime,
    pub call_id: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run_id: String,
    pub privacy_mode: String,
    pub event_count: u64,
    pub commitment_count: u64,
    pub decision_count: u64,
    pub speak_receipt_count: u64,
    pub reference_digest_count: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub environment_fingerprint: String,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde asks for"
)]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Checks that the entries of a pack, each as declared, say the same thing.
pub(super) fn check<R: ReadAt>(archive: &Archive<R>, manifest: &Manifest) -> Result<()> {
    match manifest.pack_type {
        PackType::Run => check_run(archive, manifest),
        PackType::Job => check_job(archive, manifest),
        PackType::Call => call::check(archive, manifest),
        PackType::Authorization => authorization::check(archive, manifest),
    }
}

/// The JSON entry `name`, strictly.
pub(super) fn read<R: ReadAt, T: DeserializeOwned>(archive: &Archive<R>, name: &str) -> Result<T> {
    let malformed = |why: &str| unverified(format!("parse {name}: {why}"));
    let bytes = archive.bytes(name, MAX_PACK_RECORD_BYTES as u64)?;
    let value = parse_json_within(&bytes, MAX_PACK_RECORD_BYTES)
        .map_err(|fault| malformed(fault.message()))?;
    serde_json::from_value(value).map_err(|error| malformed(&error.to_string()))
}

fn check_run<R: ReadAt>(archive: &Archive<R>, manifest: &Manifest) -> Result<()> {
    let payload: RunPayload = read(archive, "run_payload.json")?;
    payload.check()?;
    if payload.run_id != manifest.source_ref.trim() {
        return Err(disagree("run payload run_id", "manifest source_ref"));
    }
    let source = open::embedded_runpack(archive)?;
    if payload != RunFacts::read(&source.archive)?.payload() {
        return Err(disagree("run payload", SOURCE_NAME));
    }
    Ok(())
}

fn check_job<R: ReadAt>(archive: &Archive<R>, manifest: &Manifest) -> Result<()> {
    let payload: JobPayload = read(archive, "job_payload.json")?;
    payload.check()?;
    let state: JobState = read(archive, "job_state.json")?;
    if payload.job_id != manifest.source_ref.trim() {
        return Err(disagree("job payload job_id", "manifest source_ref"));
    }
    if state.job_id != payload.job_id {
        return Err(disagree("job_state job_id", "job payload"));
    }
    if payload != job::payload(&state) {
        return Err(disagree("job payload", "job_state"));
    }
    for_each_event(archive, |event| {
        match event.job_id.trim() == payload.job_id {
            true => Ok(()),
            false => Err(disagree("job event job_id", "job payload")),
        }
    })
}

/// Hands every event of a job's pack to `each`.
pub(super) fn for_each_event<R: ReadAt>(
    archive: &Archive<R>,
    mut each: impl FnMut(&Event) -> Result<()>,
) -> Result<()> {
    const NAME: &str = "job_events.jsonl";
    json_stream::values(
        NAME,
        archive.read(NAME)?,
        MAX_JOB_EVENT_BYTES,
        |_, event| each(&event),
    )
}

impl RunPayload {
    pub(super) const SCHEMA_ID: &'static str = "gait.pack.run";

    pub(super) fn check(&self) -> Result<()> {
        schema(
            "run",
            (&self.schema_id, Self::SCHEMA_ID),
            &self.schema_version,
        )?;
        let optional = &self.context_set_digest;
        let digests =
            is_digest(&self.manifest_digest) && (optional.is_empty() || is_digest(optional));
        let modes = matches!(&*self.capture_mode, "reference" | "raw")
            && matches!(
                &*self.context_evidence_mode,
                "" | "best_effort" | "required"
            );
        match digests && modes && !self.run_id.trim().is_empty() && !self.created_at.is_unset() {
            true => Ok(()),
            false => Err(unverified(
                "run payload has an invalid mode, digest, id or time",
            )),
        }
    }
}

impl JobPayload {
    pub(super) const SCHEMA_ID: &'static str = "gait.pack.job";

    fn check(&self) -> Result<()> {
        schema(
            "job",
            (&self.schema_id, Self::SCHEMA_ID),
            &self.schema_version,
        )?;
        let required = [
            &self.job_id,
            &self.stop_reason,
            &self.status_reason_code,
            &self.environment_fingerprint,
        ];
        let named = required.iter().all(|text| !text.trim().is_empty());
        let bound =
            self.safety_invariant_version.is_empty() || is_digest(&self.safety_invariant_hash);
        match named && bound && !self.created_at.is_unset() {
            true => Ok(()),
            false => Err(unverified(
                "job payload lacks an id, reason, fingerprint, hash or time",
            )),
        }
    }
}

impl CallPayload {
    const SCHEMA_ID: &'static str = "gait.pack.call";

    pub(super) fn check(&self) -> Result<()> {
        schema(
            "call",
            (&self.schema_id, Self::SCHEMA_ID),
            &self.schema_version,
        )?;
        let known = matches!(&*self.privacy_mode, "hash_only" | "dispute_encrypted");
        match known && !self.call_id.trim().is_empty() && !self.created_at.is_unset() {
            true => Ok(()),
            false => Err(unverified(
                "call payload has an invalid privacy mode, id or time",
            )),
        }
    }
}

fn schema(what: &str, (id, expected): (&str, &str), version: &str) -> Result<()> {
    match id == expected && version == "1.0.0" {
        true => Ok(()),
        false => Err(unverified(format!(
            "{what} payload schema must be {expected} 1.0.0"
        ))),
    }
}

pub(super) fn disagree(one: &str, other: &str) -> Fault {
    unverified(format!("{one} does not match {other}"))
}
