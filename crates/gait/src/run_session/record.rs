//! The lines of a journal.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use worldcompute_fault::Result;
use worldcompute_proof::Sha256;

use super::Session;
use super::relation::Relation;
use super::state::State;
use crate::limits::invalid;
use crate::runpack::Stamp;
use crate::text::{lower, sorted_set};

/// The `schema_version` of everything in a session.
pub(super) const VERSION: &str = "1.0.0";
/// The `schema_id` of a checkpoint.
pub(super) const CHECKPOINT_SCHEMA_ID: &str = "gait.runpack.session_checkpoint";
/// The verdicts an event can report.
pub(super) const SESSION_VERDICTS: [&str; 4] = ["allow", "block", "dry_run", "require_approval"];

/// One line.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "record_type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    Header { header: Header },
    Event { event: Event },
    Checkpoint { checkpoint: Checkpoint },
}

/// The first line: which session this is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    #[serde(default = "journal_schema")]
    pub schema_id: String,
    #[serde(default = "version")]
    pub schema_version: String,
    #[serde(default)]
    pub created_at: Stamp,
    #[serde(default)]
    pub producer_version: String,
    pub session_id: String,
    pub run_id: String,
    #[serde(default)]
    pub started_at: Stamp,
    /// Always empty: events are lines of their own.
    #[serde(default)]
    pub events: Option<Vec<Value>>,
}

fn journal_schema() -> String {
    "gait.runpack.session_journal".to_owned()
}

fn version() -> String {
    VERSION.to_owned()
}

/// Something that was decided.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Event {
    pub schema_id: String,
    pub schema_version: String,
    pub created_at: Stamp,
    pub producer_version: String,
    pub session_id: String,
    pub run_id: String,
    /// Counted from 1, without gaps.
    pub sequence: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub intent_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tool_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub intent_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy_version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matched_rule_ids: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub verdict: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_codes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violations: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relationship: Option<Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub safety_invariant_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub safety_invariant_hash: String,
}

/// A runpack of the events since the one before.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoint {
    pub schema_id: String,
    pub schema_version: String,
    pub created_at: Stamp,
    pub producer_version: String,
    pub session_id: String,
    pub run_id: String,
    /// Counted from 1, without gaps.
    pub checkpoint_index: u64,
    pub sequence_start: u64,
    pub sequence_end: u64,
    pub runpack_path: String,
    pub manifest_digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prev_checkpoint_digest: String,
    pub checkpoint_digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relationship: Option<Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub safety_invariant_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub safety_invariant_hash: String,
}

/// What an event reports; everything but tool and verdict may be empty.
#[derive(Clone, Debug, Default)]
pub struct NewEvent<'a> {
    pub intent_id: &'a str,
    pub tool_name: &'a str,
    pub intent_digest: &'a str,
    pub policy_digest: &'a str,
    pub trace_id: &'a str,
    pub trace_path: &'a str,
    pub verdict: &'a str,
    pub reason_codes: &'a [String],
    pub violations: &'a [String],
}

/// The run of the runpack of the checkpoint `index` of the session whose run is `run_id`.
pub(super) fn runpack_run_id(run_id: &str, index: u64) -> String {
    format!("{run_id}_cp_{index:04}")
}

impl Line {
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|error| invalid("write a line of the session journal").caused_by(error))
    }
}

impl Header {
    pub(super) fn new(session_id: &str, run_id: &str, session: &Session<'_>) -> Self {
        Self {
            schema_id: journal_schema(),
            schema_version: version(),
            created_at: session.now,
            producer_version: session.producer_version.to_owned(),
            session_id: session_id.to_owned(),
            run_id: run_id.to_owned(),
            started_at: session.now,
            events: Some(Vec::new()),
        }
    }
}

impl Event {
    pub(super) fn new(new: &NewEvent<'_>, state: &State, session: &Session<'_>) -> Self {
        let listed = |texts: &[String]| Some(sorted_set(texts)).filter(|set| !set.is_empty());
        let mut event = Self {
            schema_id: "gait.runpack.session_event".to_owned(),
            schema_version: version(),
            created_at: session.now,
            producer_version: session.producer_version.to_owned(),
            session_id: state.session_id.clone(),
            run_id: state.run_id.clone(),
            sequence: state.last_sequence.saturating_add(1),
            intent_id: new.intent_id.trim().to_owned(),
            tool_name: new.tool_name.trim().to_owned(),
            intent_digest: lower(new.intent_digest.trim()),
            policy_digest: lower(new.policy_digest.trim()),
            trace_id: new.trace_id.trim().to_owned(),
            trace_path: new.trace_path.trim().to_owned(),
            verdict: new.verdict.to_owned(),
            reason_codes: listed(new.reason_codes),
            violations: listed(new.violations),
            ..Self::default()
        };
        event.relationship = Some(Relation::of_event(&event));
        event
    }
}

impl Checkpoint {
    /// The run of its runpack.
    pub(super) fn runpack_run_id(&self) -> String {
        runpack_run_id(&self.run_id, self.checkpoint_index)
    }

    /// The digest that chains this checkpoint to the one before.
    pub(super) fn digest(&self) -> String {
        let Self {
            manifest_digest,
            prev_checkpoint_digest,
            checkpoint_index,
            sequence_start,
            sequence_end,
            ..
        } = self;
        let text = format!(
            "{manifest_digest}:{prev_checkpoint_digest}:{checkpoint_index}:{sequence_start}:{sequence_end}"
        );
        Sha256::of(text).to_string()
    }
}
