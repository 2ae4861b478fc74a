//! Durable jobs: a long piece of agent work with checkpoints, approvals and a reason for every stop.
//!
//! A job is a directory `<root>/<job_id>` with `state.json` (what is), `events.jsonl` (how it came to be) and, while a
//! change is under way, `pending_mutation.json`: the state before, the state after and the event. A change is
//!
//! 1. the marker, 2. the new state, 3. the event, 4. the marker's removal,
//!
//! each on stable storage before the next. Whoever comes next, under the same lock, finds a marker only after a crash:
//! with its event in the log the change is completed, without it the change is undone. So state and log agree whenever
//! anybody looks.

mod diagnose;
mod fingerprint;
mod resume;
mod state;
mod store;
mod transition;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use worldcompute_durable::{Disk, OsDisk};
use worldcompute_fault::Result;

pub use diagnose::{Issue, IssueKind};
pub use fingerprint::environment_fingerprint;
pub use resume::{Resume, Revocations};
pub use state::{
    Approval, Checkpoint, CheckpointKind, EVENT_SCHEMA_ID, Event, JobId, JobState, SCHEMA_ID,
    SCHEMA_VERSION, Status,
};
pub use transition::{NewCheckpoint, Submission};

use crate::clock::Clock;
use store::Store;

/// The jobs under one root directory.
pub struct Jobs {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
}

impl Jobs {
    /// The jobs under `root`, which the first submission makes.
    pub fn at(root: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self::on(Arc::new(OsDisk), root, clock)
    }

    /// [`Jobs::at`] on a given disk.
    pub fn on(disk: Arc<dyn Disk>, root: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self {
            root: root.into(),
            disk,
            clock,
        }
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Creates a running job.
    ///
    /// Errors: `job_exists`; `state_contention` after two seconds; those of writing.
    pub fn submit(&self, id: &JobId, submission: &Submission) -> Result<JobState> {
        let (state, event) = submission.begin(id, self.clock.now())?;
        self.store(id).create(state, event)
    }

    /// The state of a job. A change that a crash cut off is completed or undone first.
    ///
    /// Errors: `job_not_found`, `job_state_corrupt`, `insecure_permissions`, `state_contention`.
    pub fn status(&self, id: &JobId) -> Result<JobState> {
        self.store(id).read(|_| Ok(())).map(|(state, ())| state)
    }

    /// The state of a job and every event, oldest first.
    ///
    /// Errors: `job_events_corrupt`, else those of [`Jobs::status`].
    pub fn inspect(&self, id: &JobId) -> Result<(JobState, Vec<Event>)> {
        self.store(id).read(Store::events)
    }

    /// One checkpoint of a job; `checkpoint_not_found` when there is none of that id.
    pub fn checkpoint(&self, id: &JobId, checkpoint: &str) -> Result<Checkpoint> {
        let found = self.status(id)?.checkpoints.into_iter();
        let mut matching = found.filter(|known| known.checkpoint_id == checkpoint.trim());
        matching
            .next()
            .ok_or_else(|| state::no_checkpoint(id, checkpoint))
    }

    /// Adds a checkpoint; one that needs a decision, blocks or completes changes the status.
    ///
    /// Errors: `invalid_checkpoint`, `invalid_transition` for a job that has ended, else those of [`Jobs::submit`].
    pub fn add_checkpoint(
        &self,
        id: &JobId,
        checkpoint: &NewCheckpoint,
    ) -> Result<(JobState, Checkpoint)> {
        let state = self.change(id, |state, now| checkpoint.add(state, now))?;
        let added = state.checkpoints.last().cloned();
        added
            .map(|added| (state, added))
            .ok_or_else(|| state::no_checkpoint(id, "the one just added"))
    }

    /// Pauses a running or undecided job; `invalid_transition` from any other status.
    pub fn pause(&self, id: &JobId, actor: &str) -> Result<JobState> {
        self.change(id, |state, _| transition::pause(state, actor))
    }

    /// Stops a job that has not ended, at once and for good.
    pub fn stop(&self, id: &JobId, actor: &str) -> Result<JobState> {
        self.change(id, |state, _| transition::stop(state, actor))
    }

    /// Cancels a job that has not ended, or was stopped.
    pub fn cancel(&self, id: &JobId, actor: &str) -> Result<JobState> {
        self.change(id, |state, _| transition::cancel(state, actor))
    }

    /// Records that somebody approved; each approval answers one checkpoint that needs a decision.
    pub fn approve(&self, id: &JobId, actor: &str, reason: &str) -> Result<JobState> {
        self.change(id, |state, now| {
            transition::approve(state, actor, reason, now)
        })
    }

    /// Lets a paused, undecided or blocked job run again.
    ///
    /// Errors: `invalid_transition`, `job_approval_required`, `policy_evaluation_required`,
    /// `identity_binding_mismatch`, `identity_validation_required`, `identity_revoked`,
    /// `environment_fingerprint_mismatch`, and those of [`Jobs::submit`].
    pub fn resume(&self, id: &JobId, resume: &Resume) -> Result<JobState> {
        self.change(id, |state, _| resume.apply(state))
    }

    /// Jobs whose state and events disagree, or whose last change is unfinished. Nothing is repaired.
    pub fn diagnose(&self) -> Result<Vec<Issue>> {
        diagnose::diagnose(self)
    }

    fn change(
        &self,
        id: &JobId,
        change: impl FnOnce(&mut JobState, jiff::Timestamp) -> Result<Event>,
    ) -> Result<JobState> {
        let now = self.clock.now();
        self.store(id).change(now, |state| change(state, now))
    }

    fn store(&self, id: &JobId) -> Store<'_> {
        Store::new(&*self.disk, &self.root, id)
    }
}

#[cfg(test)]
mod tests;
