//! How tasks and jobs come to their ends, other than by success.

use std::collections::BTreeMap;

use worldcompute_fault::{Category, Fault, WcCode};
use worldcompute_proof::PeerId;

use super::job::Job;
use super::{Broker, Now};
use crate::{JobId, JobState, LeaseRecord, LeaseState, TaskId, TaskRecord, TaskState};

/// Most donors a task is given to before it counts as impossible.
pub const MAX_ATTEMPTS: usize = 16;
/// So often one donor may lose a task before others that could take it are waited for.
pub const MAX_LOSSES: usize = 3;
/// So many donors declining a job that nobody ever ran make it impossible.
pub const MAX_REFUSING_DONORS: usize = 3;
/// So many failed tasks end a job; the rest of it is cancelled.
pub const MAX_FAILED_TASKS: u32 = 16;
/// Most bytes kept of a donor's or submitter's words.
pub const MAX_REASON_BYTES: usize = 500;

impl Broker {
    /// Gives a task that lost its donor back to the queue, or up.
    pub(super) fn retry(&mut self, now: Now, id: TaskId) {
        let Some(job) = self.jobs.get_mut(&id.job) else {
            return;
        };
        let Some(task) = job.task(id.index) else {
            return;
        };
        if task.leases.len() < MAX_ATTEMPTS {
            job.set(id.index, TaskState::Ready);
            return;
        }
        let message = format!(
            "task {} was lost {MAX_ATTEMPTS} times: {}",
            id.index,
            history(task)
        );
        let fault = Fault::wc(WcCode::Unavailable, message)
            .hint("submit the job again when the mesh is steadier");
        self.fail_task(now, id, &fault);
    }

    pub(super) fn fail_task(&mut self, now: Now, id: TaskId, fault: &Fault) {
        let Some(job) = self.jobs.get_mut(&id.job) else {
            return;
        };
        let problem = fault.problem(id.to_string());
        job.failed(Some(problem.clone()));
        if let Some(task) = job.task_mut(id.index) {
            task.fault = Some(problem);
        }
        job.set(id.index, TaskState::Failed);
        job.changed = true;
        self.stop_failing(now, id.job);
    }

    /// Ends a job too many of whose tasks have failed.
    pub(super) fn stop_failing(&mut self, now: Now, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let (failures, open) = (job.failures(), job.tally.ready + job.tally.in_flight);
        if failures < MAX_FAILED_TASKS {
            return;
        }
        let example = job
            .failure
            .as_ref()
            .map(|problem| format!("; the first: {}", problem.detail))
            .unwrap_or_default();
        let hint = job.failure.as_ref().map(|problem| problem.hint.clone());
        let fault = task_failed(format!(
            "{failures} tasks failed, the other {open} were not run{example}"
        ));
        let fault = hint.into_iter().fold(fault, Fault::hint);
        self.end_job(now, id, JobState::Failed, fault);
    }

    /// A donor declined: it is not asked again, and enough of them end a job that nobody ever ran.
    pub(super) fn decline(&mut self, now: Now, id: TaskId, donor: PeerId, reason: &str) {
        let Some(job) = self.jobs.get_mut(&id.job) else {
            return;
        };
        job.declined.insert(donor, bounded(reason));
        let refused = job.declined.len() >= MAX_REFUSING_DONORS;
        if !refused || job.worked || job.tally.in_flight > 0 {
            return;
        }
        let fault = refused_by_all(&job.declined);
        let asked = job
            .tasks
            .iter()
            .filter(|task| !task.leases.is_empty() && !task.state.is_final());
        let asked: Vec<_> = asked
            .map(|task| TaskId {
                job: id.job,
                index: task.index,
            })
            .collect();
        for task in asked {
            self.fail_task(now, task, &fault);
        }
        self.end_job(now, id.job, JobState::Failed, fault);
    }

    /// Brings a job to its end: tasks that are being settled are, all others are cancelled.
    pub(super) fn end_job(&mut self, now: Now, id: JobId, state: JobState, fault: Fault) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.can_be_ended()) else {
            return;
        };
        job.ending = Some((state, fault.problem(id.to_string())));
        job.changed = true;
        job.waiting = None;
        job.starved_since = None;
        let open = job
            .tasks
            .iter()
            .filter(|task| !task.state.is_final() && task.state != TaskState::Verifying);
        let open: Vec<_> = open
            .map(|task| TaskId {
                job: id,
                index: task.index,
            })
            .collect();
        for task in open {
            self.cancel_task(now, task);
        }
    }

    pub(super) fn end_overdue_jobs(&mut self, now: Now) {
        let overdue = |job: &&Job| {
            job.can_be_ended()
                && job
                    .manifest
                    .manifest()
                    .deadline
                    .is_some_and(|deadline| deadline <= now.wall)
        };
        let overdue: Vec<_> = self.jobs.values().filter(overdue).map(Job::id).collect();
        for id in overdue {
            self.end_job(now, id, JobState::Failed, self::overdue());
        }
    }

    fn cancel_task(&mut self, now: Now, id: TaskId) {
        self.withdraw_lease(now, id, LeaseState::Released, "cancelled");
        if let Some(job) = self.jobs.get_mut(&id.job) {
            job.set(id.index, TaskState::Cancelled);
        }
    }
}

pub(super) fn overdue() -> Fault {
    Fault::wc(
        WcCode::DeadlineExceeded,
        "the deadline of the job has passed",
    )
    .hint("submit the job again with a later deadline")
}

/// A program's own failure.
pub(super) fn task_failed(message: String) -> Fault {
    Fault::new(Category::InvalidInput, "task_failed", message)
}

fn refused_by_all(declined: &BTreeMap<PeerId, String>) -> Fault {
    let message = format!(
        "{} donors declined the job ({})",
        declined.len(),
        words_of(declined)
    );
    Fault::wc(WcCode::NoEligibleNodes, message)
        .hint("change what the donors object to, or wait for other donors")
}

/// What the donors said, as far as a message can hold it.
pub(super) fn words_of(declined: &BTreeMap<PeerId, String>) -> String {
    let line = |(donor, reason): (&PeerId, &String)| format!("{donor}: {reason}");
    let lines: Vec<_> = declined.iter().take(MAX_ATTEMPTS).map(line).collect();
    lines.join("; ")
}

/// Who had the task and how that ended, oldest first.
fn history(task: &TaskRecord) -> String {
    let line = |lease: &LeaseRecord| {
        format!(
            "{}: {}",
            lease.donor,
            lease.reason.as_deref().unwrap_or("no reason given")
        )
    };
    task.leases.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// A stranger's words, without control characters and of bounded length.
pub(super) fn bounded(text: &str) -> String {
    let cut = text
        .get(..text.floor_char_boundary(MAX_REASON_BYTES))
        .unwrap_or_default();
    cut.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
