use std::sync::Arc;
use std::time::Duration;

use worldcompute_fault::WcCode;
use worldcompute_ledger::receipt::Status;
use worldcompute_proof::PeerId;

use super::donors::Donors;
use super::fixture::{at, capacity, execution, job_id, manifest, peer};
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

    fn heartbeat(&mut self, (lease, from): (LeaseId, PeerId), known: bool) {
        self.tell(Event::Heartbeat { lease, from, known });
    }

    /// Lets time pass, waking the broker whenever it asked for it.
    fn pass(&mut self, seconds: f64) {
        let until = self.now.monotonic + Duration::from_secs_f64(seconds);
        while let Some(next) = self
            .broker
            .next_wakeup(self.now)
            .filter(|next| *next <= until)
        {
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

#[test]
fn a_job_is_acknowledged_dispatched_and_finished_only_after_the_commit_that_says_so() {
    let mut broker = Broker::new(0);
    let now = at(0.0);
    broker.handle(
        now,
        Event::Donor {
            peer: peer(0),
            capacity: capacity(1),
        },
    );
    let job = broker
        .submit(now, manifest(1, 1, &[]), Options::default())
        .unwrap();
    let [Action::Commit(commit)] = exactly(&mut broker, now) else {
        panic!()
    };
    assert!(commit.first);
    assert_eq!(commit.tasks[0].state, TaskState::Dispatched);
    assert!(broker.poll(now).is_empty());

    broker.handle(
        now,
        Event::Committed {
            job,
            number: commit.number,
        },
    );
    let [
        Action::Submitted { .. },
        Action::Dispatch { lease, donor, .. },
    ] = exactly(&mut broker, now)
    else {
        panic!()
    };
    let ran = Reply::Ran(Box::new(execution(lease, donor, Status::Succeeded)));
    broker.handle(
        now,
        Event::Reply {
            lease,
            from: donor,
            reply: ran,
        },
    );
    assert_eq!(broker.tasks(job).unwrap()[0].state, TaskState::Verifying);
    assert_eq!(broker.job(job).unwrap().state, JobState::Verifying);
    let [Action::Commit(commit)] = exactly(&mut broker, now) else {
        panic!()
    };
    assert!(!commit.first);
    assert_eq!(commit.job.state, JobState::Completed);
    assert_eq!(commit.tasks[0].state, TaskState::Accepted);
    assert_eq!(commit.receipts.len(), 1);
    assert!(broker.poll(now).is_empty());
    assert_eq!(broker.job(job).unwrap().state, JobState::Verifying);

    broker.handle(
        now,
        Event::Committed {
            job,
            number: commit.number,
        },
    );
    let [Action::JobFinished { job: finished }] = exactly(&mut broker, now) else {
        panic!()
    };
    assert_eq!(*finished, commit.job);
    assert!(broker.job(job).is_none());
}

#[test]
fn a_commit_that_fails_is_asked_for_again_with_all_it_held_and_nothing_happens_before() {
    let mut broker = Broker::new(0);
    broker.handle(
        at(0.0),
        Event::Donor {
            peer: peer(0),
            capacity: capacity(1),
        },
    );
    let job = broker
        .submit(at(0.0), manifest(1, 1, &[]), Options::default())
        .unwrap();
    let [Action::Commit(first)] = exactly(&mut broker, at(0.0)) else {
        panic!()
    };
    broker.handle(
        at(0.0),
        Event::CommitFailed {
            job,
            number: first.number,
        },
    );
    assert!(broker.poll(at(0.0)).is_empty());
    assert_eq!(broker.next_wakeup(at(0.0)), Some(Duration::from_secs(1)));
    let [Action::Commit(second)] = exactly(&mut broker, at(1.0)) else {
        panic!()
    };
    assert!(second.first);
    assert_eq!(second.tasks, first.tasks);
    broker.handle(
        at(1.0),
        Event::Committed {
            job,
            number: first.number,
        },
    );
    assert!(
        broker.poll(at(1.0)).is_empty(),
        "an old number acknowledged a new commit"
    );
    broker.handle(
        at(1.0),
        Event::Committed {
            job,
            number: second.number,
        },
    );
    assert_eq!(broker.poll(at(1.0)).len(), 2);
}

#[test]
fn many_tasks_are_stored_in_small_portions() {
    let mut desk = Desk::with_donors(4, 250);
    let job = desk.submit(manifest(1, 1_000, &[]));
    assert_eq!(desk.dispatched.len(), 1_000);
    for lease in desk.dispatched.clone() {
        desk.broker.handle(
            desk.now,
            Event::Reply {
                lease: lease.0,
                from: lease.1,
                reply: Reply::Ran(Box::new(execution(lease.0, lease.1, Status::Succeeded))),
            },
        );
    }
    desk.settle();
    assert!(
        desk.commits
            .iter()
            .all(|commit| commit.tasks.len() <= COMMIT_TASKS)
    );
    let receipts: usize = desk
        .commits
        .iter()
        .map(|commit| commit.receipts.len())
        .sum();
    assert_eq!(receipts, 1_000);
    assert_eq!(desk.finished[0].id, job);
    assert_eq!(desk.finished[0].tally.accepted, 1_000);
    let last = desk
        .commits
        .iter()
        .filter(|commit| commit.job.state.is_final())
        .count();
    assert_eq!(last, 1);
}

#[test]
fn tasks_wait_for_slots_and_follow_each_other() {
    let mut desk = Desk::with_donors(1, 2);
    let job = desk.submit(manifest(1, 3, &[]));
    assert_eq!(desk.dispatched.len(), 2);
    assert_eq!(desk.broker.job(job).unwrap().state, JobState::Dispatching);
    desk.ran(desk.dispatched[0], Status::Succeeded);
    assert_eq!(desk.dispatched.len(), 3);
    assert_eq!(desk.broker.job(job).unwrap().state, JobState::Running);
}

#[test]
fn work_spreads_over_equal_donors() {
    let mut desk = Desk::with_donors(4, 4);
    desk.submit(manifest(1, 8, &[]));
    for number in 0..4 {
        let given = desk
            .dispatched
            .iter()
            .filter(|(_, donor)| *donor == peer(number))
            .count();
        assert_eq!(given, 2);
    }
}

#[test]
fn jobs_share_the_slots_whatever_their_size() {
    let mut desk = Desk::with_donors(1, 4);
    let large = desk.submit(manifest(1, 100, &[]));
    let small = desk.submit(manifest(2, 2, &[]));
    for _ in 0..3 {
        desk.ran(
            desk.dispatched[desk.dispatched.len() - 4],
            Status::Succeeded,
        );
    }
    let given = |job| {
        desk.dispatched
            .iter()
            .filter(|(lease, _)| lease.task.job == job)
            .count()
    };
    assert_eq!((given(large), given(small)), (5, 2));
}

#[test]
fn a_job_of_long_tasks_does_not_take_the_slots_back_from_a_job_of_short_ones() {
    let mut desk = Desk::with_donors(1, 4);
    let long = desk.submit(manifest(1, 100, &[]));
    let short = desk.submit(manifest(2, 20, &[]));
    desk.ran(desk.dispatched[0], Status::Succeeded);
    desk.ran(desk.dispatched[1], Status::Succeeded);
    for _ in 0..10 {
        assert_eq!(desk.last().0.task.job, short);
        let in_flight = |job| desk.broker.job(job).unwrap().tally.in_flight;
        assert_eq!((in_flight(long), in_flight(short)), (2, 2));
        desk.ran(desk.last(), Status::Succeeded);
    }
}

#[test]
fn a_single_slot_alternates_between_jobs() {
    let mut desk = Desk::with_donors(1, 1);
    desk.submit(manifest(1, 3, &[]));
    desk.submit(manifest(2, 3, &[]));
    for _ in 0..5 {
        desk.ran(desk.last(), Status::Succeeded);
    }
    let order: Vec<_> = desk
        .dispatched
        .iter()
        .map(|(lease, _)| lease.task.job)
        .collect();
    let (a, b) = (job_id(1), job_id(2));
    assert_eq!(order, [a, b, a, b, a, b]);
}

#[test]
fn only_a_donor_that_fits_gets_the_task_and_the_job_says_why_it_waits() {
    let wants = [
        "resources: {cpu: 2, memory: 1Gi}",
        "acceptable_use_classes: [rendering, general]",
    ];
    let fits = capacity(1);
    let unfit = [
        (
            Capacity {
                classes: Classes::of(["general", "scientific"]),
                ..fits
            },
            "consented to rendering",
        ),
        (
            Capacity {
                cpu_millicores: 1_999,
                ..fits
            },
            "cores",
        ),
        (
            Capacity {
                memory_bytes: (1 << 30) - 1,
                ..fits
            },
            "memory",
        ),
        (
            Capacity {
                paused: true,
                ..fits
            },
            "paused",
        ),
        (Capacity { slots: 0, ..fits }, "busy"),
    ];
    for (capacity, reason) in unfit {
        let mut desk = Desk::new();
        desk.tell(Event::Donor {
            peer: peer(0),
            capacity,
        });
        let job = desk.submit(manifest(1, 1, &wants));
        assert!(desk.dispatched.is_empty(), "{reason}");
        let record = desk.broker.job(job).unwrap();
        assert_eq!(record.state, JobState::Queued);
        assert!(record.waiting.unwrap().contains(reason), "{reason}");
        desk.tell(Event::Donor {
            peer: peer(1),
            capacity: Capacity {
                memory_bytes: 1 << 30,
                cpu_millicores: 2_000,
                ..fits
            },
        });
        assert_eq!(desk.last().1, peer(1));
        assert_eq!(desk.broker.job(job).unwrap().waiting, None);
    }
}

#[test]
fn the_memory_of_running_tasks_is_taken() {
    let mut desk = Desk::new();
    desk.tell(Event::Donor {
        peer: peer(0),
        capacity: Capacity {
            memory_bytes: 5 << 29,
            ..capacity(8)
        },
    });
    desk.submit(manifest(1, 4, &["resources: {memory: 1Gi}"]));
    assert_eq!(desk.dispatched.len(), 2);
}

#[test]
fn a_claim_of_endless_slots_is_capped() {
    let mut desk = Desk::new();
    desk.tell(Event::Donor {
        peer: peer(0),
        capacity: Capacity {
            memory_bytes: u64::MAX,
            ..capacity(u32::MAX)
        },
    });
    desk.submit(manifest(1, MAX_SLOTS + 1, &[]));
    assert_eq!(desk.dispatched.len(), MAX_SLOTS as usize);
}

#[test]
fn a_silent_donor_gets_no_task() {
    let mut desk = Desk::with_donors(1, 1);
    desk.pass(DONOR_SILENCE.as_secs_f64() + 1.0);
    let job = desk.submit(manifest(1, 1, &[]));
    assert!(desk.dispatched.is_empty());
    assert!(
        desk.broker
            .job(job)
            .unwrap()
            .waiting
            .unwrap()
            .contains("heard")
    );
    desk.donor(0, 1);
    assert_eq!(desk.dispatched.len(), 1);
}

#[test]
fn a_job_for_one_donor_waits_for_that_donor() {
    let mut desk = Desk::with_donors(2, 1);
    let options = Options {
        donor: Some(peer(5)),
        ..Options::default()
    };
    let job = desk.submit_with(manifest(1, 1, &[]), options);
    assert!(desk.dispatched.is_empty());
    assert!(
        desk.broker
            .job(job)
            .unwrap()
            .waiting
            .unwrap()
            .contains("asked for")
    );
    desk.donor(5, 1);
    assert_eq!(desk.last().1, peer(5));
}

#[test]
fn without_donors_a_job_waits_for_ever_unless_its_patience_ends() {
    let mut desk = Desk::new();
    let patient = desk.submit(manifest(1, 1, &[]));
    let options = Options {
        patience: Some(Duration::from_secs(5)),
        ..Options::default()
    };
    let impatient = desk.submit_with(manifest(2, 1, &[]), options);
    desk.pass(4.0);
    assert!(desk.finished.is_empty());
    assert_eq!(
        desk.broker.job(patient).unwrap().waiting.as_deref(),
        Some("no donor is connected")
    );
    desk.pass(2.0);
    assert_eq!(desk.finished[0].id, impatient);
    assert_eq!(desk.finished[0].state, JobState::Failed);
    assert_eq!(desk.finished[0].fault.as_ref().unwrap().code, "WC-004");
    desk.pass(100_000.0);
    assert_eq!(desk.finished.len(), 1);
}

#[test]
fn endless_patience_is_not_too_long() {
    let mut desk = Desk::new();
    let options = Options {
        patience: Some(Duration::MAX),
        ..Options::default()
    };
    desk.submit_with(manifest(1, 1, &[]), options);
    assert_eq!(
        desk.broker.next_wakeup(desk.now),
        Some(Duration::from_secs(3_600))
    );
    desk.pass(1_000_000.0);
    assert!(desk.finished.is_empty());
}

#[test]
fn patience_does_not_run_while_a_fitting_donor_is_busy() {
    let mut desk = Desk::with_donors(1, 1);
    desk.submit(manifest(1, 1, &[]));
    let options = Options {
        patience: Some(Duration::from_secs(5)),
        ..Options::default()
    };
    desk.submit_with(manifest(2, 1, &[]), options);
    for _ in 0..20 {
        desk.pass(1.0);
        desk.donor(0, 1);
        desk.heartbeat(desk.last(), true);
    }
    assert!(desk.finished.is_empty());
}

#[test]
fn a_busy_donor_is_left_alone_longer_each_time_and_costs_no_attempt() {
    let mut desk = Desk::with_donors(1, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let mut moments = vec![];
    for _ in 0..8 {
        moments.push(desk.now.monotonic.as_secs());
        desk.reply(desk.last().0, peer(0), busy());
        let before = desk.dispatched.len();
        while desk.dispatched.len() == before {
            desk.pass(1.0);
            desk.donor(0, 1);
        }
    }
    assert_eq!(moments, [0, 1, 3, 7, 15, 31, 63, 95]);
    assert_eq!(desk.task(job, 0).leases.len(), 1);
    assert_eq!(desk.last().0.attempt, 8, "an attempt number was used twice");
}

#[test]
fn a_lost_task_goes_to_a_donor_that_has_not_had_it() {
    let mut desk = Desk::with_donors(3, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let mut tried = vec![desk.last().1];
    for _ in 0..2 {
        desk.reply(desk.last().0, desk.last().1, lost("sandbox broke"));
        tried.push(desk.last().1);
    }
    tried.sort();
    tried.dedup();
    assert_eq!(tried.len(), 3);
    assert_eq!(
        desk.task(job, 0).leases[0].reason.as_deref(),
        Some("sandbox broke")
    );
    assert_eq!(desk.task(job, 0).leases[0].state, LeaseState::Released);
}

#[test]
fn a_task_whose_leases_expire_goes_round_all_donors_before_any_gets_it_again() {
    let mut desk = Desk::with_donors(6, 1);
    desk.submit(manifest(1, 1, &[]));
    for _ in 0..5 {
        (0..6).for_each(|number| desk.donor(number, 1));
        desk.pass(31.0);
    }
    let mut donors: Vec<_> = desk.dispatched.iter().map(|(_, donor)| *donor).collect();
    donors.sort();
    donors.dedup();
    assert_eq!((desk.dispatched.len(), donors.len()), (6, 6));
}

#[test]
fn a_task_that_is_lost_too_often_fails_and_says_by_whom() {
    let mut desk = Desk::with_donors(1, 1);
    desk.submit(manifest(1, 1, &[]));
    for _ in 0..MAX_ATTEMPTS {
        assert!(desk.finished.is_empty());
        let count = desk.dispatched.len();
        desk.reply(desk.last().0, desk.last().1, lost("power cut"));
        for _ in 0..40 {
            if desk.dispatched.len() == count {
                desk.donor(0, 1);
                desk.pass(1.0);
            }
        }
    }
    assert_eq!(desk.dispatched.len(), MAX_ATTEMPTS);
    let fault = desk.finished[0].fault.as_ref().unwrap();
    assert_eq!(fault.code, "WC-016");
    assert_eq!(fault.detail.matches("power cut").count(), MAX_ATTEMPTS);
    assert!(fault.detail.contains(&peer(0).to_string()));
}

#[test]
fn three_donors_that_decline_end_the_job_with_all_their_reasons() {
    let mut desk = Desk::with_donors(5, 1);
    desk.submit(manifest(1, 1, &[]));
    for reason in ["policy_blocked", "no kvm", "no such class"] {
        assert!(desk.finished.is_empty());
        desk.reply(desk.last().0, desk.last().1, declined(reason));
    }
    assert_eq!(desk.dispatched.len(), MAX_REFUSING_DONORS);
    let record = &desk.finished[0];
    assert_eq!((record.state, record.tally.failed), (JobState::Failed, 1));
    let fault = record.fault.as_ref().unwrap();
    assert_eq!(fault.code, "WC-004");
    for reason in ["policy_blocked", "no kvm", "no such class"] {
        assert!(fault.detail.contains(reason), "{}", fault.detail);
    }
}

#[test]
fn a_donor_that_declined_is_not_asked_again_by_the_same_job() {
    let mut desk = Desk::with_donors(1, 4);
    let job = desk.submit(manifest(1, 10, &[]));
    for lease in desk.dispatched.clone() {
        desk.reply(lease.0, lease.1, declined("not this"));
    }
    desk.donor(0, 4);
    desk.pass(100.0);
    assert_eq!(desk.dispatched.len(), 4);
    assert!(
        desk.broker
            .job(job)
            .unwrap()
            .waiting
            .unwrap()
            .contains("declined")
    );
    desk.submit(manifest(2, 1, &[]));
    assert_eq!(desk.last().0.task.job, job_id(2));
}

#[test]
fn donors_that_decline_do_not_end_a_job_that_others_run() {
    let mut desk = Desk::with_donors(4, 1);
    let job = desk.submit(manifest(1, 12, &[]));
    desk.ran(desk.dispatched[0], Status::Succeeded);
    let worker = desk.dispatched[0].1;
    for lease in desk
        .dispatched
        .clone()
        .into_iter()
        .filter(|(_, donor)| *donor != worker)
    {
        desk.reply(lease.0, lease.1, declined("no"));
    }
    assert!(desk.finished.is_empty());
    while desk.broker.job(job).is_some() {
        desk.ran(desk.last(), Status::Succeeded);
    }
    assert_eq!(desk.finished[0].state, JobState::Completed);
}

#[test]
fn a_program_that_fails_is_the_jobs_failure_and_is_not_run_again() {
    let statuses = [
        (Status::Failed, "task_failed"),
        (Status::Trapped, "task_failed"),
        (Status::OutOfFuel, "task_failed"),
        (Status::OutOfMemory, "task_failed"),
        (Status::OutputLimit, "task_failed"),
        (Status::TimedOut, "WC-017"),
    ];
    for (status, code) in statuses {
        let mut desk = Desk::with_donors(3, 1);
        desk.submit(manifest(1, 1, &[]));
        desk.ran(desk.last(), status);
        assert_eq!(desk.dispatched.len(), 1);
        assert_eq!(desk.finished[0].state, JobState::Failed);
        let fault = desk.finished[0].fault.as_ref().unwrap();
        assert_eq!(fault.code, code);
        assert!(fault.detail.contains("it went wrong"));
        let commit = desk.commits.last().unwrap();
        assert_eq!(commit.receipts.len(), 1, "the receipt of a failure is kept");
        assert_eq!(commit.tasks[0].fault, desk.finished[0].fault);
    }
}

#[test]
fn a_run_the_donor_stopped_is_tried_elsewhere() {
    let mut desk = Desk::with_donors(2, 1);
    desk.submit(manifest(1, 1, &[]));
    desk.ran(desk.last(), Status::Cancelled);
    assert_eq!(desk.dispatched.len(), 2);
    assert_ne!(desk.dispatched[0].1, desk.dispatched[1].1);
}

#[test]
fn one_failed_task_leaves_its_siblings_running_and_too_many_stop_them() {
    let mut desk = Desk::with_donors(1, 1);
    let job = desk.submit(manifest(1, 40, &[]));
    desk.ran(desk.last(), Status::Succeeded);
    for failed in 1..=MAX_FAILED_TASKS {
        assert_eq!(desk.broker.job(job).unwrap().tally.failed, failed - 1);
        desk.ran(desk.last(), Status::Trapped);
    }
    let record = &desk.finished[0];
    assert_eq!(record.state, JobState::Failed);
    assert_eq!(record.tally.accepted, 1);
    assert_eq!(record.tally.failed, MAX_FAILED_TASKS);
    assert_eq!(record.tally.cancelled, 40 - 1 - MAX_FAILED_TASKS);
    assert!(
        record
            .fault
            .as_ref()
            .unwrap()
            .detail
            .contains("16 tasks failed")
    );
}

#[test]
fn a_job_with_a_failed_task_is_failed_in_the_end() {
    let mut desk = Desk::with_donors(1, 2);
    desk.submit(manifest(1, 2, &[]));
    desk.ran(desk.dispatched[0], Status::Failed);
    assert!(desk.finished.is_empty());
    desk.ran(desk.dispatched[1], Status::Succeeded);
    let record = &desk.finished[0];
    assert_eq!(
        (record.state, record.tally.accepted, record.tally.failed),
        (JobState::Failed, 1, 1)
    );
}

#[test]
fn a_donor_that_goes_down_loses_its_tasks_to_others_at_once() {
    let mut desk = Desk::with_donors(2, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let (first, dead) = desk.last();
    desk.pass(5.0);
    desk.tell(Event::DonorDown { peer: dead });
    let (second, heir) = desk.last();
    assert_ne!(dead, heir);
    assert_eq!(second.attempt, first.attempt + 1);
    let old = desk.task(job, 0).leases[0].clone();
    assert_eq!((old.id, old.state), (first, LeaseState::Superseded));

    desk.tell(Event::Donor {
        peer: dead,
        capacity: capacity(1),
    });
    desk.ran((first, dead), Status::Succeeded);
    assert!(desk.finished.is_empty(), "a superseded lease was settled");
    desk.ran((second, heir), Status::Succeeded);
    assert_eq!(desk.finished.len(), 1);
    let receipts: Vec<_> = desk
        .commits
        .iter()
        .flat_map(|commit| &commit.receipts)
        .collect();
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].lease, second);
}

#[test]
fn a_donor_that_comes_back_before_anyone_took_its_task_goes_on_under_the_same_lease() {
    let mut desk = Desk::with_donors(1, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let lease = desk.last();
    desk.tell(Event::DonorDown { peer: lease.1 });
    desk.pass(20.0);
    assert_eq!(desk.dispatched.len(), 1);
    desk.donor(0, 1);
    assert_eq!(desk.dispatched, [lease, lease]);
    assert_eq!(desk.task(job, 0).leases.len(), 1);
    desk.ran(lease, Status::Succeeded);
    assert_eq!(desk.finished[0].state, JobState::Completed);
}

#[test]
fn a_donor_that_stays_away_longer_than_a_lease_gets_a_new_one() {
    let mut desk = Desk::with_donors(1, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let lease = desk.last();
    desk.tell(Event::DonorDown { peer: lease.1 });
    desk.pass(31.0);
    assert_eq!(desk.task(job, 0).leases[0].state, LeaseState::Expired);
    desk.donor(0, 1);
    assert_eq!(desk.last().0.attempt, 1);
    desk.ran(lease, Status::Succeeded);
    assert!(desk.finished.is_empty());
}

#[test]
fn heartbeats_keep_a_lease_alive_and_silence_ends_it_after_its_ttl() {
    let mut desk = Desk::with_donors(2, 1);
    let job = desk.submit(manifest(1, 1, &["max_wall_time: 1h"]));
    let lease = desk.last();
    for _ in 0..20 {
        desk.pass(9.0);
        desk.heartbeat(lease, true);
    }
    assert_eq!(desk.dispatched.len(), 1);
    assert_eq!(desk.task(job, 0).state, TaskState::Running);
    assert_eq!(desk.broker.job(job).unwrap().state, JobState::Running);
    assert!(desk.asked.len() >= 18);
    desk.pass(29.9);
    assert_eq!(desk.dispatched.len(), 1);
    desk.pass(0.1);
    assert_eq!(desk.dispatched.len(), 2);
    assert_eq!(desk.stopped, [lease.0]);
    assert_eq!(desk.task(job, 0).leases[0].state, LeaseState::Expired);
}

#[test]
fn questions_come_at_least_every_ten_seconds() {
    let mut desk = Desk::with_donors(1, 1);
    desk.submit(manifest(1, 1, &[]));
    let lease = desk.last();
    for second in 1..=100 {
        desk.pass(1.0);
        desk.heartbeat(lease, true);
        assert!(
            desk.asked.len() > (second - 1) / 10,
            "second {second}: {}",
            desk.asked.len()
        );
    }
}

#[test]
fn a_donor_that_confirms_for_ever_without_answering_is_given_up_after_the_tasks_time() {
    let mut desk = Desk::with_donors(2, 1);
    desk.submit(manifest(1, 1, &["max_wall_time: 10s"]));
    let lease = desk.last();
    for _ in 0..61 {
        assert_eq!(desk.dispatched.len(), 1);
        desk.pass(10.0);
        desk.heartbeat(lease, true);
    }
    assert_eq!(desk.dispatched.len(), 2);
}

#[test]
fn a_donor_that_knows_nothing_of_a_confirmed_task_loses_it_within_seconds() {
    let mut desk = Desk::with_donors(2, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let lease = desk.last();
    desk.pass(2.0);
    desk.heartbeat(lease, false);
    desk.pass(6.0);
    assert_eq!(
        desk.dispatched.len(),
        1,
        "the question may have overtaken the task"
    );
    desk.heartbeat(lease, true);
    desk.heartbeat(lease, false);
    desk.pass(4.0);
    assert_eq!(desk.dispatched.len(), 1, "the answer may be on its way");
    desk.pass(1.0);
    assert_eq!(desk.dispatched.len(), 2);
    let reason = desk.task(job, 0).leases[0].reason.as_deref();
    assert_eq!(reason, Some("the donor knows nothing of the task"));
}

#[test]
fn an_answer_that_was_on_its_way_when_the_donor_had_forgotten_the_task_counts() {
    let mut desk = Desk::with_donors(2, 1);
    desk.submit(manifest(1, 1, &[]));
    let lease = desk.last();
    desk.heartbeat(lease, true);
    desk.heartbeat(lease, false);
    desk.pass(3.0);
    desk.ran(lease, Status::Succeeded);
    assert_eq!(desk.finished[0].state, JobState::Completed);
    assert_eq!(desk.dispatched.len(), 1);
}

#[test]
fn a_lost_answer_is_asked_for_again_under_the_same_lease() {
    let mut desk = Desk::with_donors(2, 1);
    let job = desk.submit(manifest(1, 1, &["max_wall_time: 7d"]));
    let lease = desk.last();
    for _ in 0..50 {
        for _ in 0..60 {
            desk.pass(10.0);
            desk.heartbeat(lease, true);
        }
        desk.reply(lease.0, lease.1, unreachable());
        desk.pass(2.0);
    }
    assert!(desk.dispatched.iter().all(|again| *again == lease));
    assert_eq!(desk.dispatched.len(), 51);
    assert_eq!(desk.task(job, 0).leases.len(), 1);
}

#[test]
fn answers_that_get_lost_again_and_again_end_the_lease() {
    let mut desk = Desk::with_donors(2, 1);
    desk.submit(manifest(1, 1, &[]));
    let lease = desk.last();
    for _ in 0..3 {
        desk.reply(lease.0, lease.1, unreachable());
        desk.pass(1.0);
    }
    assert_eq!(desk.dispatched[..3], [lease, lease, lease]);
    assert_ne!(desk.last().1, lease.1);
}

#[test]
fn replies_of_strangers_copies_and_contradictions_change_nothing() {
    let mut desk = Desk::with_donors(2, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let (lease, donor) = desk.last();
    let other = [peer(0), peer(1)]
        .into_iter()
        .find(|each| *each != donor)
        .unwrap();
    let unknown = LeaseId {
        attempt: 9,
        ..lease
    };
    let foreign =
        |lease, executor| Reply::Ran(Box::new(execution(lease, executor, Status::Succeeded)));
    desk.reply(lease, other, foreign(lease, other));
    desk.reply(lease, other, lost("let me have it"));
    desk.reply(lease, donor, foreign(lease, other));
    desk.reply(lease, donor, foreign(unknown, donor));
    desk.reply(unknown, donor, foreign(unknown, donor));
    desk.heartbeat((lease, other), false);
    assert_eq!(desk.task(job, 0).state, TaskState::Dispatched);
    desk.ran((lease, donor), Status::Succeeded);
    desk.ran((lease, donor), Status::Succeeded);
    desk.ran((lease, donor), Status::Failed);
    assert_eq!(desk.finished.len(), 1);
    assert_eq!(desk.finished[0].state, JobState::Completed);
}

#[test]
fn a_second_answer_while_the_first_is_being_stored_changes_nothing() {
    let mut broker = Broker::new(0);
    broker.handle(
        at(0.0),
        Event::Donor {
            peer: peer(0),
            capacity: capacity(1),
        },
    );
    let job = broker
        .submit(at(0.0), manifest(1, 1, &[]), Options::default())
        .unwrap();
    broker.poll(at(0.0));
    broker.handle(at(0.0), Event::Committed { job, number: 1 });
    broker.poll(at(0.0));
    let lease = broker.tasks(job).unwrap()[0].active_lease().unwrap().id;
    let ran = |status| Event::Reply {
        lease,
        from: peer(0),
        reply: Reply::Ran(Box::new(execution(lease, peer(0), status))),
    };
    broker.handle(at(0.0), ran(Status::Succeeded));
    let [Action::Commit(commit)] = exactly(&mut broker, at(0.0)) else {
        panic!()
    };
    broker.handle(at(0.0), ran(Status::Failed));
    broker.handle(
        at(0.0),
        Event::Reply {
            lease,
            from: peer(0),
            reply: lost("changed my mind"),
        },
    );
    broker.handle(at(0.0), Event::DonorDown { peer: peer(0) });
    assert!(broker.poll(at(100.0)).is_empty());
    broker.handle(
        at(100.0),
        Event::Committed {
            job,
            number: commit.number,
        },
    );
    let [Action::JobFinished { job }] = exactly(&mut broker, at(100.0)) else {
        panic!()
    };
    assert_eq!(job.state, JobState::Completed);
}

#[test]
fn cancelling_stops_what_runs_and_keeps_what_is_done() {
    let mut desk = Desk::with_donors(1, 2);
    let job = desk.submit(manifest(1, 5, &[]));
    desk.ran(desk.dispatched[0], Status::Succeeded);
    desk.broker
        .cancel(desk.now, job, "no longer\nneeded")
        .unwrap();
    desk.settle();
    let record = &desk.finished[0];
    assert_eq!(
        (record.state, record.tally.accepted, record.tally.cancelled),
        (JobState::Cancelled, 1, 4)
    );
    assert_eq!(
        record.fault.as_ref().unwrap().detail,
        "cancelled: no longer needed"
    );
    assert_eq!(desk.stopped.len(), 2);
    assert_eq!(
        desk.broker
            .cancel(desk.now, job, "again")
            .unwrap_err()
            .number(),
        Some(WcCode::NotFound)
    );
    assert!(desk.broker.leases.is_empty());
}

#[test]
fn a_job_past_its_deadline_fails_by_the_clock_on_the_wall() {
    let deadline = ["deadline: 2026-01-01T00:01:00Z"];
    let mut desk = Desk::with_donors(1, 1);
    desk.submit(manifest(1, 2, &deadline));
    desk.pass(59.0);
    assert!(desk.finished.is_empty());
    desk.pass(1.0);
    assert_eq!(desk.finished[0].fault.as_ref().unwrap().code, "WC-017");
    let late = desk
        .broker
        .submit(desk.now, manifest(2, 1, &deadline), Options::default());
    assert_eq!(late.unwrap_err().number(), Some(WcCode::DeadlineExceeded));
}

#[test]
fn a_jump_of_the_clock_on_the_wall_does_not_touch_leases() {
    let mut desk = Desk::with_donors(2, 1);
    let job = desk.submit(manifest(1, 1, &[]));
    let year = jiff::SignedDuration::from_hours(24 * 365);
    for wall in [desk.now.wall + year, desk.now.wall - year] {
        desk.now.wall = wall;
        desk.settle();
        assert_eq!(desk.dispatched.len(), 1);
    }
    assert!(desk.task(job, 0).active_lease().is_some());
}

#[test]
fn jobs_donors_and_words_are_bounded() {
    let mut desk = Desk::new();
    for number in 0..MAX_OPEN_JOBS as u64 {
        desk.broker
            .submit(desk.now, manifest(number, 1, &[]), Options::default())
            .unwrap();
    }
    let one_more = manifest(MAX_OPEN_JOBS as u64, 1, &[]);
    let refused = desk.broker.submit(desk.now, one_more, Options::default());
    assert_eq!(refused.unwrap_err().number(), Some(WcCode::RateLimited));
    let again = desk
        .broker
        .submit(desk.now, manifest(0, 1, &[]), Options::default());
    assert_eq!(again.unwrap_err().number(), Some(WcCode::AlreadyExists));
    assert_eq!(
        job::bounded(&"é\u{7}".repeat(1_000)).len() / 3,
        MAX_REASON_BYTES / 3
    );
    assert!(!job::bounded("a\nb\u{1b}").contains(char::is_control));
}

#[test]
fn a_flood_of_donors_displaces_the_longest_silent_idle_one_and_no_working_one() {
    let peer = |number: u32| {
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        worldcompute_proof::SigningKey::from_seed(seed).peer_id()
    };
    let mut donors = Donors::default();
    let lease = LeaseId {
        task: crate::TaskId {
            job: job_id(1),
            index: 0,
        },
        replica: 0,
        attempt: 0,
    };
    for number in 0..MAX_DONORS as u32 {
        donors.seen(
            Duration::from_secs(number.into()),
            peer(number),
            capacity(1),
        );
    }
    donors.occupy(peer(0), lease, 1);
    donors.seen(Duration::from_secs(1 << 20), peer(u32::MAX), capacity(1));
    assert_eq!(donors.occupation().len(), MAX_DONORS);
    assert!(donors.is_up(peer(0)) && !donors.is_up(peer(1)) && donors.is_up(peer(u32::MAX)));
}

/// What [`crate::records`] would read back.
fn stored(desk: &Desk, manifest: &Arc<VerifiedManifest>) -> StoredJob {
    let mut tasks = std::collections::BTreeMap::new();
    for task in desk.commits.iter().flat_map(|commit| &commit.tasks) {
        tasks.insert(task.index, task.clone());
    }
    let last = desk.commits.last().unwrap();
    StoredJob {
        job: last.job.clone(),
        manifest: manifest.clone(),
        options: last.options,
        tasks: tasks.into_values().collect(),
    }
}

#[test]
fn a_restored_job_keeps_what_was_accepted_and_asks_live_leases_again() {
    let manifest = manifest(1, 3, &[]);
    let mut before = Desk::with_donors(2, 1);
    let job = before.submit(manifest.clone());
    before.ran(before.dispatched[0], Status::Succeeded);
    let live: Vec<_> = before.dispatched[1..].to_vec();
    assert_eq!(live.len(), 2);

    let mut after = Desk::new();
    after.now = at(500.0);
    after
        .broker
        .restore(after.now, stored(&before, &manifest))
        .unwrap();
    after.settle();
    assert!(after.submitted.is_empty(), "a job was acknowledged twice");
    assert!(after.dispatched.is_empty());
    after.donor(0, 1);
    after.donor(1, 1);
    after.donor(2, 9);
    let mut again = after.dispatched.clone();
    again.sort();
    assert_eq!(again, {
        let mut live = live.clone();
        live.sort();
        live
    });
    for lease in live {
        after.ran(lease, Status::Succeeded);
    }
    assert_eq!(after.finished[0].id, job);
    assert_eq!(after.finished[0].tally.accepted, 3);
    assert_eq!(
        after
            .commits
            .iter()
            .map(|commit| commit.receipts.len())
            .sum::<usize>(),
        2
    );
}

#[test]
fn a_restored_lease_whose_donor_stays_away_expires_and_goes_to_another() {
    let manifest = manifest(1, 1, &[]);
    let mut before = Desk::with_donors(1, 1);
    before.submit(manifest.clone());
    let mut after = Desk::new();
    after
        .broker
        .restore(after.now, stored(&before, &manifest))
        .unwrap();
    after.donor(3, 1);
    after.pass(29.0);
    assert!(after.dispatched.is_empty());
    after.pass(2.0);
    assert_eq!(
        after.last(),
        (
            LeaseId {
                attempt: 1,
                ..before.last().0
            },
            peer(3)
        )
    );
}

#[test]
fn a_cancellation_that_was_under_way_is_finished_after_a_restart() {
    let manifest = manifest(1, 200, &[]);
    let mut before = Desk::with_donors(1, 200);
    let job = before.submit(manifest.clone());
    before.broker.cancel(before.now, job, "enough").unwrap();
    let Action::Commit(first) = before.broker.poll(before.now).pop().unwrap() else {
        panic!()
    };
    assert!(
        !first.job.state.is_final(),
        "it takes more than one portion"
    );
    before.commits.push(*first);

    let mut after = Desk::with_donors(1, 200);
    after
        .broker
        .restore(after.now, stored(&before, &manifest))
        .unwrap();
    after.settle();
    assert!(after.dispatched.is_empty());
    assert_eq!(after.finished[0].state, JobState::Cancelled);
    assert_eq!(after.finished[0].tally.cancelled, 200);
}

#[test]
fn records_that_contradict_the_manifest_are_refused() {
    let manifest = manifest(1, 2, &[]);
    let mut before = Desk::with_donors(1, 1);
    before.submit(manifest.clone());
    let good = stored(&before, &manifest);
    let refused = |change: fn(&mut StoredJob)| {
        let mut stored = good.clone();
        change(&mut stored);
        let fault = Broker::new(0).restore(at(0.0), stored).unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::Internal));
    };
    refused(|stored| stored.tasks[0].index = 2);
    refused(|stored| stored.tasks[0].index = 1);
    refused(|stored| stored.tasks[0].next_attempt = 0);
    refused(|stored| stored.job.id = job_id(2));
    refused(|stored| stored.tasks.push(stored.tasks[0].clone()));
    refused(|stored| stored.tasks[0] = TaskRecord::untouched(1));
    assert!(Broker::new(0).restore(at(0.0), good.clone()).is_ok());
}

#[test]
fn the_same_seed_and_events_give_the_same_choices() {
    let run = || {
        let mut desk = Desk::with_donors(5, 3);
        desk.submit(manifest(1, 12, &[]));
        desk.dispatched
    };
    assert_eq!(run(), run());
}
