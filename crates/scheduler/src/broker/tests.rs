//! The broker, one event at a time, on a store that takes everything at once.

mod commits;
mod doubt;
mod endings;
mod leases;
mod limits;
mod placement;
mod restart;

use std::sync::Arc;
use std::time::Duration;

use worldcompute_fault::WcCode;
use worldcompute_ledger::receipt::Status;
use worldcompute_proof::PeerId;

use super::donors::Donors;
use super::fixture::{at, capacity, execution, image_manifest, job_id, manifest, peer};
use super::*;
use crate::manifest::VerifiedManifest;
use crate::{LeaseState, TaskState};

/// A broker whose store takes everything at once.
struct Desk {
    broker: Broker,
    now: Now,
    submitted: Vec<JobId>,
    dispatched: Vec<(LeaseId, PeerId)>,
    stopped: Vec<LeaseId>,
    asked: Vec<LeaseId>,
    finished: Vec<JobRecord>,
    commits: Vec<Commit>,
}

impl Desk {
    fn new() -> Self {
        Self {
            broker: Broker::new(7),
            now: at(0.0),
            submitted: vec![],
            dispatched: vec![],
            stopped: vec![],
            asked: vec![],
            finished: vec![],
            commits: vec![],
        }
    }

    fn with_donors(count: u8, slots: u32) -> Self {
        let mut desk = Self::new();
        (0..count).for_each(|number| desk.donor(number, slots));
        desk
    }

    fn donor(&mut self, number: u8, slots: u32) {
        self.tell(Event::Donor {
            peer: peer(number),
            capacity: capacity(slots),
        });
    }

    fn submit(&mut self, manifest: Arc<VerifiedManifest>) -> JobId {
        self.submit_with(manifest, Options::default())
    }

    fn submit_with(&mut self, manifest: Arc<VerifiedManifest>, options: Options) -> JobId {
        let id = self.broker.submit(self.now, manifest, options).unwrap();
        self.settle();
        id
    }

    fn tell(&mut self, event: Event) {
        self.broker.handle(self.now, event);
        self.settle();
    }

    fn reply(&mut self, lease: LeaseId, from: PeerId, reply: Reply) {
        self.tell(Event::Reply { lease, from, reply });
    }

    fn ran(&mut self, (lease, donor): (LeaseId, PeerId), status: Status) {
        self.reply(
            lease,
            donor,
            Reply::Ran(Box::new(execution(lease, donor, status))),
        );
    }

    fn heartbeat(&mut self, lease: (LeaseId, PeerId), known: bool) {
        self.heartbeat_of(lease, known, 0);
    }

    fn heartbeat_of(&mut self, (lease, from): (LeaseId, PeerId), known: bool, fetched: u64) {
        self.tell(Event::Heartbeat {
            lease,
            from,
            known,
            fetched,
        });
    }

    /// Has every donor give a receipt, so that its word counts.
    fn prove_all(&mut self, tasks: u32) {
        self.submit(manifest(99, tasks, &[]));
        for lease in std::mem::take(&mut self.dispatched) {
            self.ran(lease, Status::Succeeded);
        }
        assert_eq!(self.finished.pop().unwrap().state, JobState::Completed);
    }

    /// Lets time pass, waking the broker whenever it asked for it.
    fn pass(&mut self, seconds: f64) {
        let until = self.now.monotonic + Duration::from_secs_f64(seconds);
        let mut woken = 0;
        while let Some(next) = self
            .broker
            .next_wakeup(self.now)
            .filter(|next| *next <= until)
        {
            woken += 1;
            assert!(woken < 100_000, "the broker is woken for nothing");
            self.now = at(next.max(self.now.monotonic).as_secs_f64());
            self.settle();
        }
        self.now = at(until.as_secs_f64());
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let actions = self.broker.poll(self.now);
            if actions.is_empty() {
                return;
            }
            actions.into_iter().for_each(|action| self.act(action));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Commit(commit) => {
                let (job, number) = (commit.job.id, commit.number);
                self.commits.push(*commit);
                self.broker
                    .handle(self.now, Event::Committed { job, number });
            }
            Action::Submitted { job } => self.submitted.push(job),
            Action::Dispatch { lease, donor, .. } => self.dispatched.push((lease, donor)),
            Action::Heartbeat { lease, .. } => self.asked.push(lease),
            Action::CancelLease { lease, .. } => self.stopped.push(lease),
            Action::JobFinished { job } => self.finished.push(*job),
        }
    }

    fn last(&self) -> (LeaseId, PeerId) {
        *self.dispatched.last().unwrap()
    }

    fn task(&self, job: JobId, index: usize) -> &TaskRecord {
        &self.broker.tasks(job).unwrap()[index]
    }
}

/// The actions of one poll, whose number is known.
fn exactly<const N: usize>(broker: &mut Broker, now: Now) -> [Action; N] {
    broker.poll(now).try_into().unwrap()
}

fn lost(reason: &str) -> Reply {
    Reply::Lost {
        reason: reason.into(),
    }
}

fn declined(reason: &str) -> Reply {
    Reply::Declined {
        reason: reason.into(),
    }
}

fn busy() -> Reply {
    Reply::Busy {
        reason: "full".into(),
    }
}

fn unreachable() -> Reply {
    Reply::Unreachable {
        reason: "stream reset".into(),
    }
}
