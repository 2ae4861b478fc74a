//! The broker: a state machine that leases tasks to donors until every job has come to its end.
//!
//! It owns no clock, no socket, no disk and no randomness. Whoever drives it tells it what happened
//! ([`Broker::handle`]), asks what to do ([`Broker::poll`]), does that, and comes back at [`Broker::next_wakeup`] or
//! when something happens:
//!
//! ```text
//!            submit, cancel                    ┌──────────► Commit ───► store ──► Committed
//! donors ──► Donor, DonorDown ──► Broker ──────┼──────────► Dispatch ─► donor ──► Reply
//!            time ──────────────► poll         └──────────► Heartbeat ► donor ──► Heartbeat
//! ```
//!
//! Rules it keeps, whatever the order, the number or the delay of what it is told:
//! - The store is the commit point. A job is acknowledged, a lease is sent, a task counts as accepted and a job as
//!   finished only after the commit that says so.
//! - A lease belongs to one donor for ever, and at most one lease of a task is live. Only the reply to a live lease by
//!   its own donor counts, so a task is accepted at most once.
//! - A donor that has nothing to show for a task but its word loses it to another that has room, and is asked last from
//!   then on.
//! - Only a signed receipt ([`Execution`]) can accept a task or fail it at once; an unsigned word of a donor costs one
//!   of a bounded number of attempts.

mod donors;
mod doubt;
mod ends;
mod execution;
#[cfg(test)]
mod fixture;
mod job;
mod leases;
mod placement;
mod settle;
#[cfg(test)]
mod simulation;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_proof::PeerId;

use crate::manifest::VerifiedManifest;
use crate::{JobId, JobRecord, JobState, LeaseId, TaskRecord};
use donors::Donors;
use job::Job;
use leases::Lease;

pub use donors::{Capacity, Classes, DONOR_SILENCE, MAX_DONORS, MAX_SLOTS};
pub use doubt::{DOUBT_AFTER, MIN_PROGRESS};
pub use ends::{MAX_ATTEMPTS, MAX_FAILED_TASKS, MAX_LOSSES, MAX_REASON_BYTES, MAX_REFUSING_DONORS};
pub use execution::Execution;
pub use leases::{HEARTBEAT_EVERY, LEASE_TTL, RUN_GRACE};
pub use settle::{COMMIT_TASKS, Commit, Settlement};
pub use standing::MAX_STANDINGS;

/// Most jobs that are not finished.
pub const MAX_OPEN_JOBS: usize = 1_000;

/// The longest time the broker lets its driver sleep, so that a wait without end stays within every clock's range.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);

/// The present moment, twice.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Time since an arbitrary start, which no change of the clock can move. Leases live by it.
    pub monotonic: Duration,
    /// The time of day. Records and deadlines go by it.
    pub wall: Timestamp,
}

/// What a submitter asks of the broker beside the manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How long the job may wait while no donor could take it; then it fails with WC-004. `None` waits for ever.
    pub patience: Option<Duration>,
    /// The only donor that may run it.
    pub donor: Option<PeerId>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A donor is connected and said what it has.
    Donor {
        /// Who.
        peer: PeerId,
        /// What it has.
        capacity: Capacity,
    },
    /// A donor is connected no more.
    DonorDown {
        /// Who.
        peer: PeerId,
    },
    /// A donor answered a heartbeat.
    Heartbeat {
        /// The lease that was asked about.
        lease: LeaseId,
        /// Who answered.
        from: PeerId,
        /// Whether it says that it works on it.
        known: bool,
        /// How many bytes of what the task needs it has fetched from this node.
        fetched: u64,
    },
    /// The receipt of a dispatch is here and verified; its results are still being fetched.
    Answered {
        /// The lease.
        lease: LeaseId,
        /// Whose receipt.
        from: PeerId,
    },
    /// A dispatch came to its end.
    Reply {
        /// The lease that was dispatched.
        lease: LeaseId,
        /// To whom it was dispatched.
        from: PeerId,
        /// How it ended.
        reply: Reply,
    },
    /// A commit is durable.
    Committed {
        /// The job.
        job: JobId,
        /// [`Commit::number`].
        number: u64,
    },
    /// A commit did not take place; the broker asks for it again.
    CommitFailed {
        /// The job.
        job: JobId,
        /// [`Commit::number`].
        number: u64,
    },
}

