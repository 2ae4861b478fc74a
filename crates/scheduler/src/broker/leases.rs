//! The life of a lease: granted, attached to a donor, detached from it, ended.

use std::time::Duration;

use tracing::debug;
use worldcompute_ledger::receipt::Status;
use worldcompute_proof::PeerId;

use super::donors::Donors;
use super::doubt::Progress;
use super::job::Job;
use super::settle::Settling;
use super::{Action, Broker, Execution, Now, Reply};
use crate::{LeaseId, LeaseRecord, LeaseState, TaskId, TaskState};

/// A lease ends when its donor is silent for so long.
pub const LEASE_TTL: Duration = Duration::from_secs(30);
/// How often a donor is asked whether it still works.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// The first question comes early: it tells a job that waits at the donor from one that runs.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(1);
/// A donor that knows nothing of its task any more may have sent the answer just before.
const ANSWER_ON_ITS_WAY: Duration = Duration::from_secs(5);
/// A lease ends so long after the task's own time is over, whatever the donor says: room to fetch and to answer.
pub const RUN_GRACE: Duration = Duration::from_secs(600);
/// A lost answer is asked for again after this time.
const REATTACH_AFTER: Duration = Duration::from_secs(1);
/// So many answers lost soon after asking end a lease.
const MAX_STRIKES: u32 = 3;
/// An answer lost later than this after asking says nothing about the donor: transports have limits of their own.
const STRIKE_WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Lease {
    pub(super) donor: PeerId,
    pub(super) phase: Phase,
    memory: u64,
    expires: Duration,
    ends_by: Duration,
    heartbeat_at: Duration,
    /// Whether the donor said since it was asked last that it works on it.
    confirmed: bool,
    /// Whether the donor said last that it does not.
    forgotten: bool,
    strikes: u32,
    /// What the donor has to show for it.
    pub(super) progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for its commit.
    Granted,
    /// The donor was asked and has not answered.
    Attached { since: Duration },
    /// The donor may be at work, but nobody waits for its answer.
    Detached { ask_at: Duration },
}

impl Lease {
    pub(super) fn wakeup(&self, now: Duration, donors: &Donors) -> Option<Duration> {
        let end = self.expires.min(self.ends_by);
        let next = match self.phase {
            Phase::Granted => return None,
            Phase::Attached { .. } => end.min(self.heartbeat_at),
            Phase::Detached { ask_at } if donors.is_up(self.donor) => end.min(ask_at),
            Phase::Detached { .. } => end,
        };
        // Past that, whoever gets room is told of, and may take the task then.
        let doubt = self.doubtful_at(donors).filter(|at| *at > now);
        doubt.into_iter().chain([next]).min()
    }
}

impl Broker {
    /// Promises the task to the donor; it is sent once that is committed.
    pub(super) fn grant(&mut self, now: Now, id: TaskId, donor: PeerId) {
        let Some(job) = self.jobs.get_mut(&id.job) else {
            return;
        };
        let resources = &job.manifest.manifest().resources;
        let memory = resources.ram_bytes;
        let run = Duration::from_millis(job.manifest.manifest().max_wallclock_ms);
        let Some(task) = job.task_mut(id.index) else {
            return;
        };
        let lease = LeaseId {
            task: id,
            replica: 0,
            attempt: task.next_attempt,
        };
        task.next_attempt += 1;
        task.leases.push(LeaseRecord {
            id: lease,
            donor,
            state: LeaseState::Active,
            granted_at: now.wall,
            ended_at: None,
            reason: None,
            exit: None,
        });
        job.set(id.index, TaskState::Dispatched);
        job.waiting = None;
        job.starved_since = None;
        self.turn += 1;
        job.served = self.turn;
        self.donors.occupy(donor, lease, memory);
        let ends_by = now.monotonic + run + RUN_GRACE;
        let progress = Progress::new(now.monotonic, run, self.is_long(id));
        let lease_now = Lease::new(
            donor,
            Phase::Granted,
            memory,
            now.monotonic,
            ends_by,
            progress,
        );
        self.leases.insert(lease, lease_now);
    }

