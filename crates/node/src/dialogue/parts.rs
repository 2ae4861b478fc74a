//! All records of a dialogue: taken from a runpack, or from the store, and put together to the runpack again.

use std::path::{Path, PathBuf};

use blue_encrypted_store::{Batch, Entity, Id, Label, Snapshot};
use gait::limits::MAX_TRACE_BYTES;
use gait::runpack::{Recorder, Refs, Run, Runpack, Stamp};
use gait::trace;
use jiff::Timestamp;
use serde_json::Value;
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::{Hasher, Sha256, parse_json_within};

use super::entities::{
    Approval, Decision, Dialogue, Event, Intent, Outcome, Reference, count, id, too_long,
};
use super::{MAX_DIALOGUE_RECORDS, RECORDED, Session};

/// The form of the gate's records of approvals.
const APPROVAL_RECORD: &str = "gait.gate.approval_audit_record";

/// The records of one dialogue, each type in its order.
pub struct Parts {
    pub dialogue: Dialogue,
    intents: Vec<Intent>,
    decisions: Vec<Decision>,
    approvals: Vec<Approval>,
    outcomes: Vec<Outcome>,
    references: Vec<Reference>,
    events: Vec<Event>,
}

impl Parts {
    /// Reads what goes into the dialogue, and makes sure that it can be put together again.
    pub fn gather(session: &Session, now: Timestamp) -> Result<Self> {
        let runpack = Runpack::open(&session.runpack)?;
        let intents = intents(&runpack)?;
        let outcomes = outcomes(&runpack)?;
        let events = events(&runpack)?;
        let decisions = numbered(&session.traces, decision)?;
        let approvals = numbered(&session.approvals, approval)?;
        let mut refs = runpack.refs()?;
        let receipts = std::mem::take(&mut refs.receipts).into_iter().enumerate();
        let references: Vec<_> = receipts
            .map(|(index, receipt)| Reference {
                id: id(index),
                receipt,
            })
            .collect();
        let dialogue = Dialogue {
            status: Label::parse(RECORDED)?,
            recorded_at: now,
            intents: count(&intents)?,
            decisions: count(&decisions)?,
            approvals: count(&approvals)?,
            results: count(&outcomes)?,
            references: count(&references)?,
            events: count(&events)?,
            manifest: runpack.manifest().clone(),
            run: runpack.run()?,
            refs,
            evidence: evidence(&decisions, &approvals),
        };
        let parts = Self {
            dialogue,
            intents,
            decisions,
            approvals,
            outcomes,
            references,
            events,
        };
        parts.check_len()?;
        parts.restore(None)?;
        Ok(parts)
    }

    /// Reads the dialogue whose partition this is.
    pub fn read(snapshot: &Snapshot, dialogue: Dialogue) -> Result<Self> {
        Ok(Self {
            dialogue,
            intents: in_order(snapshot)?,
            decisions: in_order(snapshot)?,
            approvals: in_order(snapshot)?,
            outcomes: in_order(snapshot)?,
            references: in_order(snapshot)?,
            events: in_order(snapshot)?,
        })
    }

    /// All of it, to be put where there is nothing.
    pub fn batch(self) -> Result<Batch> {
        let mut batch = Batch::new();
        batch.insert(self.dialogue)?;
        insert(&mut batch, self.intents)?;
        insert(&mut batch, self.decisions)?;
        insert(&mut batch, self.approvals)?;
        insert(&mut batch, self.outcomes)?;
        insert(&mut batch, self.references)?;
        insert(&mut batch, self.events)?;
        Ok(batch)
    }

    /// Writes the runpack to `path`, as it was; without a path it only finds out whether it could.
    pub fn restore(&self, path: Option<&Path>) -> Result<()> {
        let Dialogue {
            manifest,
            run,
            refs,
            ..
        } = &self.dialogue;
        if evidence(&self.decisions, &self.approvals) != self.dialogue.evidence {
            return Err(changed(
                "decisions and approvals are not those that were recorded",
            ));
        }
        let receipts = self.references.iter().map(|one| one.receipt.clone());
        let refs = Refs {
            receipts: receipts.collect(),
            ..refs.clone()
        };
        let run: Run = run.clone();
        let mut recorder = Recorder::new(run, refs, manifest.capture_mode, Stamp::default())?;
        for event in &self.events {
            recorder.happened(&event.event)?;
        }
        for intent in &self.intents {
            recorder.intent(line(&intent.line)?, None)?;
        }
        for outcome in &self.outcomes {
            recorder.result(line(&outcome.line)?, None)?;
        }
        recorder.restore(manifest, path)
    }

