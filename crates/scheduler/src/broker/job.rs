//! One open job: its tasks, what of it is stored, and how it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use worldcompute_fault::{Fault, Problem, Result, WcCode};
use worldcompute_proof::PeerId;

use super::donors::Need;
use super::ends::bounded;
use super::settle::{InCommit, Settling};
use super::{Now, Options, StoredJob};
use crate::manifest::VerifiedManifest;
use crate::{JobId, JobRecord, JobState, LeaseState, Tally, TaskId, TaskRecord, TaskState};

pub(super) struct Job {
    pub(super) manifest: Arc<VerifiedManifest>,
    pub(super) options: Options,
    pub(super) need: Need,
    submitted_at: Timestamp,
    /// By index.
    pub(super) tasks: Vec<TaskRecord>,
    pub(super) tally: Tally,
    /// The tasks that want a donor: the ready ones, and those whose donor has vanished.
    pub(super) ready: BTreeSet<u32>,
    /// The tasks that are not stored as they are.
    pub(super) dirty: BTreeSet<u32>,
    /// Whether the job itself is not stored as it is.
    pub(super) changed: bool,
    /// Whether anything of it was ever stored.
    pub(super) stored: bool,
    /// The tasks whose receipt is not stored yet.
    pub(super) settling: BTreeMap<u32, Settling>,
    /// The commit under way.
    pub(super) commit: Option<InCommit>,
    pub(super) commits: u64,
    pub(super) commit_failures: u32,
    pub(super) commit_after: Duration,
    /// The donors that declined it, with their words.
    pub(super) declined: BTreeMap<PeerId, String>,
    /// Whether any donor ever ran a task of it.
    pub(super) worked: bool,
    /// Since when no donor could take a task of it.
    pub(super) starved_since: Option<Duration>,
    pub(super) waiting: Option<String>,
    /// The turn at which it last got a donor.
    pub(super) served: u64,
    pub(super) ending: Option<(JobState, Problem)>,
    /// The exits that receipts of its tasks have numbers of: no donor gives a number twice.
    exits: BTreeSet<(PeerId, u64)>,
    /// How many tasks a donor confirmed.
    running: u32,
    /// Why the first task failed that did.
    pub(super) failure: Option<Problem>,
}

impl Job {
    pub(super) fn new(
        manifest: Arc<VerifiedManifest>,
        options: Options,
        submitted_at: Timestamp,
    ) -> Self {
        let count = manifest.manifest().array_count;
        Self {
            need: Need::of(manifest.manifest()),
            manifest,
            options,
            submitted_at,
            tasks: (0..count).map(TaskRecord::untouched).collect(),
            tally: Tally {
                ready: count,
                ..Tally::default()
            },
            ready: (0..count).collect(),
            dirty: BTreeSet::new(),
            changed: true,
            stored: false,
            settling: BTreeMap::new(),
            commit: None,
            commits: 0,
            commit_failures: 0,
            commit_after: Duration::ZERO,
            declined: BTreeMap::new(),
            worked: false,
            starved_since: None,
            waiting: None,
            served: 0,
            ending: None,
            exits: BTreeSet::new(),
            running: 0,
            failure: None,
        }
    }

    /// WC-015 for records that cannot be of this manifest.
    pub(super) fn restored(stored: StoredJob) -> Result<Self> {
        let StoredJob {
            job,
            manifest,
            options,
            tasks,
        } = stored;
        if manifest.job_id() != job.id {
            return Err(foreign(job.id, "the manifest is of another job"));
        }
        let mut restored = Self::new(manifest, options, job.submitted_at);
        restored.stored = true;
        restored.ending = job.ending.zip(job.fault);
        for task in tasks {
            restored.restore_task(task)?;
        }
        Ok(restored)
    }

    fn restore_task(&mut self, mut task: TaskRecord) -> Result<()> {
        let index = task.index;
        let id = self.id();
        let slot = self
            .tasks
            .get_mut(index as usize)
            .ok_or_else(|| foreign(id, "a task outside the array"))?;
        let named = TaskId { job: id, index };
        if slot.next_attempt > 0 || task.next_attempt == 0 {
            return Err(foreign(id, "a task twice, or one nobody was asked to do"));
        }
        if task
            .leases
            .iter()
            .any(|lease| lease.id.task != named || lease.id.attempt >= task.next_attempt)
        {
            return Err(foreign(id, "a lease of another task"));
        }
        if !task.state.is_final() {
            task.state = if task.active_lease().is_some() {
                TaskState::Dispatched
            } else {
                TaskState::Ready
            };
        }
        let state = task.state;
        let failure = task.fault.clone();
        let exits = task
            .leases
            .iter()
            .filter_map(|lease| Some((lease.donor, lease.exit?)));
        self.exits.extend(exits);
        *slot = task;
        self.worked |= state == TaskState::Accepted;
        self.failed(failure);
        *self.tally.of(TaskState::Ready) -= 1;
        *self.tally.of(state) += 1;
        if state != TaskState::Ready {
            self.ready.remove(&index);
        }
        Ok(())
    }

    /// The end that was under way.
    pub(super) fn restored_ending(&self) -> Option<(JobState, Fault)> {
        self.ending
            .clone()
            .map(|(state, problem)| (state, Fault::from_problem(problem)))
    }

    pub(super) fn id(&self) -> JobId {
        self.manifest.job_id()
    }

