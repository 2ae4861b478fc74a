//! Events on their way into a lane.

use jiff::Timestamp;
use uuid::{Builder, Uuid};
use worldcompute_fault::{Category, Fault, Result};

use super::event::{AuditOutcome, CryptoAuditEvent, Operation};
use super::trace::{Trace, TraceSource};
use super::{Lane, Signer, unavailable};
use crate::crypto::Digest;
use crate::name::PartitionKey;
use crate::sources::Sources;

/// The most events that wait in a lane; more can only be distinct ones, within a second.
pub(super) const MAX_WAITING: usize = 4_096;
/// From this many on, whoever starts work flushes first.
const BUSY: usize = MAX_WAITING / 2;
/// How far back an event of the same kind is looked for, to count it instead of listing it.
const LOOK_BACK: usize = 16;

/// What is to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) operation: Operation,
    pub(crate) key_id: String,
    pub(crate) outcome: AuditOutcome,
    pub(crate) count: u64,
}

impl Draft {
    /// One successful operation with the data key of `partition` of that version.
    pub(crate) fn dek(operation: Operation, partition: &PartitionKey, version: u32) -> Self {
        Self::new(operation, format!("dek#{partition}#{version}"))
    }

    /// The same where it is not known with which version.
    pub(crate) fn some_dek(operation: Operation, partition: &PartitionKey) -> Self {
        Self::new(operation, format!("dek#{partition}"))
    }

    /// One successful operation with the key-encryption key of that epoch.
    pub(crate) fn kek(operation: Operation, epoch: u64) -> Self {
        Self::new(operation, format!("kek#{epoch}"))
    }

    /// One successful operation with a key.
    pub(crate) fn new(operation: Operation, key_id: String) -> Self {
        Self {
            operation,
            key_id,
            outcome: AuditOutcome::Success,
            count: 1,
        }
    }

    /// On how many records or keys.
    pub(crate) fn times(self, count: usize) -> Self {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        Self { count, ..self }
    }

    /// Which ended so.
    pub(crate) fn ended(self, outcome: AuditOutcome) -> Self {
        Self { outcome, ..self }
    }

    /// The draft with when, where and a name.
    pub(super) fn stamp(self, sources: &Sources, trace: TraceSource) -> Result<Waiting> {
        let timestamp = sources.tick();
        Ok(Waiting {
            event_id: uuid_v7(timestamp, sources)?,
            timestamp,
            trace: trace.current(),
            draft: self,
        })
    }
}

fn uuid_v7(at: Timestamp, sources: &Sources) -> Result<Uuid> {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or(0);
    let random = sources.random()?;
    let bytes = random.first_chunk::<10>().copied().unwrap_or_default();
    Ok(Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid())
}

/// An event that has no place in its lane yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) event_id: Uuid,
    timestamp: Timestamp,
    trace: Trace,
    draft: Draft,
}

impl Waiting {
    /// The event with that number, after the one with that hash.
    pub(super) fn link(
        &self,
        seq: u64,
        previous: Digest,
        signer: &Signer,
        lane: Lane,
    ) -> CryptoAuditEvent {
        CryptoAuditEvent {
            event_id: self.event_id,
            timestamp: self.timestamp,
            trace_id: self.trace.trace_id,
            span_id: self.trace.span_id,
            operation: self.draft.operation,
            key_id: self.draft.key_id.clone(),
            principal: signer.principal.clone(),
            outcome: self.draft.outcome,
            count: self.draft.count,
            kek_epoch: signer.epoch,
            seq,
            previous_hash: previous,
            event_hash: Digest::default(),
            event_mac: Digest::default(),
        }
        .close(signer, lane)
    }

    /// Whether `other` is the same once more.
    fn repeats(&self, other: &Self) -> bool {
        let what = |of: &Self| (of.draft.operation, of.draft.outcome, of.trace);
        what(self) == what(other) && self.draft.key_id == other.draft.key_id
    }
}

/// The events that wait in one lane.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Vec<Waiting>,
    /// Why the last flush failed.
    failed: Option<Fault>,
}

impl Queue {
    /// # Errors
    /// `audit_unavailable` when it is full or the last flush failed.
    pub(super) fn push(&mut self, event: Waiting) -> Result<()> {
        self.check()?;
        let recent = self.waiting.iter_mut().rev().take(LOOK_BACK);
        if let Some(same) = recent.into_iter().find(|known| known.repeats(&event)) {
            same.draft.count = same.draft.count.saturating_add(event.draft.count);
            return Ok(());
        }
        if self.waiting.len() >= MAX_WAITING {
            let why = format!("{MAX_WAITING} events wait to be written");
            return Err(unavailable(Category::StateContention, why));
        }
        self.waiting.push(event);
        Ok(())
    }

    /// # Errors
    /// `audit_unavailable` when the last flush failed.
    pub(super) fn check(&self) -> Result<()> {
        match &self.failed {
            // A broken chain keeps its own name: nothing makes it available again.
            Some(fault) if self.is_broken() => Err(fault.clone()),
            Some(fault) => Err(unavailable(fault.category(), fault.message())),
            None => Ok(()),
        }
    }

    /// Whether the last flush found that the lane is not what it was.
    pub(super) fn is_broken(&self) -> bool {
        let failed = self.failed.as_ref();
        failed.is_some_and(|fault| fault.category() == Category::VerificationFailed)
    }

    /// Whether there is neither a failure to make good nor a crowd.
    pub(super) fn is_calm(&self) -> bool {
        self.failed.is_none() && self.waiting.len() < BUSY
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The oldest events, at most `most`.
    pub(super) fn take(&mut self, most: usize) -> Vec<Waiting> {
        let count = most.min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }

    pub(super) fn fail(&mut self, fault: &Fault) {
        self.failed = Some(fault.clone());
    }

    pub(super) fn recover(&mut self) {
        self.failed = None;
    }
}
