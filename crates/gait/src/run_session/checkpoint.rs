//! A runpack of what happened since the last one.

use std::path::Path;

use serde_json::{Map, Value, json};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::SigningKey;

use super::Session;
use super::chain::Chain;
use super::journal::{self, Journal};
use super::record::{CHECKPOINT_SCHEMA_ID, Checkpoint, Event, Line, VERSION, runpack_run_id};
use super::relation::Relation;
use super::state::State;
use crate::limits::{MAX_CHECKPOINT_EVENTS, MAX_SESSION_CHECKPOINTS, invalid};
use crate::runpack::{
    CaptureMode, Intent, Payload, Recorder, Refs, ResultRecord, Run, TimelineEvent,
};

/// Writes the runpack of the events since the last checkpoint to `out`, notes it in the journal, and writes the chain it
/// is the end of to `chain`. Memory does not grow with the number of events.
///
/// # Errors
/// `invalid_input` when nothing happened since; `session_checkpoint_too_large` when more than
/// [`MAX_CHECKPOINT_EVENTS`] events did; `session_too_long` past [`MAX_SESSION_CHECKPOINTS`]; those of reading the
/// journal and of writing.
pub fn checkpoint(
    session: &Session<'_>,
    out: &Path,
    chain: &Path,
    key: Option<&SigningKey>,
) -> Result<Checkpoint> {
    let _lock = session.lock.acquire(session.journal)?;
    let journal = journal::read(session.journal, |_, _| Ok(()))?;
    check_length(&journal)?;
    check_place(&journal, out)?;
    let run_id = next_run_id(&journal)?;
    let manifest_digest = write(session, &journal, &run_id, out, key)?;
    let checkpoint = next(&journal, session, out, manifest_digest, &run_id)?;
    session.append(&Line::Checkpoint {
        checkpoint: checkpoint.clone(),
    })?;
    let mut state = State::of(&journal, session)?;
    state.note_checkpoint(&checkpoint, session);
    state.write(session)?;
    // Before anybody else can make the next one, whose chain this one would replace.
    Chain::of(journal, checkpoint.clone())?.write(chain)?;
    Ok(checkpoint)
}

fn check_length(journal: &Journal) -> Result<()> {
    let pending = journal.last_sequence.saturating_sub(journal.checkpointed());
    if pending == 0 {
        return Err(invalid("no new session events available for checkpoint"));
    }
    if pending > MAX_CHECKPOINT_EVENTS {
        let message = format!(
            "{pending} events since the last checkpoint, more than {MAX_CHECKPOINT_EVENTS}"
        );
        return Err(refused("session_checkpoint_too_large", message)
            .hint("another program wrote this journal: split it into sessions"));
    }
    if journal.checkpoints.len() >= MAX_SESSION_CHECKPOINTS {
        let message = format!("the session has {MAX_SESSION_CHECKPOINTS} checkpoints");
        return Err(refused("session_too_long", message)
            .hint("go on in a new session: gait run session start"));
    }
    Ok(())
}

/// A checkpoint never takes the place of an earlier one, whose chain would never verify again.
fn check_place(journal: &Journal, out: &Path) -> Result<()> {
    let is_out = |earlier: &Checkpoint| {
        let earlier = Path::new(&earlier.runpack_path);
        earlier == out
            || matches!((earlier.canonicalize(), out.canonicalize()), (Ok(a), Ok(b)) if a == b)
    };
    match journal.checkpoints.iter().find(|earlier| is_out(earlier)) {
        None => Ok(()),
        Some(earlier) => {
            let (out, index) = (out.display(), earlier.checkpoint_index);
            let message = format!("{out} is the runpack of checkpoint {index} of this session");
            Err(refused("checkpoint_exists", message).hint("name another file with --out"))
        }
    }
}

fn refused(code: &'static str, message: String) -> Fault {
    Fault::new(Category::InvalidInput, code, message)
}

fn next_run_id(journal: &Journal) -> Result<String> {
    let index = journal.checkpoints.len() as u64 + 1;
    Ok(runpack_run_id(&journal.header()?.run_id, index))
}

fn each_event_after(
    session: &Session<'_>,
    sequence: u64,
    mut each: impl FnMut(&Event) -> Result<()>,
) -> Result<()> {
    journal::read(session.journal, |line, _| match line {
        Line::Event { event } if event.sequence > sequence => each(event),
        _ => Ok(()),
    })?;
    Ok(())
}

