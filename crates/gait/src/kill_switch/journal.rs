//! What the switch stopped: one line a decision, in a file beside the state.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use worldcompute_durable::{LockFile, LockForm, LockOptions, Mode, append_line};
use worldcompute_fault::{Category, Fault, Result};

use super::Decision;
use crate::VERSION;
use crate::intent::Intent;
use crate::trace::Subject;
use crate::wire_time::WireTime;

const LOCK: LockForm = LockForm {
    schema_id: "gait.gate.append_lock",
    schema_version: "1.0.0",
    stale_after: Duration::from_secs(120),
};
const WAIT: LockOptions = LockOptions {
    wait: Duration::from_secs(30),
    poll: Duration::from_millis(10),
};

/// One line of the journal (`gait.gate.kill_switch_journal` 1.0.0).
#[derive(Serialize)]
pub struct JournalRecord<'a> {
    schema_id: &'static str,
    schema_version: &'static str,
    created_at: WireTime,
    producer_version: &'static str,
    source: &'static str,
    trace_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    job_id: &'a str,
    tool_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    agent_id: &'a str,
    identity: &'a str,
    reason_codes: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    matched_entry_ids: &'a [String],
}

impl<'a> JournalRecord<'a> {
    /// That `decision` stopped `intent`; `source` says who asked.
    pub fn new(
        source: &'static str,
        subject: &Subject<'a>,
        intent: &'a Intent,
        decision: &'a Decision,
    ) -> Self {
        let context = intent.context();
        Self {
            schema_id: "gait.gate.kill_switch_journal",
            schema_version: "1.0.0",
            // When it was stopped: what the intent says of its own time is a claim.
            created_at: decision.evaluated_at,
            producer_version: VERSION,
            source,
            trace_id: subject.trace_id,
            job_id: &context.job_id,
            tool_name: subject.tool_name,
            agent_id: &context.agent_id,
            identity: &context.identity,
            reason_codes: &decision.reason_codes,
            matched_entry_ids: &decision.matched_entry_ids,
        }
    }

    /// Appends the line to the journal of the state at `state`.
    ///
    /// Errors: `kill_switch_journal_lock_timeout`, and those of writing.
    pub fn append(&self, state: &Path) -> Result<()> {
        let path = path_beside(state);
        let mut lock = path.clone().into_os_string();
        lock.push(".lock");
        let _lock = LockFile::acquire(Path::new(&lock), &LOCK, WAIT).map_err(contended)?;
        let line = serde_json::to_vec(self).map_err(|error| {
            Fault::new(
                Category::InternalFailure,
                "internal_failure",
                "write the kill switch journal",
            )
            .caused_by(error)
        })?;
        append_line(&path, &line, Mode::Private)
    }
}

/// The journal of the state at `state`.
fn path_beside(state: &Path) -> PathBuf {
    state.with_file_name("kill_switch_journal.jsonl")
}

fn contended(fault: Fault) -> Fault {
    if fault.category() != Category::StateContention {
        return fault;
    }
    Fault::new(
        Category::StateContention,
        "kill_switch_journal_lock_timeout",
        fault.message(),
    )
}