    fn check_len(&self) -> Result<()> {
        let records = self.intents.len()
            + self.decisions.len()
            + self.approvals.len()
            + self.outcomes.len()
            + self.references.len()
            + self.events.len();
        match records <= MAX_DIALOGUE_RECORDS {
            true => Ok(()),
            false => Err(too_long()),
        }
    }
}

fn in_order<E: Entity>(snapshot: &Snapshot) -> Result<Vec<E>> {
    let mut found = snapshot.entities::<E>()?;
    found.sort_by(|one, other| one.id().cmp(other.id()));
    Ok(found
        .into_iter()
        .map(|stored| stored.into_value())
        .collect())
}

fn insert<E: Entity>(batch: &mut Batch, records: Vec<E>) -> Result<()> {
    for record in records {
        batch.insert(record)?;
    }
    Ok(())
}

fn intents(runpack: &Runpack) -> Result<Vec<Intent>> {
    let (mut records, mut lines) = (runpack.intents()?, Vec::new());
    while let Some(record) = records.advance()? {
        let (id, line) = (next_id(&lines)?, text(&record)?);
        lines.push(Intent { id, line });
    }
    Ok(lines)
}

fn outcomes(runpack: &Runpack) -> Result<Vec<Outcome>> {
    let (mut records, mut lines) = (runpack.results()?, Vec::new());
    while let Some(record) = records.advance()? {
        let (id, line) = (next_id(&lines)?, text(&record)?);
        lines.push(Outcome { id, line });
    }
    Ok(lines)
}

fn events(runpack: &Runpack) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    runpack.timeline(|event| {
        let id = next_id(&events)?;
        events.push(Event { id, event });
        Ok(())
    })?;
    Ok(events)
}

/// Reading ends when there is more than a dialogue holds.
fn next_id<T>(before: &[T]) -> Result<Id> {
    match before.len() < MAX_DIALOGUE_RECORDS {
        true => Ok(id(before.len())),
        false => Err(too_long()),
    }
}

fn text<T: serde::Serialize>(record: &T) -> Result<String> {
    serde_json::to_string(record).map_err(|error| changed("a record").caused_by(error))
}

fn line<'a, T: serde::Deserialize<'a>>(line: &'a str) -> Result<T> {
    serde_json::from_str(line).map_err(|error| changed("a record").caused_by(error))
}

fn changed(message: &str) -> Fault {
    Fault::new(
        Category::VerificationFailed,
        "verification_failed",
        message.to_owned(),
    )
}

fn numbered<T>(paths: &[PathBuf], read: impl Fn(Id, &str) -> Result<T>) -> Result<Vec<T>> {
    let one = |(index, path): (usize, &PathBuf)| {
        let bytes = read_bounded(path, MAX_TRACE_BYTES as u64)?;
        let text = String::from_utf8(bytes).map_err(|_| invalid(path, "is no JSON"))?;
        read(id(index), &text).map_err(|fault| invalid(path, fault.message()))
    };
    paths.iter().enumerate().map(one).collect()
}

fn decision(id: Id, text: &str) -> Result<Decision> {
    let trace = trace::unverified_trace(text.as_bytes())?;
    Ok(Decision {
        id,
        verdict: Label::parse(&trace.verdict.to_string())?,
        trace: text.to_owned(),
    })
}

fn approval(id: Id, text: &str) -> Result<Approval> {
    let value = parse_json_within(text.as_bytes(), MAX_TRACE_BYTES)?;
    let approved = value.get("approved").and_then(Value::as_bool);
    let is_record = value
        .get("schema_id")
        .is_some_and(|id| id == APPROVAL_RECORD);
    let (true, Some(approved)) = (is_record, approved) else {
        return Err(changed("is no record of approvals"));
    };
    Ok(Approval {
        id,
        approved,
        record: text.to_owned(),
    })
}

fn invalid(path: &Path, why: &str) -> Fault {
    let message = format!("{}: {why}", path.display());
    Fault::new(Category::InvalidInput, "invalid_input", message)
        .hint("give the files as the gate wrote them")
}

fn evidence(decisions: &[Decision], approvals: &[Approval]) -> String {
    let mut hasher = Hasher::new();
    let texts = decisions.iter().map(|one| (b'd', &one.trace));
    for (kind, text) in texts.chain(approvals.iter().map(|one| (b'a', &one.record))) {
        hasher.update([kind]);
        hasher.update(Sha256::of(text).as_bytes());
    }
    hasher.finish().to_string()
}

#[cfg(test)]
mod tests;