    /// The grant is durable: the donor can be asked.
    pub(super) fn granted(&mut self, now: Now, id: LeaseId) {
        match self.leases.get_mut(&id) {
            Some(lease) if lease.phase == Phase::Granted => {
                lease.phase = Phase::Detached {
                    ask_at: now.monotonic,
                };
                lease.expires = now.monotonic + LEASE_TTL;
                lease.progress.begin(now.monotonic);
                if !self.donors.is_up(lease.donor) {
                    self.offer_elsewhere(id.task);
                }
            }
            _ => {}
        }
    }

    /// Takes up the live leases of a job that is being restored.
    pub(super) fn adopt_leases(&mut self, now: Now, job: &Job) {
        let run = Duration::from_millis(job.manifest.manifest().max_wallclock_ms);
        let memory = job.manifest.manifest().resources.ram_bytes;
        let ends_by = now.monotonic + run + RUN_GRACE;
        for task in job.tasks.iter().filter(|task| !task.state.is_final()) {
            if let Some(record) = task.active_lease() {
                let phase = Phase::Detached {
                    ask_at: now.monotonic,
                };
                let progress = Progress::new(now.monotonic, run, false);
                let lease = Lease::new(
                    record.donor,
                    phase,
                    memory,
                    now.monotonic,
                    ends_by,
                    progress,
                );
                self.donors.occupy(record.donor, record.id, memory);
                self.leases.insert(record.id, lease);
            }
        }
    }

