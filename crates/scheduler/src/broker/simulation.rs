//! The broker in a hostile world: donors die, come back, lie about their room, answer late, twice or never; the store
//! fails; the broker itself is killed; the clock on the wall jumps. Everything follows from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;
use worldcompute_ledger::receipt::Status;
use worldcompute_proof::PeerId;

use super::fixture::{at, capacity, execution, manifest, peer};
use super::*;
use crate::manifest::VerifiedManifest;
use crate::{LeaseState, Tally, TaskId, TaskState};

/// A world that has not come to rest after two days never will.
const END_OF_TIME: Duration = Duration::from_secs(2 * 24 * 3_600);

/// xorshift64*: enough to vary a test.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }

    /// Once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.roll(times) == 0
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.roll(most) + 1)
    }
}

#[derive(Clone, Debug)]
enum Happening {
    /// The broker hears this, if it is still the same broker.
    Told(u32, Box<Event>),
    /// The store is done with a commit.
    Stored(u32, Box<Commit>),
    /// A donor gets a task.
    Asked {
        donor: usize,
        lease: LeaseId,
    },
    /// A donor finishes a run it began in this life.
    Done {
        donor: usize,
        life: u32,
        lease: LeaseId,
    },
    Questioned {
        donor: usize,
        lease: LeaseId,
    },
    Announce {
        donor: usize,
    },
    Dies {
        donor: usize,
    },
    Returns {
        donor: usize,
    },
    BrokerDies,
}

/// Total order by time, then by arrival.
struct Queued(Duration, u64, Happening);

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct Donor {
    peer: PeerId,
    slots: u32,
    up: bool,
    life: u32,
    /// Declines whatever it is given.
    unwilling: bool,
    running: BTreeSet<LeaseId>,
    /// Results survive a death.
    results: BTreeMap<LeaseId, Status>,
}

