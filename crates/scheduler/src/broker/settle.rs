//! Commits: what is to be stored, in which portions, and what follows once it is.

use std::time::Duration;

use worldcompute_fault::{Fault, Problem, WcCode};
use worldcompute_ledger::receipt::Status;

use super::ends::{bounded, task_failed};
use super::job::Job;
use super::{Action, Broker, Execution, Now, Options};
use crate::{JobId, JobRecord, LeaseId, LeaseState, Tally, TaskId, TaskRecord, TaskState};

/// Most tasks of one commit.
pub const COMMIT_TASKS: usize = 64;
/// A failed commit is tried again after this time; doubles each time in a row.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Most doublings: 32 s.
const MAX_DOUBLINGS: u32 = 5;

/// What one transaction stores. A job has at most one commit under way.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Counts the commits of the job in this process.
    pub number: u64,
    /// Whether the job was never stored: what was submitted has to be stored as well.
    pub first: bool,
    /// What was submitted beside the manifest.
    pub options: Options,
    /// The job as it is once this is stored.
    pub job: JobRecord,
    /// The tasks that changed.
    pub tasks: Vec<TaskRecord>,
    /// The receipts that settle some of them.
    pub receipts: Vec<Settlement>,
}

/// A verified receipt of an executor, to be countersigned and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The lease it is about.
    pub lease: LeaseId,
    /// The executor's signed bytes.
    pub receipt: Vec<u8>,
}

/// A task that ran and whose receipt is not stored yet.
#[derive(Clone)]
pub(super) struct Settling {
    lease: LeaseId,
    receipt: Vec<u8>,
    /// Why it failed; `None` accepts it.
    pub(super) fault: Option<Problem>,
}

impl Settling {
    pub(super) fn of(execution: Execution) -> Self {
        let fault =
            verdict(&execution).map(|fault| fault.problem(execution.lease.task.to_string()));
        Self {
            lease: execution.lease,
            receipt: execution.receipt,
            fault,
        }
    }

    const fn state(&self) -> TaskState {
        match self.fault {
            None => TaskState::Accepted,
            Some(_) => TaskState::Failed,
        }
    }
}

/// The commit a job has under way.
pub(super) struct InCommit {
    number: u64,
    tasks: Vec<u32>,
    granted: Vec<LeaseId>,
    settled: Vec<u32>,
    first: bool,
    last: Option<Box<JobRecord>>,
}

impl Broker {
    /// Stores what changed, one portion per job at a time: while a commit is under way, the next one gathers.
    pub(super) fn commit(&mut self, now: Now) {
        let due = |job: &&mut Job| {
            job.commit.is_none() && job.needs_commit() && job.commit_after <= now.monotonic
        };
        for job in self.jobs.values_mut().filter(due) {
            let commit = job.next_commit(now);
            self.actions.push(Action::Commit(Box::new(commit)));
        }
    }

    pub(super) fn committed(&mut self, now: Now, id: JobId, number: u64) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(commit) = job.commit.take_if(|commit| commit.number == number) else {
            return;
        };
        job.commit_failures = 0;
        job.stored = true;
        for index in commit.settled {
            job.settled(index);
        }
        if commit.first {
            self.actions.push(Action::Submitted { job: id });
        }
        if let Some(job) = commit.last {
            self.jobs.remove(&id);
            self.actions.push(Action::JobFinished { job });
        }
        for lease in commit.granted {
            self.granted(now, lease);
        }
    }

    pub(super) fn commit_failed(&mut self, now: Now, id: JobId, number: u64) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let Some(commit) = job.commit.take_if(|commit| commit.number == number) else {
            return;
        };
        job.dirty.extend(commit.tasks);
        job.changed = true;
        job.commit_after =
            now.monotonic + FIRST_RETRY * (1 << job.commit_failures.min(MAX_DOUBLINGS));
        job.commit_failures = job.commit_failures.saturating_add(1);
    }
}