    /// Asks donors that are there for answers nobody waits for.
    pub(super) fn reattach_leases(&mut self, now: Now) {
        let due = |lease: &Lease| matches!(lease.phase, Phase::Detached { ask_at } if ask_at <= now.monotonic);
        let due: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, lease)| due(lease))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.ask(now, id);
        }
    }

    fn ask(&mut self, now: Now, id: LeaseId) {
        let Some(lease) = self
            .leases
            .get_mut(&id)
            .filter(|lease| self.donors.is_up(lease.donor))
        else {
            return;
        };
        let Some(job) = self.jobs.get_mut(&id.task.job) else {
            return;
        };
        lease.phase = Phase::Attached {
            since: now.monotonic,
        };
        lease.expires = now.monotonic + LEASE_TTL;
        lease.heartbeat_at = now.monotonic + FIRST_HEARTBEAT;
        lease.confirmed = false;
        lease.forgotten = false;
        self.donors.occupy(lease.donor, id, lease.memory);
        job.ready.remove(&id.task.index);
        let manifest = job.manifest.clone();
        self.actions.push(Action::Dispatch {
            lease: id,
            donor: lease.donor,
            manifest,
        });
    }

    pub(super) fn send_heartbeats(&mut self, now: Now) {
        let due = |lease: &Lease| {
            matches!(lease.phase, Phase::Attached { .. }) && lease.heartbeat_at <= now.monotonic
        };
        for (id, lease) in self.leases.iter_mut().filter(|(_, lease)| due(lease)) {
            lease.heartbeat_at = now.monotonic + HEARTBEAT_EVERY;
            self.actions.push(Action::Heartbeat {
                lease: *id,
                donor: lease.donor,
            });
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        now: Now,
        id: LeaseId,
        from: PeerId,
        known: bool,
        fetched: u64,
    ) {
        self.donors.heard(now.monotonic, from);
        let Some(lease) = self.leases.get_mut(&id).filter(|lease| lease.donor == from) else {
            return;
        };
        let Phase::Attached { since } = lease.phase else {
            return;
        };
        lease.progress.fetched(now.monotonic, fetched);
        if known {
            lease.expires = now.monotonic + LEASE_TTL;
            lease.confirmed = true;
            lease.forgotten = false;
            self.confirm(id.task);
        } else if lease.confirmed || now.monotonic.saturating_sub(since) >= HEARTBEAT_EVERY {
            // Before that, the question may have overtaken the task.
            lease.expires = lease.expires.min(now.monotonic + ANSWER_ON_ITS_WAY);
            lease.forgotten = true;
        }
    }

    /// The receipt of a lease is here, and verified; its results are not yet.
    pub(super) fn answered(&mut self, id: LeaseId, from: PeerId) {
        if let Some(lease) = self.leases.get_mut(&id).filter(|lease| lease.donor == from) {
            lease.progress.answered();
        }
    }

    fn confirm(&mut self, id: TaskId) {
        let Some(job) = self.jobs.get_mut(&id.job) else {
            return;
        };
        if job
            .task(id.index)
            .is_some_and(|task| task.state == TaskState::Dispatched)
        {
            job.set(id.index, TaskState::Running);
        }
    }

    pub(super) fn reply(&mut self, now: Now, id: LeaseId, from: PeerId, reply: Reply) {
        self.donors.heard(now.monotonic, from);
        let live = self
            .leases
            .get(&id)
            .filter(|lease| lease.donor == from && lease.phase != Phase::Granted);
        if live.is_none() {
            debug!(lease = %id, donor = %from, "ignored a reply to a lease that is not live");
            return;
        }
        match reply {
            Reply::Ran(execution) => self.ran(now, id, from, *execution),
            Reply::Busy { reason } => self.busy(now, id, from, &reason),
            Reply::Declined { reason } => self.declined(now, id, from, &reason),
            Reply::Lost { reason } => {
                self.donors.hold(now.monotonic, from);
                self.lose(now, id, LeaseState::Released, &reason);
            }
            Reply::Unreachable { reason } => self.unreachable(now, id, &reason),
        }
    }

    fn ran(&mut self, now: Now, id: LeaseId, from: PeerId, execution: Execution) {
        if execution.lease != id || execution.executor != from {
            debug!(lease = %id, donor = %from, "ignored a receipt that is not of this lease and donor");
            return;
        }
        if execution.status == Status::Cancelled {
            self.donors.hold(now.monotonic, from);
            self.lose(now, id, LeaseState::Released, "the donor stopped the task");
            return;
        }
        let exit = execution.exit;
        let job = self.jobs.get(&id.task.job);
        if job.is_some_and(|job| job.knows_exit(from, exit)) {
            let reason = format!("the donor gave exit number {exit} to two receipts");
            return self.declined(now, id, from, &reason);
        }
        self.donors.succeeded(now.monotonic, from);
        self.drop_lease(id);
        let Some(job) = self.jobs.get_mut(&id.task.job) else {
            return;
        };
        job.worked = true;
        job.close_with_receipt(id.task.index, now, exit);
        let settling = Settling::of(execution);
        job.failed(settling.fault.clone());
        job.settling.insert(id.task.index, settling);
        job.set(id.task.index, TaskState::Verifying);
        self.stop_failing(now, id.task.job);
    }

    fn declined(&mut self, now: Now, id: LeaseId, from: PeerId, reason: &str) {
        self.lose(now, id, LeaseState::Released, reason);
        self.decline(now, id.task, from, reason);
    }

    /// The donor had no room: the task waits, and its history is as if nothing had been.
    fn busy(&mut self, now: Now, id: LeaseId, from: PeerId, reason: &str) {
        debug!(lease = %id, donor = %from, reason, "the donor is busy");
        self.donors.hold(now.monotonic, from);
        self.drop_lease(id);
        let Some(job) = self.jobs.get_mut(&id.task.job) else {
            return;
        };
        if let Some(task) = job.task_mut(id.task.index) {
            task.leases.pop_if(|lease| lease.id == id);
        }
        job.set(id.task.index, TaskState::Ready);
    }

    /// The answer got lost, not the donor: it is asked again under the same lease.
    fn unreachable(&mut self, now: Now, id: LeaseId, reason: &str) {
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        let Phase::Attached { since } = lease.phase else {
            return;
        };
        let soon = now.monotonic.saturating_sub(since) < STRIKE_WITHIN;
        lease.strikes = if soon { lease.strikes + 1 } else { 0 };
        if lease.strikes >= MAX_STRIKES {
            self.donors.hold(now.monotonic, lease.donor);
            self.lose(now, id, LeaseState::Released, reason);
            return;
        }
        lease.phase = Phase::Detached {
            ask_at: now.monotonic + REATTACH_AFTER,
        };
    }

    /// Leases of a donor that is gone are offered to others at once; until one takes it, it may come back for it.
    pub(super) fn donor_down(&mut self, now: Now, peer: PeerId) {
        self.donors.remove(peer);
        let mine = self
            .leases
            .iter_mut()
            .filter(|(_, lease)| lease.donor == peer && lease.phase != Phase::Granted);
        let mine: Vec<_> = mine
            .map(|(id, lease)| {
                lease.phase = Phase::Detached {
                    ask_at: now.monotonic,
                };
                id.task
            })
            .collect();
        for task in mine {
            self.offer_elsewhere(task);
        }
    }

    fn offer_elsewhere(&mut self, id: TaskId) {
        if let Some(job) = self.jobs.get_mut(&id.job) {
            job.ready.insert(id.index);
        }
    }

    pub(super) fn expire_leases(&mut self, now: Now) {
        let over = |lease: &Lease| {
            lease.phase != Phase::Granted && lease.expires.min(lease.ends_by) <= now.monotonic
        };
        let over: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, lease)| over(lease))
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            let forgotten = self.leases.get(&id).is_some_and(|lease| lease.forgotten);
            let reason = match forgotten {
                true => "the donor knows nothing of the task",
                false => "the donor was silent for too long",
            };
            self.tell_to_stop(id);
            if self.is_attended(id) {
                self.note_no_show(now, id);
            }
            self.lose(now, id, LeaseState::Expired, reason);
        }
    }

    /// Whether the donor is there and was asked.
    fn is_attended(&self, id: LeaseId) -> bool {
        let lease = self.leases.get(&id);
        let asked = lease.filter(|lease| matches!(lease.phase, Phase::Attached { .. }));
        asked.is_some_and(|lease| self.donors.is_up(lease.donor))
    }

    /// Ends a live lease without a receipt and puts the task back.
    fn lose(&mut self, now: Now, id: LeaseId, state: LeaseState, reason: &str) {
        self.drop_lease(id);
        if let Some(job) = self.jobs.get_mut(&id.task.job) {
            job.close_lease(id.task.index, now, state, Some(reason));
            self.retry(now, id.task);
        }
    }

    /// Ends the live lease of a task, if it has one, from this side.
    pub(super) fn withdraw_lease(&mut self, now: Now, id: TaskId, state: LeaseState, reason: &str) {
        let Some(job) = self.jobs.get_mut(&id.job) else {
            return;
        };
        let Some(lease) = job
            .task(id.index)
            .and_then(|task| task.active_lease())
            .map(|lease| lease.id)
        else {
            return;
        };
        job.close_lease(id.index, now, state, Some(reason));
        self.tell_to_stop(lease);
        self.drop_lease(lease);
    }

    fn tell_to_stop(&mut self, id: LeaseId) {
        if let Some(lease) = self
            .leases
            .get(&id)
            .filter(|lease| lease.phase != Phase::Granted)
        {
            self.actions.push(Action::CancelLease {
                lease: id,
                donor: lease.donor,
            });
        }
    }

    fn drop_lease(&mut self, id: LeaseId) {
        if let Some(lease) = self.leases.remove(&id) {
            self.donors.release(lease.donor, id);
        }
    }
}

impl Lease {
    fn new(
        donor: PeerId,
        phase: Phase,
        memory: u64,
        now: Duration,
        ends_by: Duration,
        progress: Progress,
    ) -> Self {
        Self {
            donor,
            phase,
            memory,
            expires: now + LEASE_TTL,
            ends_by,
            heartbeat_at: now,
            confirmed: false,
            forgotten: false,
            strikes: 0,
            progress,
        }
    }
}