/// How a dispatch ended.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The task ran, and this is the donor's signed word on how it ended.
    Ran(Box<Execution>),
    /// The donor has no room at the moment. Costs nothing but a pause.
    Busy {
        /// Its words.
        reason: String,
    },
    /// The donor will not run tasks of this job.
    Declined {
        /// Its words.
        reason: String,
    },
    /// The donor began and could not go on: its owner came back, its sandbox failed, a blob could not be had.
    Lost {
        /// Its words.
        reason: String,
    },
    /// The answer did not arrive; the donor may still be at work.
    Unreachable {
        /// What the transport said.
        reason: String,
    },
}

/// Something to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Write this, all or nothing; then tell [`Event::Committed`] or [`Event::CommitFailed`].
    Commit(Box<Commit>),
    /// The job is durable: acknowledge it to its submitter.
    Submitted {
        /// The job.
        job: JobId,
    },
    /// Send the task to the donor under this lease, which the donor may already have; then tell [`Event::Reply`].
    Dispatch {
        /// The lease.
        lease: LeaseId,
        /// To whom.
        donor: PeerId,
        /// What it is a task of.
        manifest: Arc<VerifiedManifest>,
    },
    /// Ask the donor whether it works on the lease; then tell [`Event::Heartbeat`], or nothing if it does not answer.
    Heartbeat {
        /// The lease.
        lease: LeaseId,
        /// Whom.
        donor: PeerId,
    },
    /// Tell the donor to stop; no answer is expected.
    CancelLease {
        /// The lease.
        lease: LeaseId,
        /// Whom.
        donor: PeerId,
    },
    /// The job came to its end, and the broker has forgotten it.
    JobFinished {
        /// The job as it is stored.
        job: Box<JobRecord>,
    },
}

/// The state machine.
pub struct Broker {
    seed: u64,
    jobs: BTreeMap<JobId, Job>,
    donors: Donors,
    leases: BTreeMap<LeaseId, Lease>,
    actions: Vec<Action>,
    /// Counts grants, so that jobs take turns.
    turn: u64,
}