struct World {
    dice: Dice,
    broker: Broker,
    /// Which broker this is: what was meant for an earlier one gets lost.
    reign: u32,
    time: Duration,
    wall_offset: SignedDuration,
    queue: BinaryHeap<Reverse<Queued>>,
    arrivals: u64,
    donors: Vec<Donor>,
    manifests: BTreeMap<JobId, Arc<VerifiedManifest>>,
    /// Which tasks are impossible.
    poison: u64,
    stored: BTreeMap<JobId, StoredJob>,
    acknowledged: BTreeSet<JobId>,
    lease_owner: BTreeMap<LeaseId, PeerId>,
    settled: BTreeMap<TaskId, LeaseId>,
    finished: BTreeMap<JobId, JobRecord>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed | 1);
        let donors = (0..1 + dice.roll(5) as u8)
            .map(|number| Donor {
                peer: peer(number),
                slots: 1 + dice.roll(4) as u32,
                up: false,
                life: 0,
                unwilling: number > 0 && dice.once_in(6),
                running: BTreeSet::new(),
                results: BTreeMap::new(),
            })
            .collect();
        let poison = if dice.once_in(2) {
            u64::MAX
        } else {
            2 + dice.roll(20)
        };
        Self {
            broker: Broker::new(seed),
            reign: 0,
            time: Duration::ZERO,
            wall_offset: SignedDuration::ZERO,
            queue: BinaryHeap::new(),
            arrivals: 0,
            donors,
            manifests: BTreeMap::new(),
            poison,
            stored: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            lease_owner: BTreeMap::new(),
            settled: BTreeMap::new(),
            finished: BTreeMap::new(),
            dice,
        }
    }

    fn now(&self) -> Now {
        let wall = at(self.time.as_secs_f64()).wall + self.wall_offset;
        Now {
            monotonic: self.time,
            wall,
        }
    }

    fn later(&mut self, delay: Duration, happening: Happening) {
        self.arrivals += 1;
        self.queue
            .push(Reverse(Queued(self.time + delay, self.arrivals, happening)));
    }

    fn tell(&mut self, event: Event) {
        let delay = self.dice.millis(300);
        self.later(delay, Happening::Told(self.reign, Box::new(event.clone())));
        if self.dice.once_in(10) {
            let delay = self.dice.millis(60_000);
            self.later(delay, Happening::Told(self.reign, Box::new(event)));
        }
    }

    fn submit_jobs(&mut self) {
        for number in 0..1 + self.dice.roll(3) {
            let tasks = 1 + self.dice.roll(25) as u32;
            let manifest = manifest(number, tasks, &["max_wall_time: 1h"]);
            let id = self
                .broker
                .submit(self.now(), manifest.clone(), Options::default())
                .unwrap();
            self.manifests.insert(id, manifest);
        }
    }

    fn run(mut self) {
        self.submit_jobs();
        for donor in 0..self.donors.len() {
            let delay = self.dice.millis(5_000);
            self.later(delay, Happening::Returns { donor });
        }
        if self.dice.once_in(3) {
            let delay = self.dice.millis(120_000);
            self.later(delay, Happening::BrokerDies);
        }
        self.act();
        while self.finished.len() < self.manifests.len() {
            self.step();
            assert!(
                self.time < END_OF_TIME,
                "unfinished: {:?}",
                self.broker.jobs().collect::<Vec<_>>()
            );
        }
        self.check_end();
    }

    fn step(&mut self) {
        let wakeup = self.broker.next_wakeup(self.now());
        let next = self.queue.peek().map(|Reverse(queued)| queued.0);
        match (wakeup, next) {
            (Some(wakeup), next) if next.is_none_or(|next| wakeup < next) => {
                assert!(
                    wakeup > self.time,
                    "woken at {wakeup:?} again at {:?}",
                    self.time
                );
                self.time = wakeup;
            }
            (_, Some(_)) => {
                let Reverse(Queued(time, _, happening)) = self.queue.pop().unwrap();
                self.time = time;
                self.happen(happening);
            }
            (_, None) => panic!(
                "nothing will ever happen: {:?}",
                self.broker.jobs().collect::<Vec<_>>()
            ),
        }
        if self.dice.once_in(50) {
            self.wall_offset =
                SignedDuration::from_secs(self.dice.roll(1 << 24) as i64 - (1 << 23));
        }
        self.act();
        self.check_invariants();
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Told(reign, event) if reign == self.reign => {
                self.broker.handle(self.now(), *event)
            }
            Happening::Told(..) => {}
            Happening::Stored(reign, commit) => self.store(reign, *commit),
            Happening::Asked { donor, lease } => self.asked(donor, lease),
            Happening::Done { donor, life, lease } => self.done(donor, life, lease),
            Happening::Questioned { donor, lease } => self.questioned(donor, lease),
            Happening::Announce { donor } => self.announce(donor),
            Happening::Dies { donor } => self.dies(donor),
            Happening::Returns { donor } => self.returns(donor),
            Happening::BrokerDies => self.broker_dies(),
        }
    }

    fn act(&mut self) {
        for action in self.broker.poll(self.now()) {
            match action {
                Action::Commit(commit) => {
                    let delay = self.dice.millis(50);
                    self.later(delay, Happening::Stored(self.reign, commit));
                }
                Action::Submitted { job } => {
                    assert!(
                        self.stored.contains_key(&job),
                        "acknowledged before it was stored"
                    );
                    self.acknowledged.insert(job);
                }
                Action::Dispatch { lease, donor, .. } => self.dispatch(lease, donor),
                Action::Heartbeat { lease, donor } => {
                    let delay = self.dice.millis(300);
                    let donor = self.index_of(donor);
                    if !self.dice.once_in(15) {
                        self.later(delay, Happening::Questioned { donor, lease });
                    }
                }
                Action::CancelLease { lease, donor } => {
                    let donor = self.index_of(donor);
                    self.donors[donor].running.remove(&lease);
                }
                Action::JobFinished { job } => {
                    assert!(
                        self.finished.insert(job.id, *job).is_none(),
                        "finished twice"
                    );
                }
            }
        }
    }

    fn dispatch(&mut self, lease: LeaseId, donor: PeerId) {
        let owner = *self.lease_owner.entry(lease).or_insert(donor);
        assert_eq!(owner, donor, "lease {lease} belongs to two donors");
        let granted = self.stored[&lease.task.job]
            .tasks
            .iter()
            .find(|task| task.index == lease.task.index);
        let durable = granted.is_some_and(|task| task.leases.iter().any(|each| each.id == lease));
        assert!(durable, "lease {lease} was sent before it was stored");
        assert!(
            !self.settled.contains_key(&lease.task),
            "task {} is done and was sent again",
            lease.task
        );
        let delay = self.dice.millis(300);
        let donor = self.index_of(donor);
        self.later(delay, Happening::Asked { donor, lease });
    }

    fn index_of(&self, peer: PeerId) -> usize {
        self.donors
            .iter()
            .position(|donor| donor.peer == peer)
            .unwrap()
    }

    fn asked(&mut self, at: usize, lease: LeaseId) {
        let odds = self.dice.roll(100);
        // The first donor is the one that stays: it may be slow to be reached, but it is willing and goes on.
        let steady = at == 0;
        let donor = &mut self.donors[at];
        let from = donor.peer;
        let reply = if !donor.up {
            Some(Reply::Unreachable {
                reason: "no route".into(),
            })
        } else if let Some(status) = donor.results.get(&lease) {
            Some(Reply::Ran(Box::new(execution(lease, from, *status))))
        } else if donor.unwilling {
            Some(Reply::Declined {
                reason: "no".into(),
            })
        } else if odds < 5 {
            Some(Reply::Busy {
                reason: "full".into(),
            })
        } else if odds < 10 && !steady {
            Some(Reply::Lost {
                reason: "sandbox broke".into(),
            })
        } else {
            None
        };
        match reply {
            Some(reply) => self.tell(Event::Reply { lease, from, reply }),
            None => self.begin(at, lease),
        }
    }

    fn begin(&mut self, at: usize, lease: LeaseId) {
        let life = self.donors[at].life;
        if self.donors[at].running.insert(lease) {
            let time = if self.dice.once_in(20) {
                self.dice.millis(900_000)
            } else {
                self.dice.millis(20_000)
            };
            self.later(
                time,
                Happening::Done {
                    donor: at,
                    life,
                    lease,
                },
            );
        }
    }

    fn done(&mut self, at: usize, life: u32, lease: LeaseId) {
        let status = if self.is_poison(lease.task) {
            Status::Trapped
        } else {
            Status::Succeeded
        };
        let donor = &mut self.donors[at];
        if donor.life != life || !donor.running.remove(&lease) {
            return;
        }
        donor.results.insert(lease, status);
        let from = donor.peer;
        let reply = match self.dice.roll(20) {
            0 => Reply::Unreachable {
                reason: "stream reset".into(),
            },
            // Nobody hears of it, until the donor is asked again or its lease expires.
            1 => return,
            _ => Reply::Ran(Box::new(execution(lease, from, status))),
        };
        self.tell(Event::Reply { lease, from, reply });
    }

    fn is_poison(&self, task: TaskId) -> bool {
        (u64::from(task.index) + 1).is_multiple_of(self.poison)
    }

    fn questioned(&mut self, at: usize, lease: LeaseId) {
        let donor = &self.donors[at];
        if donor.up {
            let known = donor.running.contains(&lease) || donor.results.contains_key(&lease);
            self.tell(Event::Heartbeat {
                lease,
                from: donor.peer,
                known,
                fetched: 0,
            });
        }
    }

    fn announce(&mut self, at: usize) {
        let donor = &self.donors[at];
        if donor.up {
            let capacity = Capacity {
                paused: at > 0 && self.dice.once_in(10),
                ..capacity(donor.slots)
            };
            self.tell(Event::Donor {
                peer: donor.peer,
                capacity,
            });
            self.later(Duration::from_secs(25), Happening::Announce { donor: at });
        }
    }

    fn dies(&mut self, at: usize) {
        let donor = &mut self.donors[at];
        if !std::mem::replace(&mut donor.up, false) {
            return;
        }
        donor.life += 1;
        donor.running.clear();
        let peer = donor.peer;
        // Sometimes nobody notices.
        if !self.dice.once_in(4) {
            self.tell(Event::DonorDown { peer });
        }
        let away = self.dice.millis(200_000);
        self.later(away, Happening::Returns { donor: at });
    }

    fn returns(&mut self, at: usize) {
        self.donors[at].up = true;
        self.announce(at);
        if at > 0 {
            let life = self.dice.millis(400_000);
            self.later(life, Happening::Dies { donor: at });
        }
    }

    fn broker_dies(&mut self) {
        self.reign += 1;
        self.broker = Broker::new(self.dice.roll(u64::MAX));
        for job in self.acknowledged.iter() {
            assert!(
                self.stored.contains_key(job),
                "an acknowledged job was lost"
            );
        }
        // A submission that was never acknowledged is submitted again.
        let now = self.now();
        for (id, manifest) in &self.manifests {
            match self.stored.get(id) {
                None => {
                    let manifest = manifest.clone();
                    self.broker
                        .submit(now, manifest, Options::default())
                        .unwrap();
                }
                Some(stored) if stored.job.state.is_final() => {
                    self.finished.entry(*id).or_insert(stored.job.clone());
                }
                Some(stored) => {
                    self.broker.restore(now, stored.clone()).unwrap();
                }
            }
        }
        for donor in 0..self.donors.len() {
            self.announce(donor);
        }
        if self.dice.once_in(2) {
            let delay = self.dice.millis(300_000);
            self.later(delay, Happening::BrokerDies);
        }
    }

    fn store(&mut self, reign: u32, commit: Commit) {
        let (job, number) = (commit.job.id, commit.number);
        // Whoever asked is gone: it happened or it did not.
        if (reign != self.reign && self.dice.once_in(2))
            || (reign == self.reign && self.dice.once_in(12))
        {
            self.later(
                Duration::from_millis(1),
                Happening::Told(reign, Box::new(Event::CommitFailed { job, number })),
            );
            return;
        }
        if reign != self.reign {
            return;
        }
        assert_eq!(
            commit.first,
            !self.stored.contains_key(&job),
            "a job was stored first twice"
        );
        assert!(commit.tasks.len() <= COMMIT_TASKS);
        self.check_receipts(&commit);
        let stored = self.stored.entry(job).or_insert_with(|| StoredJob {
            job: commit.job.clone(),
            manifest: self.manifests[&job].clone(),
            options: commit.options,
            tasks: vec![],
        });
        assert!(
            !stored.job.state.is_final(),
            "a finished job was written again"
        );
        stored.job = commit.job;
        for task in commit.tasks {
            stored.tasks.retain(|old| old.index != task.index);
            stored.tasks.push(task);
        }
        self.later(
            Duration::from_millis(1),
            Happening::Told(reign, Box::new(Event::Committed { job, number })),
        );
    }

    fn check_receipts(&mut self, commit: &Commit) {
        for settlement in &commit.receipts {
            let task = settlement.lease.task;
            let twice = self.settled.insert(task, settlement.lease);
            assert_eq!(twice, None, "task {task} was settled twice");
            let record = commit
                .tasks
                .iter()
                .find(|record| record.index == task.index)
                .unwrap();
            let lease = record.leases.last().unwrap();
            assert_eq!(
                (lease.id, lease.state),
                (settlement.lease, LeaseState::Released)
            );
            assert!(
                settlement
                    .receipt
                    .ends_with(lease.donor.to_string().as_bytes()),
                "another donor's receipt"
            );
            let expected = if self.is_poison(task) {
                TaskState::Failed
            } else {
                TaskState::Accepted
            };
            assert_eq!(record.state, expected);
        }
    }

    fn check_invariants(&self) {
        let mut live = BTreeSet::new();
        for lease in self.broker.leases.keys() {
            assert!(
                live.insert(lease.task),
                "task {} has two live leases",
                lease.task
            );
        }
        for (peer, leases) in self.broker.donors.occupation() {
            for lease in &leases {
                assert_eq!(
                    self.broker.leases[lease].donor, peer,
                    "a donor is charged for a lease of another"
                );
            }
        }
        for job in self.broker.jobs.values() {
            let mut tally = Tally::default();
            for task in &job.tasks {
                *tally.of(task.state) += 1;
                self.check_task(job, task);
            }
            assert_eq!(tally, job.tally);
        }
    }

    fn check_task(&self, job: &Job, task: &TaskRecord) {
        let id = TaskId {
            job: job.id(),
            index: task.index,
        };
        let active = task
            .leases
            .iter()
            .filter(|lease| lease.state == LeaseState::Active)
            .count();
        let flying = matches!(task.state, TaskState::Dispatched | TaskState::Running);
        assert_eq!(active, usize::from(flying), "{id}: {task:?}");
        let live = self.broker.leases.keys().any(|lease| lease.task == id);
        assert_eq!(live, flying, "{id}: {task:?}");
        assert!(
            task.state != TaskState::Ready || job.ready.contains(&task.index),
            "{id} is lost: {task:?}"
        );
        assert!(
            task.leases.len() <= MAX_ATTEMPTS,
            "{id} was tried too often"
        );
        assert_eq!(
            task.state == TaskState::Verifying,
            job.settling.contains_key(&task.index)
        );
    }

    fn check_end(&self) {
        for (id, manifest) in &self.manifests {
            let stored = &self.stored[id];
            let record = &self.finished[id];
            assert_eq!(stored.job, *record, "finished otherwise than stored");
            let tasks = manifest.manifest().array_count;
            let Tally {
                accepted,
                failed,
                cancelled,
                ..
            } = record.tally;
            assert_eq!(accepted + failed + cancelled, tasks, "a task is lost");
            let accepted_tasks = self
                .settled
                .keys()
                .filter(|task| task.job == *id && !self.is_poison(**task));
            assert_eq!(accepted_tasks.count() as u32, accepted);
            assert_eq!(record.state == JobState::Completed, accepted == tasks);
            assert!(record.state == JobState::Completed || record.fault.is_some());
            let impossible = (0..tasks).any(|index| self.is_poison(TaskId { job: *id, index }));
            let lost = stored
                .tasks
                .iter()
                .any(|task| task.leases.len() == MAX_ATTEMPTS);
            let unwilling = self.donors.iter().filter(|donor| donor.unwilling).count();
            assert!(
                record.state == JobState::Completed
                    || impossible
                    || lost
                    || unwilling >= MAX_REFUSING_DONORS,
                "failed for no reason: {record:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// Every task is settled at most once and none is lost, no lease has two donors, attempts are bounded, and every
    /// job comes to its end, as long as one willing donor stays.
    #[test]
    fn in_a_hostile_world_every_job_ends_and_no_task_is_lost_or_settled_twice(seed: u64) {
        World::new(seed).run();
    }
}
