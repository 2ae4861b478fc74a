//! Jobs, tasks and leases as they are shown and stored.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use worldcompute_fault::Problem;
use worldcompute_proof::PeerId;

use crate::{JobId, LeaseId};

/// Where a job stands: queued, dispatching, running, verifying, and one of three ends.
///
/// What happens to its leases can also lead back: a running job all of whose donors vanish is queued again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// No donor has a task of it, and none is done.
    Queued,
    /// Tasks were sent to donors.
    Dispatching,
    /// A donor confirmed that it works, or a task is done.
    Running,
    /// Every task that is not done has its receipt.
    Verifying,
    /// Every task was accepted.
    Completed,
    /// Some task failed, or the job as a whole did.
    Failed,
    /// Its submitter stopped it.
    Cancelled,
}

impl JobState {
    /// Every state, in order.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Dispatching,
        Self::Running,
        Self::Verifying,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The stable snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Dispatching => "dispatching",
            Self::Running => "running",
            Self::Verifying => "verifying",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing can happen to the job any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for a donor.
    Ready,
    /// Leased to a donor.
    Dispatched,
    /// The donor confirmed that it works on it.
    Running,
    /// Its receipt was checked and is being settled.
    Verifying,
    /// Settled: it ran to its end and the receipt is kept.
    Accepted,
    /// It cannot be done.
    Failed,
    /// Nobody wants it any more.
    Cancelled,
}

impl TaskState {
    /// The stable snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Dispatched => "dispatched",
            Self::Running => "running",
            Self::Verifying => "verifying",
            Self::Accepted => "accepted",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing can happen to the task any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Accepted | Self::Failed | Self::Cancelled)
    }
}

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// The donor is expected to work.
    Active,
    /// The donor answered, well or badly, or the task was cancelled.
    Released,
    /// The donor was silent for the length of a lease.
    Expired,
    /// The donor vanished or had nothing to show, and the task was given to another.
    Superseded,
}

/// One grant of a task to a donor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseRecord {
    /// Its name.
    pub id: LeaseId,
    /// Who has, or had, the task.
    pub donor: PeerId,
    /// Where it stands.
    pub state: LeaseState,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it ended, unless with a receipt.
    pub reason: Option<String>,
    /// The number of the exit from the donor's sandbox, if it ended with a receipt that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<u64>,
}

/// One task and the history of its leases, without those that a busy donor returned at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRecord {
    /// Its place in the job, from 0.
    pub index: u32,
    /// Where it stands.
    pub state: TaskState,
    /// The number the next attempt will have.
    pub next_attempt: u32,
    /// Its leases, oldest first; only the last can be active.
    pub leases: Vec<LeaseRecord>,
    /// Why it failed.
    pub fault: Option<Problem>,
}

impl TaskRecord {
    /// A task that nobody was asked to do.
    pub const fn untouched(index: u32) -> Self {
        Self {
            index,
            state: TaskState::Ready,
            next_attempt: 0,
            leases: Vec::new(),
            fault: None,
        }
    }

    /// The lease that a donor still works under.
    pub fn active_lease(&self) -> Option<&LeaseRecord> {
        self.leases
            .last()
            .filter(|lease| lease.state == LeaseState::Active)
    }
}

/// How many tasks of a job are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Waiting for a donor.
    pub ready: u32,
    /// Dispatched or running.
    pub in_flight: u32,
    /// Being settled.
    pub verifying: u32,
    /// Done.
    pub accepted: u32,
    /// Impossible.
    pub failed: u32,
    /// Stopped.
    pub cancelled: u32,
}

impl Tally {
    /// The counter of tasks in `state`.
    pub(crate) fn of(&mut self, state: TaskState) -> &mut u32 {
        match state {
            TaskState::Ready => &mut self.ready,
            TaskState::Dispatched | TaskState::Running => &mut self.in_flight,
            TaskState::Verifying => &mut self.verifying,
            TaskState::Accepted => &mut self.accepted,
            TaskState::Failed => &mut self.failed,
            TaskState::Cancelled => &mut self.cancelled,
        }
    }

    /// Tasks that can still come to an end.
    pub const fn open(&self) -> u32 {
        self.ready + self.in_flight + self.verifying
    }
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRecord {
    /// Its name in the mesh.
    pub id: JobId,
    /// Its submitter's name for it.
    pub name: String,
    /// Where it stands.
    pub state: JobState,
    /// How many tasks are where.
    pub tally: Tally,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When it came to its end.
    pub finished_at: Option<Timestamp>,
    /// Why nothing happens at the moment.
    pub waiting: Option<String>,
    /// The end it is being brought to.
    pub ending: Option<JobState>,
    /// Why it failed or was cancelled.
    pub fault: Option<Problem>,
}