impl Broker {
    /// A broker without jobs and donors. The seed decides between donors that are equally good.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            jobs: BTreeMap::new(),
            donors: Donors::default(),
            leases: BTreeMap::new(),
            actions: Vec::new(),
            turn: 0,
        }
    }

    /// Takes a new job. It is acknowledged by [`Action::Submitted`].
    ///
    /// # Errors
    /// WC-019 for a job that is here already, WC-013 past [`MAX_OPEN_JOBS`], WC-017 past its deadline.
    pub fn submit(
        &mut self,
        now: Now,
        manifest: Arc<VerifiedManifest>,
        options: Options,
    ) -> Result<JobId> {
        let id = manifest.job_id();
        self.check_new(id)?;
        if manifest
            .manifest()
            .deadline
            .is_some_and(|deadline| deadline <= now.wall)
        {
            return Err(ends::overdue());
        }
        self.jobs.insert(id, Job::new(manifest, options, now.wall));
        Ok(id)
    }

    /// Takes up a job again that a previous broker committed.
    ///
    /// Leases that were live stay so for the length of one lease: their donors are asked again under the same lease.
    ///
    /// # Errors
    /// WC-019 for a job that is here already, WC-013 past [`MAX_OPEN_JOBS`], WC-015 for records that do not belong
    /// to the manifest.
    pub fn restore(&mut self, now: Now, stored: StoredJob) -> Result<JobId> {
        let id = stored.job.id;
        self.check_new(id)?;
        let job = Job::restored(stored)?;
        self.adopt_leases(now, &job);
        for donor in job.deliverers() {
            self.donors.standings.delivered(now.monotonic, donor);
        }
        let ending = job.restored_ending();
        self.jobs.insert(id, job);
        if let Some((state, fault)) = ending {
            self.end_job(now, id, state, fault);
        }
        Ok(id)
    }

    /// Stops a job. Its end is told by [`Action::JobFinished`].
    ///
    /// # Errors
    /// WC-018 for a job that is not here: unknown, or finished.
    pub fn cancel(&mut self, now: Now, job: JobId, reason: &str) -> Result<()> {
        if !self.jobs.contains_key(&job) {
            return Err(Fault::wc(WcCode::NotFound, format!("no open job {job}"))
                .hint("list jobs with `worldcompute job list`"));
        }
        let message = format!("cancelled: {}", ends::bounded(reason));
        let fault = Fault::new(Category::InvalidInput, "job_cancelled", message)
            .hint("submit the job again to run it");
        self.end_job(now, job, JobState::Cancelled, fault);
        Ok(())
    }

    /// Believes a donor that never gave a receipt: this node's own.
    pub fn vouch_for(&mut self, now: Now, donor: PeerId) {
        self.donors.standings.delivered(now.monotonic, donor);
    }

    /// Takes in what happened. Whatever does not fit the present state is ignored: it is late or it is made up.
    pub fn handle(&mut self, now: Now, event: Event) {
        match event {
            Event::Donor { peer, capacity } => self.donors.seen(now.monotonic, peer, capacity),
            Event::DonorDown { peer } => self.donor_down(now, peer),
            Event::Heartbeat {
                lease,
                from,
                known,
                fetched,
            } => self.heartbeat(now, lease, from, known, fetched),
            Event::Answered { lease, from } => self.answered(lease, from),
            Event::Reply { lease, from, reply } => self.reply(now, lease, from, reply),
            Event::Committed { job, number } => self.committed(now, job, number),
            Event::CommitFailed { job, number } => self.commit_failed(now, job, number),
        }
    }

    /// What to do now, in any order.
    pub fn poll(&mut self, now: Now) -> Vec<Action> {
        self.expire_leases(now);
        self.end_overdue_jobs(now);
        self.reattach_leases(now);
        self.place(now);
        self.replace_idlers(now);
        self.send_heartbeats(now);
        self.commit(now);
        std::mem::take(&mut self.actions)
    }

    /// The monotonic time at which [`Broker::poll`] has something to do, if nothing happens before.
    pub fn next_wakeup(&self, now: Now) -> Option<Duration> {
        let leases = self
            .leases
            .values()
            .filter_map(|lease| lease.wakeup(now.monotonic, &self.donors));
        let jobs = self.jobs.values().filter_map(|job| job.wakeup(now));
        let waiting = self.jobs.values().any(|job| !job.ready.is_empty());
        let holds = self.donors.next_release(now.monotonic).filter(|_| waiting);
        let next = leases.chain(jobs).chain(holds).min()?;
        Some(next.min(now.monotonic + LONGEST_SLEEP))
    }

    /// An open job as it is now.
    pub fn job(&self, id: JobId) -> Option<JobRecord> {
        self.jobs.get(&id).map(Job::record)
    }

    /// Every open job, oldest first.
    pub fn jobs(&self) -> impl Iterator<Item = JobRecord> + '_ {
        self.jobs.values().map(Job::record)
    }

    /// The tasks of an open job.
    pub fn tasks(&self, id: JobId) -> Option<&[TaskRecord]> {
        self.jobs.get(&id).map(|job| job.tasks.as_slice())
    }

    /// The manifest of an open job.
    pub fn manifest(&self, id: JobId) -> Option<&Arc<VerifiedManifest>> {
        self.jobs.get(&id).map(|job| &job.manifest)
    }

    fn check_new(&self, id: JobId) -> Result<()> {
        if self.jobs.contains_key(&id) {
            return Err(Fault::wc(
                WcCode::AlreadyExists,
                format!("job {id} was submitted before"),
            ));
        }
        if self.jobs.len() >= MAX_OPEN_JOBS {
            let message = format!("{MAX_OPEN_JOBS} jobs are open");
            return Err(Fault::wc(WcCode::RateLimited, message)
                .hint("wait until some are finished, or cancel them"));
        }
        Ok(())
    }
}

/// A job as [`crate::records`] read it.
#[derive(Clone, Debug)]
pub struct StoredJob {
    /// The job.
    pub job: JobRecord,
    /// What was submitted.
    pub manifest: Arc<VerifiedManifest>,
    /// How it was submitted.
    pub options: Options,
    /// The tasks that somebody was asked to do.
    pub tasks: Vec<TaskRecord>,
}