impl Job {
    fn next_commit(&mut self, now: Now) -> Commit {
        let indices: Vec<u32> = self.dirty.iter().copied().take(COMMIT_TASKS).collect();
        let tasks: Vec<_> = indices
            .iter()
            .filter_map(|index| self.stored_form(*index))
            .collect();
        let settled: Vec<u32> = indices
            .iter()
            .copied()
            .filter(|index| self.settling.contains_key(index))
            .collect();
        for index in &indices {
            self.dirty.remove(index);
        }
        self.changed = false;
        self.commits += 1;
        let (job, last) = self.record_after(&settled, now);
        let commit = Commit {
            number: self.commits,
            first: !self.stored,
            options: self.options,
            receipts: settled
                .iter()
                .filter_map(|index| self.settlement(*index))
                .collect(),
            job,
            tasks,
        };
        self.commit = Some(InCommit {
            number: commit.number,
            granted: commit.tasks.iter().filter_map(granted_lease).collect(),
            tasks: indices,
            settled,
            first: commit.first,
            last: last.then(|| Box::new(commit.job.clone())),
        });
        commit
    }

    /// A task as it is to be stored: what is being settled is stored as settled.
    fn stored_form(&self, index: u32) -> Option<TaskRecord> {
        let task = self.task(index)?.clone();
        Some(match self.settling.get(&index) {
            None => task,
            Some(settling) => TaskRecord {
                state: settling.state(),
                fault: settling.fault.clone(),
                ..task
            },
        })
    }

    fn settlement(&self, index: u32) -> Option<Settlement> {
        let Settling { lease, receipt, .. } = self.settling.get(&index)?;
        Some(Settlement {
            lease: *lease,
            receipt: receipt.clone(),
        })
    }

    /// The job as it is once these tasks are settled, and whether that is its end.
    fn record_after(&self, settled: &[u32], now: Now) -> (JobRecord, bool) {
        let mut tally: Tally = self.tally;
        for settling in settled.iter().filter_map(|index| self.settling.get(index)) {
            *tally.of(TaskState::Verifying) -= 1;
            *tally.of(settling.state()) += 1;
        }
        if tally.open() == 0 && self.dirty.is_empty() {
            (self.final_record(tally, now), true)
        } else {
            (
                JobRecord {
                    tally,
                    ..self.record()
                },
                false,
            )
        }
    }

    /// The receipt is stored.
    fn settled(&mut self, index: u32) {
        let Some(settling) = self.settling.remove(&index) else {
            return;
        };
        let state = settling.state();
        if let Some(task) = self.task_mut(index) {
            task.fault = settling.fault;
        }
        self.set(index, state);
        // This state is the one that was stored.
        self.dirty.remove(&index);
    }
}

fn granted_lease(task: &TaskRecord) -> Option<LeaseId> {
    task.leases
        .last()
        .filter(|lease| lease.state == LeaseState::Active)
        .map(|lease| lease.id)
}

/// What a signed run says about its task: nothing but success is a result, and the program's failure is the job's.
fn verdict(execution: &Execution) -> Option<Fault> {
    let task = execution.lease.task;
    let index = task.index;
    let why = execution
        .error
        .as_deref()
        .map(|error| format!(": {}", bounded(error)))
        .unwrap_or_default();
    match execution.status {
        Status::Succeeded => None,
        Status::TimedOut => Some(
            Fault::wc(
                WcCode::DeadlineExceeded,
                format!("task {index} ran past its max_wall_time{why}"),
            )
            .hint("raise spec.max_wall_time, or give the task less to do"),
        ),
        other => Some(
            task_failed(format!("task {index} {}{why}", ended(other))).hint(remedy(other, task)),
        ),
    }
}

/// What its submitter can do about it.
fn remedy(status: Status, task: TaskId) -> String {
    let limit = match status {
        Status::OutOfFuel => "fuel",
        Status::OutOfMemory => "memory",
        Status::OutputLimit | Status::DiskLimit => "scratch",
        _ => {
            let TaskId { job, index } = task;
            return format!(
                "read its standard error: 'worldcompute job results {job} --task {index} --name stderr'"
            );
        }
    };
    format!("raise spec.resources.{limit}, or let the program do with less")
}

const fn ended(status: Status) -> &'static str {
    match status {
        Status::Succeeded => "succeeded",
        Status::Failed => "failed",
        Status::Trapped => "trapped",
        Status::OutOfFuel => "ran out of fuel",
        Status::OutOfMemory => "ran out of memory",
        Status::TimedOut => "ran out of time",
        Status::OutputLimit => "wrote too much",
        Status::Cancelled => "was cancelled",
        Status::Killed => "was ended by a signal",
        Status::NotStarted => "could not be started",
        Status::ProcessLimit => "wanted too many processes",
        Status::DiskLimit => "wrote too much to its disk",
        Status::BrokeOff => "broke off",
    }
}
