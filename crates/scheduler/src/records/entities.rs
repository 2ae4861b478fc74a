//! Which field of which record is cleartext.

use std::time::Duration;

use blue_encrypted_store::{Entity, META};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use worldcompute_fault::{Problem, Result};
use worldcompute_ledger::receipt::SignedReceipt;
use worldcompute_proof::PeerId;

use super::foreign;
use crate::broker::Options;
use crate::manifest::VerifiedManifest;
use crate::{JobId, JobRecord, JobState, LeaseRecord, Tally, TaskRecord, TaskState};

/// What whoever runs the table may know of a job: how it goes, not what it is.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobClear {
    job: JobId,
    state: JobState,
    ready: u32,
    in_flight: u32,
    verifying: u32,
    accepted: u32,
    failed: u32,
    cancelled: u32,
    submitted_at: Timestamp,
    finished_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSealed {
    name: String,
    waiting: Option<String>,
    ending: Option<JobState>,
    fault: Option<Problem>,
}

impl Entity for JobRecord {
    const TYPE: &'static str = META;
    type Clear = JobClear;
    type Sealed = JobSealed;

    fn id(&self) -> String {
        String::new()
    }

    fn split(self) -> (JobClear, JobSealed) {
        let Tally {
            ready,
            in_flight,
            verifying,
            accepted,
            failed,
            cancelled,
        } = self.tally;
        let clear = JobClear {
            job: self.id,
            state: self.state,
            ready,
            in_flight,
            verifying,
            accepted,
            failed,
            cancelled,
            submitted_at: self.submitted_at,
            finished_at: self.finished_at,
        };
        let Self {
            name,
            waiting,
            ending,
            fault,
            ..
        } = self;
        (
            clear,
            JobSealed {
                name,
                waiting,
                ending,
                fault,
            },
        )
    }

    fn join(_: String, clear: JobClear, sealed: JobSealed) -> Self {
        let JobClear {
            ready,
            in_flight,
            verifying,
            accepted,
            failed,
            cancelled,
            ..
        } = clear;
        Self {
            id: clear.job,
            name: sealed.name,
            state: clear.state,
            tally: Tally {
                ready,
                in_flight,
                verifying,
                accepted,
                failed,
                cancelled,
            },
            submitted_at: clear.submitted_at,
            finished_at: clear.finished_at,
            waiting: sealed.waiting,
            ending: sealed.ending,
            fault: sealed.fault,
        }
    }

    fn listed_as(clear: &JobClear) -> Option<String> {
        Some(clear.state.as_str().to_owned())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskClear {
    index: u32,
    state: TaskState,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSealed {
    next_attempt: u32,
    leases: Vec<LeaseRecord>,
    fault: Option<Problem>,
}

impl Entity for TaskRecord {
    const TYPE: &'static str = "task";
    type Clear = TaskClear;
    type Sealed = TaskSealed;

    fn id(&self) -> String {
        self.index.to_string()
    }

    fn split(self) -> (TaskClear, TaskSealed) {
        let Self {
            index,
            state,
            next_attempt,
            leases,
            fault,
        } = self;
        (
            TaskClear { index, state },
            TaskSealed {
                next_attempt,
                leases,
                fault,
            },
        )
    }

    fn join(_: String, clear: TaskClear, sealed: TaskSealed) -> Self {
        let TaskClear { index, state } = clear;
        let TaskSealed {
            next_attempt,
            leases,
            fault,
        } = sealed;
        Self {
            index,
            state,
            next_attempt,
            leases,
            fault,
        }
    }
}

/// What was submitted.
pub(super) struct Submission {
    sealed: SubmissionSealed,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubmissionSealed {
    /// The signed manifest.
    #[serde(with = "crate::base64_bytes")]
    manifest: Vec<u8>,
    patience_ms: Option<u64>,
    donor: Option<PeerId>,
}

impl Submission {
    pub(super) const ID: &'static str = "manifest";

    pub(super) fn of(manifest: &VerifiedManifest, options: &Options) -> Self {
        let patience_ms = options
            .patience
            .map(|patience| u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        let sealed = SubmissionSealed {
            manifest: manifest.bytes().to_vec(),
            // Nobody waits longer than JSON can count milliseconds.
            patience_ms: patience_ms.map(|millis| millis.min((1 << 53) - 1)),
            donor: options.donor,
        };
        Self { sealed }
    }

    /// Verifies the manifest again: its signature is the submitter's, whoever wrote it here.
    pub(super) fn open(self, id: JobId) -> Result<(VerifiedManifest, Options)> {
        let manifest = VerifiedManifest::open(&self.sealed.manifest)
            .map_err(|fault| foreign(id, fault.message()))?;
        if manifest.job_id() != id {
            return Err(foreign(id, "the manifest is of another job"));
        }
        let patience = self.sealed.patience_ms.map(Duration::from_millis);
        Ok((
            manifest,
            Options {
                patience,
                donor: self.sealed.donor,
            },
        ))
    }
}

impl Entity for Submission {
    const TYPE: &'static str = "submission";
    type Clear = ();
    type Sealed = SubmissionSealed;

    fn id(&self) -> String {
        Self::ID.to_owned()
    }

    fn split(self) -> ((), SubmissionSealed) {
        ((), self.sealed)
    }

    fn join(_: String, (): (), sealed: SubmissionSealed) -> Self {
        Self { sealed }
    }
}

/// The receipt that settled a task.
pub(super) struct Receipt {
    task: String,
    sealed: ReceiptSealed,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReceiptSealed {
    /// The signed bytes.
    #[serde(with = "crate::base64_bytes")]
    bytes: Vec<u8>,
}

impl Receipt {
    pub(super) fn of(receipt: &SignedReceipt) -> Self {
        let task = receipt.receipt().task_index.to_string();
        Self {
            task,
            sealed: ReceiptSealed {
                bytes: receipt.bytes().to_vec(),
            },
        }
    }

    /// Verifies both signatures again, and that the receipt is the one of this place.
    pub(super) fn open(self, id: JobId) -> Result<SignedReceipt> {
        let signed = SignedReceipt::open(&self.sealed.bytes)?;
        let receipt = signed.receipt();
        let here = receipt.job_id == id.to_string() && receipt.task_index.to_string() == self.task;
        if here {
            Ok(signed)
        } else {
            Err(foreign(id, "a receipt is of another task"))
        }
    }
}

impl Entity for Receipt {
    const TYPE: &'static str = "receipt";
    type Clear = ();
    type Sealed = ReceiptSealed;

    fn id(&self) -> String {
        self.task.clone()
    }

    fn split(self) -> ((), ReceiptSealed) {
        ((), self.sealed)
    }

    fn join(task: String, (): (), sealed: ReceiptSealed) -> Self {
        Self { task, sealed }
    }
}