fn in_timeline(event: &Event, run_id: &str) -> TimelineEvent {
    TimelineEvent {
        event: "session_event".to_owned(),
        reference: event.trace_id.clone(),
        relationship: Some(Relation::in_timeline(event, run_id)),
        ts: event.created_at.utc(),
    }
}

fn emission(journal: &Journal, run_id: &str, session: &Session<'_>) -> TimelineEvent {
    let reference = format!("checkpoint:{}", journal.checkpoints.len() + 1);
    TimelineEvent {
        event: "session_checkpoint_emitted".to_owned(),
        relationship: Some(Relation::of_emission(&reference, run_id)),
        reference,
        ts: session.now,
    }
}

fn write(
    session: &Session<'_>,
    journal: &Journal,
    run_id: &str,
    out: &Path,
    key: Option<&SigningKey>,
) -> Result<String> {
    let run = Run {
        created_at: session.now,
        producer_version: session.producer_version.to_owned(),
        run_id: run_id.to_owned(),
        ..Run::default()
    };
    let mut recorder = Recorder::new(run, Refs::default(), CaptureMode::Reference, session.now)?;
    let mut number = 0_u64;
    each_event_after(session, journal.checkpointed(), |event| {
        number += 1;
        let id = match event.intent_id.trim() {
            "" => format!("intent_{number}"),
            id => id.to_owned(),
        };
        recorder.happened(&in_timeline(event, run_id))?;
        recorder.intent(intent(event, &id)?, None)?;
        recorder.result(result(event, &id)?, None)
    })?;
    recorder.happened(&emission(journal, run_id, session))?;
    out.parent()
        .map_or(Ok(()), worldcompute_durable::output_dir)?;
    Ok(recorder.finish(out, key)?.manifest_digest)
}

fn intent<'a>(event: &'a Event, id: &'a str) -> Result<Intent<'a>> {
    let args = members(json!({
        "session_id": event.session_id,
        "sequence": event.sequence,
        "trace_id": event.trace_id,
        "trace_path": event.trace_path,
    }));
    Ok(Intent {
        args: Some(Payload::new(&args)?),
        args_digest: (&event.intent_digest).into(),
        created_at: event.created_at.utc(),
        intent_id: id.into(),
        tool_name: (&event.tool_name).into(),
        ..Intent::default()
    })
}

fn result<'a>(event: &Event, id: &'a str) -> Result<ResultRecord<'a>> {
    let result = members(json!({
        "verdict": event.verdict,
        "reason_codes": event.reason_codes,
        "violations": event.violations,
        "trace_id": event.trace_id,
        "trace_path": event.trace_path,
    }));
    let status = match event.verdict.as_str() {
        "block" | "require_approval" => "error",
        _ => "ok",
    };
    Ok(ResultRecord {
        created_at: event.created_at.utc(),
        intent_id: id.into(),
        result: Some(Payload::new(&result)?),
        status: status.into(),
        ..ResultRecord::default()
    })
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn next(
    journal: &Journal,
    session: &Session<'_>,
    out: &Path,
    manifest_digest: String,
    run_id: &str,
) -> Result<Checkpoint> {
    let header = journal.header()?;
    let last = journal.checkpoints.last();
    let mut checkpoint = Checkpoint {
        schema_id: CHECKPOINT_SCHEMA_ID.to_owned(),
        schema_version: VERSION.to_owned(),
        created_at: session.now,
        producer_version: session.producer_version.to_owned(),
        session_id: header.session_id.clone(),
        run_id: header.run_id.clone(),
        checkpoint_index: journal.checkpoints.len() as u64 + 1,
        sequence_start: journal.checkpointed() + 1,
        sequence_end: journal.last_sequence,
        runpack_path: out.display().to_string(),
        manifest_digest,
        prev_checkpoint_digest: last
            .map(|last| last.checkpoint_digest.clone())
            .unwrap_or_default(),
        ..Checkpoint::default()
    };
    checkpoint.checkpoint_digest = checkpoint.digest();
    checkpoint.relationship = Some(Relation::of_checkpoint(&checkpoint, run_id));
    Ok(checkpoint)
}
