//! Which field of which record is cleartext.

use std::time::Duration;

use blue_encrypted_store::{ClearField, Entity, Id};
use jiff::Timestamp;
use worldcompute_fault::{Problem, Result};
use worldcompute_ledger::receipt::SignedReceipt;
use worldcompute_proof::PeerId;

use super::foreign;
use crate::base64_bytes::Base64;
use crate::broker::Options;
use crate::manifest::VerifiedManifest;
use crate::{JobId, JobRecord, JobState, LeaseRecord, Tally, TaskRecord, TaskState};

/// Whoever runs the table may know of a job how it goes, not what it is.
impl ClearField for JobId {}
impl ClearField for JobState {}
impl ClearField for TaskState {}

/// A job.
#[derive(Entity)]
#[entity(name = "meta")]
pub(super) struct Job {
    #[clear]
    job: JobId,
    #[clear(listed)]
    state: JobState,
    #[clear]
    ready: u32,
    #[clear]
    in_flight: u32,
    #[clear]
    verifying: u32,
    #[clear]
    accepted: u32,
    #[clear]
    failed: u32,
    #[clear]
    cancelled: u32,
    #[clear]
    submitted_at: Timestamp,
    #[clear]
    finished_at: Option<Timestamp>,
    name: String,
    waiting: Option<String>,
    ending: Option<JobState>,
    fault: Option<Problem>,
}

impl From<JobRecord> for Job {
    fn from(record: JobRecord) -> Self {
        let Tally {
            ready,
            in_flight,
            verifying,
            accepted,
            failed,
            cancelled,
        } = record.tally;
        Self {
            job: record.id,
            state: record.state,
            ready,
            in_flight,
            verifying,
            accepted,
            failed,
            cancelled,
            submitted_at: record.submitted_at,
            finished_at: record.finished_at,
            name: record.name,
            waiting: record.waiting,
            ending: record.ending,
            fault: record.fault,
        }
    }
}

impl From<Job> for JobRecord {
    fn from(stored: Job) -> Self {
        let tally = Tally {
            ready: stored.ready,
            in_flight: stored.in_flight,
            verifying: stored.verifying,
            accepted: stored.accepted,
            failed: stored.failed,
            cancelled: stored.cancelled,
        };
        Self {
            id: stored.job,
            name: stored.name,
            state: stored.state,
            tally,
            submitted_at: stored.submitted_at,
            finished_at: stored.finished_at,
            waiting: stored.waiting,
            ending: stored.ending,
            fault: stored.fault,
        }
    }
}

impl Job {
    /// Whether nothing can happen to it any more.
    pub(super) const fn is_final(&self) -> bool {
        self.state.is_final()
    }
}

/// A task of it. The number is in both places: the seal binds the id to the row, the field to what was written.
#[derive(Entity)]
#[entity(name = "task")]
pub(super) struct Task {
    #[id]
    id: Id,
    #[clear]
    index: u32,
    #[clear]
    state: TaskState,
    next_attempt: u32,
    leases: Vec<LeaseRecord>,
    fault: Option<Problem>,
}

impl From<TaskRecord> for Task {
    fn from(record: TaskRecord) -> Self {
        let TaskRecord {
            index,
            state,
            next_attempt,
            leases,
            fault,
        } = record;
        Self {
            id: number(index),
            index,
            state,
            next_attempt,
            leases,
            fault,
        }
    }
}

impl Task {
    /// The record, if it lies in its own place.
    pub(super) fn open(self, job: JobId) -> Result<TaskRecord> {
        let Self {
            id,
            index,
            state,
            next_attempt,
            leases,
            fault,
        } = self;
        if id != number(index) {
            return Err(foreign(job, "a task lies in the place of another"));
        }
        Ok(TaskRecord {
            index,
            state,
            next_attempt,
            leases,
            fault,
        })
    }
}

/// What was submitted.
#[derive(Entity)]
#[entity(name = "submission")]
pub(super) struct Submission {
    #[id]
    id: Id,
    /// The signed manifest.
    manifest: Base64,
    patience_ms: Option<u64>,
    donor: Option<PeerId>,
}

impl Submission {
    pub(super) const ID: &'static str = "manifest";

    pub(super) fn of(manifest: &VerifiedManifest, options: &Options) -> Result<Self> {
        let patience_ms = options
            .patience
            .map(|patience| u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        Ok(Self {
            id: Id::parse(Self::ID)?,
            manifest: Base64(manifest.bytes().to_vec()),
            // Nobody waits longer than JSON can count milliseconds.
            patience_ms: patience_ms.map(|millis| millis.min((1 << 53) - 1)),
            donor: options.donor,
        })
    }

    /// Verifies the manifest again: its signature is the submitter's, whoever wrote it here.
    pub(super) fn open(self, id: JobId) -> Result<(VerifiedManifest, Options)> {
        let manifest = VerifiedManifest::open(&self.manifest.0)
            .map_err(|fault| foreign(id, fault.message()))?;
        if manifest.job_id() != id {
            return Err(foreign(id, "the manifest is of another job"));
        }
        let options = Options {
            patience: self.patience_ms.map(Duration::from_millis),
            donor: self.donor,
        };
        Ok((manifest, options))
    }
}

/// The receipt that settled a task.
#[derive(Entity)]
#[entity(name = "receipt")]
pub(super) struct Receipt {
    #[id]
    task: Id,
    /// The signed bytes.
    bytes: Base64,
}

impl Receipt {
    pub(super) fn of(receipt: &SignedReceipt) -> Self {
        Self {
            task: number(receipt.receipt().task_index),
            bytes: Base64(receipt.bytes().to_vec()),
        }
    }

    /// Verifies both signatures again, and that the receipt is the one of this place.
    pub(super) fn open(self, id: JobId) -> Result<SignedReceipt> {
        let signed = SignedReceipt::open(&self.bytes.0)?;
        let receipt = signed.receipt();
        let here = receipt.job_id == id.to_string() && number(receipt.task_index) == self.task;
        match here {
            true => Ok(signed),
            false => Err(foreign(id, "a receipt is of another task")),
        }
    }
}

/// Tasks are named by their number, as it is.
fn number(index: u32) -> Id {
    Id::of_number(u64::from(index), 0)
}
