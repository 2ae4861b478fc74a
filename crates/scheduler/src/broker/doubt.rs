//! Donors that take a task and have nothing to show for it: the task goes to another that has room.
//!
//! That a donor says it works costs it nothing, so what counts is what does: bytes of the task that it fetches, or a receipt.
//! Who never gave one has [`DOUBT_AFTER`]; who did is believed for the task's own time beside that.

use std::time::Duration;

use tracing::info;
use worldcompute_proof::PeerId;

use super::donors::Donors;
use super::ends::MAX_ATTEMPTS;
use super::leases::{Lease, Phase, RUN_GRACE};
use super::{Broker, Now};
use crate::{LeaseId, LeaseState, TaskId};

/// A donor that has had a task for so long with nothing to show may lose it to another.
pub const DOUBT_AFTER: Duration = Duration::from_secs(45);
/// Bytes of the task that have to have moved for a donor to count as fetching, or what is left of it.
pub const MIN_PROGRESS: u64 = 1 << 20;
/// A task that so many donors lost in this way stays for its own time with the next, whoever that is: it may be long.
const MAX_DOUBTS: usize = 3;

/// What a donor has to show for a lease.
pub(super) struct Progress {
    /// Since when it has the task.
    since: Duration,
    /// When it last did something that costs more than a word.
    at: Duration,
    /// Bytes of the task that it had fetched by then.
    fetched: u64,
    /// Its receipt is here, and its results are on their way.
    answered: bool,
    /// The task's own time.
    run: Duration,
    /// Whether it is believed, whoever it is.
    believed: bool,
}

impl Progress {
    pub(super) const fn new(now: Duration, run: Duration, believed: bool) -> Self {
        Self {
            since: now,
            at: now,
            fetched: 0,
            answered: false,
            run,
            believed,
        }
    }

    /// The donor was asked for the first time.
    pub(super) const fn begin(&mut self, now: Duration) {
        self.since = now;
        self.at = now;
    }

    /// The donor has fetched so many bytes of the task.
    pub(super) fn fetched(&mut self, now: Duration, bytes: u64) {
        if bytes.saturating_sub(self.fetched) >= MIN_PROGRESS {
            self.fetched = bytes;
            self.at = now.min(self.since + RUN_GRACE);
        }
    }

    pub(super) const fn answered(&mut self) {
        self.answered = true;
    }

    pub(super) const fn since(&self) -> Duration {
        self.since
    }

    fn doubtful_at(&self, donor: &PeerId, donors: &Donors) -> Option<Duration> {
        let believed = self.believed || donors.standings.is_believed(donor);
        let time = if believed { self.run } else { Duration::ZERO };
        (!self.answered).then(|| self.at + time + DOUBT_AFTER)
    }
}

impl Lease {
    /// When it becomes doubtful whether its donor works on it.
    pub(super) fn doubtful_at(&self, donors: &Donors) -> Option<Duration> {
        self.progress
            .doubtful_at(&self.donor, donors)
            .filter(|_| self.phase != Phase::Granted)
    }
}

impl Broker {
    /// Gives tasks whose donors have nothing to show to others, as far as those have room that no other task waits for.
    pub(super) fn replace_idlers(&mut self, now: Now) {
        let idle = |lease: &Lease| {
            let at = lease.doubtful_at(&self.donors);
            at.is_some_and(|at| at <= now.monotonic)
        };
        let idle = self.leases.iter().filter(|(_, lease)| idle(lease));
        let idle: Vec<LeaseId> = idle.map(|(id, _)| *id).collect();
        for id in idle {
            if self.has_heir(now, id.task) {
                self.replace(now, id);
                self.place(now);
            }
        }
    }

    /// Whether somebody who never had the task, and did nothing wrong, could take it now.
    fn has_heir(&self, now: Now, id: TaskId) -> bool {
        let Some(job) = self.jobs.get(&id.job) else {
            return false;
        };
        let Some(task) = job.task(id.index) else {
            return false;
        };
        let is_new = |peer: &PeerId| {
            let had = task.leases.iter().any(|lease| lease.donor == *peer);
            !had && self.donors.standings.no_shows(peer) == 0
        };
        task.leases.len() < MAX_ATTEMPTS && self.could_take(now, job, is_new)
    }

    fn replace(&mut self, now: Now, id: LeaseId) {
        let Some(donor) = self.leases.get(&id).map(|lease| lease.donor) else {
            return;
        };
        info!(lease = %id, %donor, "a donor has nothing to show for its task");
        self.note_no_show(now, id);
        self.supersede(now, id.task, "the donor had nothing to show for it");
    }

    /// The donor did nothing with the lease, which is about to end.
    pub(super) fn note_no_show(&mut self, now: Now, id: LeaseId) {
        if let Some(lease) = self.leases.get(&id) {
            let since = lease.progress.since();
            self.donors
                .standings
                .no_show(now.monotonic, lease.donor, since);
        }
    }

    /// Whether the next donor of a task is believed because too many before it were not.
    pub(super) fn is_long(&self, id: TaskId) -> bool {
        let task = self.jobs.get(&id.job).and_then(|job| job.task(id.index));
        let superseded = task.into_iter().flat_map(|task| &task.leases);
        let superseded = superseded.filter(|lease| lease.state == LeaseState::Superseded);
        superseded.count() >= MAX_DOUBTS
    }
}