    pub(super) fn task(&self, index: u32) -> Option<&TaskRecord> {
        self.tasks.get(index as usize)
    }

    pub(super) fn task_mut(&mut self, index: u32) -> Option<&mut TaskRecord> {
        self.tasks.get_mut(index as usize)
    }

    /// The one way a task changes its state.
    pub(super) fn set(&mut self, index: u32, state: TaskState) {
        let Some(task) = self.tasks.get_mut(index as usize) else {
            return;
        };
        *self.tally.of(task.state) -= 1;
        *self.tally.of(state) += 1;
        // That a donor confirmed is not worth a write, nor is the end of a task nobody was asked to do.
        let worth_storing = state != TaskState::Running && task.next_attempt > 0;
        self.running -= u32::from(task.state == TaskState::Running);
        self.running += u32::from(state == TaskState::Running);
        task.state = state;
        if worth_storing {
            self.dirty.insert(index);
        }
        match state {
            TaskState::Ready => self.ready.insert(index),
            _ => self.ready.remove(&index),
        };
    }

    /// Ends the live lease of a task in its record.
    pub(super) fn close_lease(
        &mut self,
        index: u32,
        now: Now,
        state: LeaseState,
        reason: Option<&str>,
    ) {
        let last = self.task_mut(index).and_then(|task| task.leases.last_mut());
        if let Some(lease) = last.filter(|lease| lease.state == LeaseState::Active) {
            lease.state = state;
            lease.ended_at = Some(now.wall);
            lease.reason = reason.map(bounded);
            self.dirty.insert(index);
        }
    }

    /// Whether an exit of that donor already counts, under another lease.
    pub(super) fn knows_exit(&self, donor: PeerId, exit: u64) -> bool {
        self.exits.contains(&(donor, exit))
    }

    /// The donors whose receipts count.
    pub(super) fn deliverers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.exits.iter().map(|(donor, _)| *donor)
    }

    /// Ends the live lease of a task with a receipt of its donor.
    pub(super) fn close_with_receipt(&mut self, index: u32, now: Now, exit: u64) {
        self.close_lease(index, now, LeaseState::Released, None);
        let last = self.task_mut(index).and_then(|task| task.leases.last_mut());
        if let Some(lease) = last {
            lease.exit = Some(exit);
            let donor = lease.donor;
            self.exits.insert((donor, exit));
        }
    }

    pub(super) fn record(&self) -> JobRecord {
        JobRecord {
            id: self.id(),
            name: self.manifest.manifest().name.clone(),
            state: self.phase(),
            tally: self.tally,
            submitted_at: self.submitted_at,
            finished_at: None,
            waiting: self.waiting.clone(),
            ending: self.ending.as_ref().map(|(state, _)| *state),
            fault: self.fault(),
        }
    }

    fn phase(&self) -> JobState {
        let tally = &self.tally;
        if tally.verifying > 0 && tally.ready + tally.in_flight == 0 {
            JobState::Verifying
        } else if tally.accepted + tally.failed + tally.verifying + self.running > 0 {
            JobState::Running
        } else if tally.in_flight > 0 {
            JobState::Dispatching
        } else {
            JobState::Queued
        }
    }

    /// The job as it is once every task has come to its end.
    pub(super) fn final_record(&self, tally: Tally, now: Now) -> JobRecord {
        let state = match (&self.ending, &self.failure) {
            (Some((state, _)), _) => *state,
            (None, Some(_)) => JobState::Failed,
            (None, None) => JobState::Completed,
        };
        JobRecord {
            state,
            tally,
            waiting: None,
            finished_at: Some(now.wall),
            ..self.record()
        }
    }

    fn fault(&self) -> Option<Problem> {
        let ending = self.ending.as_ref().map(|(_, problem)| problem);
        ending.or(self.failure.as_ref()).cloned()
    }

    /// Notes why a task failed; the first one speaks for the job.
    pub(super) fn failed(&mut self, why: Option<Problem>) {
        if self.failure.is_none() {
            self.failure = why;
        }
    }

    /// How many tasks have failed or are about to.
    pub(super) fn failures(&self) -> u32 {
        let settling = self
            .settling
            .values()
            .filter(|settling| settling.fault.is_some());
        self.tally.failed + settling.count() as u32
    }

    pub(super) fn wakeup(&self, now: Now) -> Option<Duration> {
        let patience = self
            .starved_since
            .zip(self.options.patience)
            .map(|(since, patience)| since.saturating_add(patience));
        let deadline = self
            .manifest
            .manifest()
            .deadline
            .filter(|_| self.can_be_ended())
            .map(|deadline| {
                let left = deadline.duration_since(now.wall);
                now.monotonic
                    .saturating_add(Duration::try_from(left).unwrap_or_default())
            });
        let retry = (self.commit.is_none() && self.needs_commit()).then_some(self.commit_after);
        patience.into_iter().chain(deadline).chain(retry).min()
    }

    /// Whether there is a task left that could be stopped.
    pub(super) fn can_be_ended(&self) -> bool {
        self.tally.ready + self.tally.in_flight > 0
    }

    pub(super) fn needs_commit(&self) -> bool {
        self.changed || !self.dirty.is_empty()
    }
}

fn foreign(id: JobId, why: &str) -> Fault {
    Fault::wc(
        WcCode::Internal,
        format!("the records of job {id} contradict each other: {why}"),
    )
    .hint("restore the store from a backup")
}
