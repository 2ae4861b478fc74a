//! Which job is served next, and by whom.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use worldcompute_fault::{Fault, WcCode};
use worldcompute_proof::PeerId;

use super::donors::Mismatch;
use super::ends::{MAX_LOSSES, words_of};
use super::job::Job;
use super::{Broker, Now};
use crate::{JobId, JobState, LeaseRecord, LeaseState, TaskId, TaskRecord};

impl Broker {
    /// Gives out tasks while a donor has room: to the job with the fewest in flight, and among equals to the one that
    /// has waited longest for its turn.
    pub(super) fn place(&mut self, now: Now) {
        let mut blocked = BTreeSet::new();
        while let Some(id) = self.next_job(&blocked) {
            if !self.place_one(now, id) {
                blocked.insert(id);
            }
        }
        for id in blocked {
            self.wait(now, id);
        }
    }

    fn next_job(&self, blocked: &BTreeSet<JobId>) -> Option<JobId> {
        let open = self
            .jobs
            .iter()
            .filter(|(id, job)| !job.ready.is_empty() && !blocked.contains(id));
        open.min_by_key(|(_, job)| (job.tally.in_flight, job.served))
            .map(|(id, _)| *id)
    }

    fn place_one(&mut self, now: Now, id: JobId) -> bool {
        let Some((task, donor)) = self.jobs.get(&id).and_then(|job| self.choose(now, job)) else {
            return false;
        };
        self.supersede(now, task, "the donor vanished");
        let wanted = self
            .jobs
            .get(&id)
            .is_some_and(|job| job.ready.contains(&task.index));
        if wanted {
            self.grant(now, task, donor);
        }
        true
    }

    /// The first task that wants a donor and can have one. Tasks are alike but for the donors that lost them: where one
    /// waits for another reason, all do.
    fn choose(&self, now: Now, job: &Job) -> Option<(TaskId, PeerId)> {
        for index in &job.ready {
            let task = job.task(*index)?;
            if let Some(donor) = self.choose_donor(now, job, task) {
                let id = TaskId {
                    job: job.id(),
                    index: *index,
                };
                return Some((id, donor));
            }
            task.leases
                .iter()
                .find(|lease| gave_up(task, &lease.donor))?;
        }
        None
    }

    /// The best donor for a task: one that did what it was asked to, has not had it, and is the least full. One that lost it too often does not get
    /// it again while there is another that could take it, if not at once.
    fn choose_donor(&self, now: Now, job: &Job, task: &TaskRecord) -> Option<PeerId> {
        let id = (job.id(), task.index, task.next_attempt);
        let suits = |peer: &PeerId| excluded(job, peer).is_none();
        let better = |peer: &PeerId| suits(peer) && !gave_up(task, peer);
        let spared = self.donors.any_in_time(now.monotonic, &job.need, better);
        let rank = |peer: &PeerId| {
            let wanted = if spared { better(peer) } else { suits(peer) };
            wanted.then(|| {
                (
                    self.donors.standings.no_shows(peer),
                    leases_of(task, peer).count(),
                )
            })
        };
        let tie = |peer: &PeerId| self.lot((id, peer));
        self.donors.best(now.monotonic, &job.need, rank, tie)
    }

    /// Whether one of these donors could take a task of the job now.
    pub(super) fn could_take(&self, now: Now, job: &Job, of: impl Fn(&PeerId) -> bool) -> bool {
        let rank = |peer: &PeerId| (of(peer) && excluded(job, peer).is_none()).then_some(());
        self.donors
            .best(now.monotonic, &job.need, rank, |_| 0)
            .is_some()
    }

    /// A number that is the same for the same seed and choice, and otherwise anything.
    fn lot(&self, choice: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, choice).hash(&mut hasher);
        hasher.finish()
    }

    /// The task is about to go to another donor than the one that has it, if one has.
    pub(super) fn supersede(&mut self, now: Now, id: TaskId, reason: &str) {
        let orphan = self
            .jobs
            .get(&id.job)
            .and_then(|job| job.task(id.index))
            .and_then(|task| task.active_lease());
        if orphan.is_some() {
            self.withdraw_lease(now, id, LeaseState::Superseded, reason);
            self.retry(now, id);
        }
    }

    /// Says why a job waits, and ends it when its patience is over.
    fn wait(&mut self, now: Now, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let reasons = self
            .donors
            .mismatches(now.monotonic, &job.need, |peer| excluded(job, peer));
        let starved = !reasons.contains_key(&Mismatch::Busy)
            && job.tally.in_flight + job.tally.verifying == 0;
        let words = in_words(&reasons);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.waiting = Some(words.clone());
        if !starved {
            job.starved_since = None;
            return;
        }
        let since = *job.starved_since.get_or_insert(now.monotonic);
        let waited = now.monotonic.saturating_sub(since);
        if job
            .options
            .patience
            .is_some_and(|patience| waited >= patience)
        {
            let fault = no_donor(&words, job);
            self.end_job(now, id, JobState::Failed, fault);
        }
    }
}

/// Why a job does not want a donor that could take it.
fn excluded(job: &Job, peer: &PeerId) -> Option<Mismatch> {
    if job.options.donor.is_some_and(|donor| donor != *peer) {
        return Some(Mismatch::NotChosen);
    }
    job.declined
        .contains_key(peer)
        .then_some(Mismatch::Declined)
}

fn leases_of<'a>(task: &'a TaskRecord, peer: &PeerId) -> impl Iterator<Item = &'a LeaseRecord> {
    let peer = *peer;
    task.leases.iter().filter(move |lease| lease.donor == peer)
}

/// Whether a donor had the task so often, and each time answered without a result that could be used, that there is no
/// point in asking it again: its sandbox fails, or it never gives the bytes that its receipts name.
fn gave_up(task: &TaskRecord, peer: &PeerId) -> bool {
    let lost = |lease: &&LeaseRecord| lease.state == LeaseState::Released && lease.reason.is_some();
    leases_of(task, peer).filter(lost).count() >= MAX_LOSSES
}

fn in_words(reasons: &BTreeMap<Mismatch, usize>) -> String {
    if reasons.is_empty() {
        return "no donor is connected".to_owned();
    }
    let line = |(reason, count): (&Mismatch, &usize)| match count {
        1 => format!("1 donor {reason}"),
        _ => format!("{count} donors: each {reason}"),
    };
    reasons.iter().map(line).collect::<Vec<_>>().join("; ")
}

fn no_donor(words: &str, job: &Job) -> Fault {
    let declined = match job.declined.is_empty() {
        true => String::new(),
        false => format!(" ({})", words_of(&job.declined)),
    };
    let message = format!("no donor can take the job: {words}{declined}");
    Fault::wc(WcCode::NoEligibleNodes, message)
        .hint("start a donor that consents to the job's classes, or wait longer")
}
