//! What a job is: the records of `state.json` and `events.jsonl`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::Sha256;

use crate::wire_time::WireTime;

/// The `schema_id` of a job's state.
pub const SCHEMA_ID: &str = "gait.job.runtime";
/// The `schema_id` of a job's event.
pub const EVENT_SCHEMA_ID: &str = "gait.job.event";
/// The only `schema_version` of both.
pub const SCHEMA_VERSION: &str = "1.0.0";

/// Characters of a job id.
const MAX_JOB_ID: usize = 128;
/// The version of the list of safety invariants.
const INVARIANTS_VERSION: &str = "1";

/// The name of a job, and of its directory: a letter or digit, then letters, digits and `._:-`, at most 128.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(String);

impl JobId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobId {
    type Err = Fault;

    /// Errors: `invalid_job_id`.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        let first = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        if first && text.len() <= MAX_JOB_ID && text.bytes().all(inner) {
            return Ok(Self(text.to_owned()));
        }
        let message = "job_id must match ^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$";
        Err(
            Fault::new(Category::InvalidInput, "invalid_job_id", message)
                .hint("give the job's id with --id"),
        )
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// At work.
    Running,
    /// Paused by somebody.
    Paused,
    /// Waits for somebody to decide.
    DecisionNeeded,
    /// Cannot go on by itself.
    Blocked,
    /// Done.
    Completed,
    /// Given up by somebody.
    Cancelled,
    /// Stopped in an emergency.
    EmergencyStopped,
}

impl Status {
    /// The name in the records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::DecisionNeeded => "decision_needed",
            Self::Blocked => "blocked",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::EmergencyStopped => "emergency_stopped",
        }
    }
}

/// What a checkpoint reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointKind {
    /// What is going to be done.
    Plan,
    /// How far it is.
    Progress,
    /// Somebody has to decide before it goes on.
    DecisionNeeded,
    /// It cannot go on.
    Blocked,
    /// It is done.
    Completed,
}

impl CheckpointKind {
    /// The kind of that name, if there is one.
    pub fn parse(name: &str) -> Option<Self> {
        serde_json::from_value(Value::from(name.trim())).ok()
    }

    /// The name in the records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Progress => "progress",
            Self::DecisionNeeded => "decision-needed",
            Self::Blocked => "blocked",
            Self::Completed => "completed",
        }
    }

    /// The reason code of its event.
    pub const fn reason_code(self) -> &'static str {
        match self {
            Self::Plan => "checkpoint_plan",
            Self::Progress => "checkpoint_progress",
            Self::DecisionNeeded => "checkpoint_decision_needed",
            Self::Blocked => "checkpoint_blocked",
            Self::Completed => "checkpoint_completed",
        }
    }
}

/// `state.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct JobState {
    pub schema_id: String,
    pub schema_version: String,
    pub created_at: WireTime,
    pub updated_at: WireTime,
    pub producer_version: String,
    pub job_id: String,
    pub status: Status,
    pub stop_reason: String,
    pub status_reason_code: String,
    pub environment_fingerprint: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub safety_invariant_version: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub safety_invariant_hash: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub safety_invariants: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy_digest: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy_ref: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
    pub revision: u64,
    pub checkpoints: Vec<Checkpoint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
}

/// A checkpoint of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct Checkpoint {
    pub checkpoint_id: String,
    pub created_at: WireTime,
    #[serde(rename = "type")]
    pub kind: CheckpointKind,
    pub summary: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub required_action: String,
    pub reason_code: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub actor: String,
}

/// An approval of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct Approval {
    pub created_at: WireTime,
    pub actor: String,
    pub reason: String,
}

/// A line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub struct Event {
    pub schema_id: String,
    pub schema_version: String,
    pub created_at: WireTime,
    pub job_id: String,
    pub revision: u64,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub actor: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason_code: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub payload: Map<String, Value>,
}

impl Event {
    /// An event whose job, revision and time follow from the change it belongs to.
    pub(super) fn new(kind: &str, actor: &str, reason_code: &str) -> Self {
        Self {
            schema_id: EVENT_SCHEMA_ID.to_owned(),
            schema_version: SCHEMA_VERSION.to_owned(),
            created_at: WireTime::default(),
            job_id: String::new(),
            revision: 0,
            kind: kind.to_owned(),
            actor: actor.trim().to_owned(),
            reason_code: reason_code.to_owned(),
            payload: Map::new(),
        }
    }

    /// Adds a fact; an empty text says nothing and is left out.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if value != "" {
            self.payload.insert(name.to_owned(), value);
        }
        self
    }
}

impl JobState {
    /// Notes what the job promises for its whole life, and the digest of it.
    pub(super) fn note_invariants(&mut self) {
        self.safety_invariant_version = INVARIANTS_VERSION.to_owned();
        self.safety_invariants = self.derived_invariants();
        self.safety_invariant_hash = invariants_hash(&self.safety_invariants);
    }

    /// Completes a state of a version without invariants, and checks one that has them.
    pub(super) fn check_invariants(&mut self) -> Result<(), &'static str> {
        if self.safety_invariants.is_empty() {
            self.safety_invariants = self.derived_invariants();
        }
        if self.safety_invariant_version.is_empty() {
            self.safety_invariant_version = INVARIANTS_VERSION.to_owned();
        }
        let hash = invariants_hash(&self.safety_invariants);
        if self.safety_invariant_hash.is_empty() {
            self.safety_invariant_hash = hash;
            return Ok(());
        }
        match self.safety_invariant_hash == hash {
            true => Ok(()),
            false => Err("safety_invariant_hash is not that of its safety_invariants"),
        }
    }

    /// The words of the format, whoever implements it: they are part of the digest.
    fn derived_invariants(&self) -> Vec<String> {
        let mut values = vec![
            "control_boundary=runtime_go".to_owned(),
            "default_privacy=reference_receipts".to_owned(),
            "fail_closed=true".to_owned(),
        ];
        let named = [
            ("policy_digest", &self.policy_digest),
            ("policy_ref", &self.policy_ref),
            ("identity", &self.identity),
        ];
        let given = named.into_iter().filter(|(_, value)| !value.is_empty());
        values.extend(given.map(|(name, value)| format!("{name}={value}")));
        values.sort();
        values
    }

    /// How many checkpoints ask for a decision.
    pub(super) fn decisions_asked(&self) -> usize {
        let asked = |checkpoint: &&Checkpoint| checkpoint.kind == CheckpointKind::DecisionNeeded;
        self.checkpoints.iter().filter(asked).count()
    }
}

fn invariants_hash(values: &[String]) -> String {
    let mut values: Vec<&str> = values.iter().map(|value| value.trim()).collect();
    values.retain(|value| !value.is_empty());
    values.sort_unstable();
    Sha256::of(values.join("|")).to_string()
}

/// Nothing has that id: `checkpoint_not_found`.
pub(super) fn no_checkpoint(job: &JobId, checkpoint: &str) -> Fault {
    let message = format!("job {job} has no checkpoint {:?}", checkpoint.trim());
    Fault::new(Category::InvalidInput, "checkpoint_not_found", message)
        .hint("list them with job checkpoint list")
}
