//! The one owner of the broker: tells it what happened, does what it says, and keeps what came of it.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gait::Gate;
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug_span};
use worldcompute_content::ContentStore;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_ledger::receipt::{ExecutorReceipt, SignedReceipt};
use worldcompute_mesh::{MeshEvent, wire};
use worldcompute_proof::{Cid, PeerId, Sha256, SigningKey};
use worldcompute_scheduler::broker::{
    Action, Broker, Capacity, Classes, Commit, Event, Now, Options, Settlement, StoredJob,
};
use worldcompute_scheduler::manifest::VerifiedManifest;
use worldcompute_scheduler::records::Records;
use worldcompute_scheduler::{JobId, JobState, LeaseId};
use worldcompute_telemetry::{CorrelationId, with_correlation};

use super::dispatch::Ways;
use super::evidence::Conclusion;
use super::job::{Evidence, Job};
use super::past::{Past, submitted_before};
use super::settle::Asked;
use super::{Cleared, Command, SubmitterParts, clear, no_such_job};
use crate::api::{JobEvent, JobView};
use crate::daemon::is_present;
use crate::keep::keep;
use crate::needed::{self, Needed};

/// What tasks of the driver's own have to tell; more of them wait.
const INBOX: usize = 1024;

/// How often the broker is told who is there, beside being told of every change.
const DONOR_ROUND: Duration = Duration::from_secs(5);

/// What is told to the driver from within.
enum Heard {
    Happened(Event),
    Stored(Box<Commit>, Result<Vec<SignedReceipt>>),
    Concluded(JobId, Result<Option<PathBuf>>),
}

pub struct Driver {
    broker: Broker,
    records: Arc<Records>,
    past: Past,
    /// Ends with the driver.
    _housekeeping: AbortOnDropHandle<()>,
    needed: Needed,
    ways: Ways,
    gate: Arc<Gate>,
    key: SigningKey,
    evidence: PathBuf,
    jobs: BTreeMap<JobId, Job>,
    accepting: HashMap<JobId, oneshot::Sender<Result<JobView>>>,
    ending: HashMap<JobId, Vec<oneshot::Sender<Result<JobView>>>>,
    inbox: mpsc::Receiver<Heard>,
    tell: mpsc::Sender<Heard>,
    /// Commits under way.
    storing: usize,
    started: Instant,
}

impl Driver {
    /// Loads the open jobs from the store, and takes up again what was under way.
    pub async fn load(
        parts: SubmitterParts,
        records: Arc<Records>,
        past: Past,
        needed: Needed,
    ) -> Result<Self> {
        let (tell, inbox) = mpsc::channel(INBOX);
        let me = parts.key.peer_id();
        let mut driver = Self {
            broker: Broker::new(seed_of(me)),
            records,
            past: past.clone(),
            _housekeeping: AbortOnDropHandle::new(tokio::spawn(past.keep_house())),
            needed: needed.clone(),
            ways: Ways {
                me,
                mesh: parts.mesh,
                local: parts.donor,
                content: parts.content,
                needed,
                served: parts.served,
            },
            gate: parts.gate,
            key: parts.key,
            evidence: parts.evidence,
            jobs: BTreeMap::new(),
            accepting: HashMap::new(),
            ending: HashMap::new(),
            inbox,
            tell,
            storing: 0,
            started: Instant::now(),
        };
        driver.restore().await?;
        let now = driver.now();
        driver.broker.vouch_for(now, me);
        Ok(driver)
    }

    /// Works until it is told to stop.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut mesh = self.ways.mesh.subscribe();
        let mut round = tokio::time::interval(DONOR_ROUND);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.act();
            let wakeup = self.wakeup();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Stop(done)) => return self.stop(done).await,
                    Some(command) => self.command(command),
                    None => return,
                },
                heard = self.inbox.recv() => heard.into_iter().for_each(|heard| self.heard(heard)),
                event = mesh.recv() => self.mesh_event(event).await,
                _ = round.tick() => self.donor_round().await,
                () = tokio::time::sleep_until(wakeup.into()) => {}
            }
            while let Ok(heard) = self.inbox.try_recv() {
                self.heard(heard);
            }
        }
    }

    async fn restore(&mut self) -> Result<()> {
        let open = self.records.load_open().await?;
        for stored in &open {
            self.need(stored).await?;
        }
        let known = |id| self.past.state(id).is_some() || open.iter().any(|one| one.job.id == id);
        self.needed.retire_unknown(known)?;
        match self.past.is_incomplete() {
            false => self.needed.collect_when_full(),
            true => {
                tracing::warn!("the content store makes no room by itself before the next start")
            }
        }
        for stored in open {
            self.restore_open(stored).await?;
        }
        Ok(())
    }

    /// Holds what an open job needs, and has it pinned again, for a crash may have come before that.
    async fn need(&self, stored: &StoredJob) -> Result<()> {
        let id = stored.job.id;
        let receipts = self.records.receipts(id).await?;
        let objects = needed::of_job(&stored.manifest)?;
        let named = receipts.iter().map(SignedReceipt::receipt);
        // An image that cannot be read any more is told to whoever wants it.
        let parts = needed::of_image(&self.ways.content, &stored.manifest).unwrap_or_default();
        let named = named.flat_map(needed::of_receipt);
        let named = named.chain(&objects).chain(&parts);
        self.needed
            .open(id, needed::hold(&self.ways.content, named));
        let pinned = move |needed: &Needed| needed.accept(id, objects.iter().copied());
        self.past.pin(pinned).await
    }

    /// The policy may have changed since: a job that it no longer lets through ends here.
    async fn restore_open(&mut self, stored: StoredJob) -> Result<()> {
        let (now, id) = (self.now(), stored.job.id);
        let cleared = clear(
            &self.gate,
            VerifiedManifest::clone(&stored.manifest),
            Vec::new(),
        );
        let trace = match &cleared {
            Ok(cleared) => {
                let decision = Cid::raw(&cleared.trace);
                let pinned = move |needed: &Needed| needed.accept(id, [decision]);
                self.past.pin(pinned).await?;
                self.ways.content.put(&cleared.trace)?;
                Arc::from(cleared.trace.as_slice())
            }
            Err(_) => Arc::default(),
        };
        self.jobs.insert(
            id,
            Job::new(
                stored.manifest.clone(),
                trace,
                stored.job.clone(),
                stored.tasks.clone(),
            ),
        );
        self.broker.restore(now, stored)?;
        match cleared {
            Ok(_) => Ok(()),
            Err(fault) => self.broker.cancel(now, id, fault.message()),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Submit(cleared, options, reply) => self.submit(*cleared, options, reply),
            Command::List(reply) => {
                let views = self.jobs.iter().map(|(id, job)| (*id, job.view()));
                answer(reply, views.collect());
            }
            Command::View(id, reply) => answer(reply, self.job(id).map(|job| job.view())),
            Command::Cancel(id, reason, reply) => self.cancel(id, &reason, reply),
            Command::Watch(id, reply) => {
                answer(reply, self.job(id).map(|job| (job.view(), job.watch())))
            }
            Command::Stop(done) => answer(done, ()),
        }
    }

    /// Answered once the job is on disk.
    fn submit(
        &mut self,
        cleared: Cleared,
        options: Options,
        reply: oneshot::Sender<Result<JobView>>,
    ) {
        let (now, manifest) = (self.now(), Arc::new(cleared.manifest));
        let id = manifest.job_id();
        if self.jobs.contains_key(&id) || self.past.state(id).is_some() {
            return answer(reply, Err(submitted_before(id)));
        }
        let taken = self.broker.submit(now, manifest.clone(), options);
        match taken.map(|id| (id, self.broker.job(id))) {
            Ok((id, Some(record))) => {
                self.needed.open(id, cleared.held);
                let mut job = Job::new(manifest, cleared.trace.into(), record, Vec::new());
                job.correlation = cleared.correlation;
                self.jobs.insert(id, job);
                self.accepting.insert(id, reply);
            }
            Ok((id, None)) => answer(reply, Err(no_such_job(&id.to_string()))),
            Err(fault) => answer(reply, Err(fault)),
        }
    }

    /// Answered once the end is on disk.
    fn cancel(&mut self, id: JobId, reason: &str, reply: oneshot::Sender<Result<JobView>>) {
        let now = self.now();
        let state = self.job(id).map(|job| job.record.state);
        let ended = state
            .as_ref()
            .ok()
            .filter(|state| state.is_final())
            .copied();
        let cancelled = match ended.or_else(|| self.past.state(id)) {
            Some(state) => Err(has_ended(id, state)),
            None => state.and_then(|_| self.broker.cancel(now, id, reason)),
        };
        match cancelled {
            Ok(()) => self.ending.entry(id).or_default().push(reply),
            Err(fault) => answer(reply, Err(fault)),
        }
    }

    fn heard(&mut self, heard: Heard) {
        let now = self.now();
        match heard {
            Heard::Happened(event) => self.broker.handle(now, event),
            Heard::Stored(commit, stored) => {
                self.storing -= 1;
                self.stored(now, &commit, stored);
            }
            Heard::Concluded(id, evidence) => self.concluded(id, evidence),
        }
    }

    fn stored(&mut self, now: Now, commit: &Commit, stored: Result<Vec<SignedReceipt>>) {
        let (job, number) = (commit.job.id, commit.number);
        match stored {
            Ok(receipts) => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.stored(commit, &receipts);
                }
                self.broker.handle(now, Event::Committed { job, number });
            }
            Err(fault) => {
                tracing::error!(%job, code = fault.code(), reason = fault.message(), "not stored; tried again");
                self.broker.handle(now, Event::CommitFailed { job, number });
            }
        }
    }

    /// Does what the broker says, until it has nothing more to say.
    fn act(&mut self) {
        loop {
            let now = self.now();
            let actions = self.broker.poll(now);
            if actions.is_empty() {
                break;
            }
            actions.into_iter().for_each(|action| self.perform(action));
        }
        self.show_changes();
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Commit(commit) => self.store(commit),
            Action::Submitted { job } => self.submitted(job),
            Action::Dispatch {
                lease,
                donor,
                manifest,
            } => self.dispatch(Asked {
                lease,
                donor,
                manifest,
            }),
            Action::Heartbeat { lease, donor } => self.heartbeat(lease, donor),
            Action::CancelLease { lease, donor } => {
                let ways = self.ways.clone();
                self.tell_later(lease.task.job, async move {
                    ways.cancel(lease, donor).await;
                    None
                });
            }
            Action::JobFinished { job } => self.conclude(job.id),
        }
    }

    /// Countersigns the receipts of a commit, and writes it. Nothing is dispatched before the first one is on disk, and with
    /// it the decision that receipts will refer to.
    fn store(&mut self, commit: Box<Commit>) {
        let Some(job) = self.jobs.get(&commit.job.id) else {
            return;
        };
        let (manifest, decision) = (job.manifest.clone(), job.trace.to_vec());
        let (records, key) = (self.records.clone(), self.key.clone());
        let (content, past) = (self.ways.content.clone(), self.past.clone());
        self.storing += 1;
        self.tell_later(commit.job.id, async move {
            let decided = async {
                match commit.first {
                    true => accept(&past, &content, &manifest, decision).await,
                    false => Ok(()),
                }
            };
            let (decided, stored) =
                tokio::join!(decided, write(&records, &manifest, &commit, &key));
            Some(Heard::Stored(commit, decided.and(stored)))
        });
    }

    fn submitted(&mut self, id: JobId) {
        if let (Some(reply), Ok(job)) = (self.accepting.remove(&id), self.job(id)) {
            answer(reply, Ok(job.view()));
        }
    }

    fn dispatch(&mut self, asked: Asked) {
        let Some(job) = self.jobs.get(&asked.lease.task.job) else {
            return;
        };
        let (task, executor, attempt) =
            (asked.lease.task.index, asked.donor, asked.lease.attempt + 1);
        job.tell(JobEvent::TaskStarted {
            task,
            executor,
            attempt,
        });
        let (ways, trace, tell) = (self.ways.clone(), job.trace.clone(), self.tell.clone());
        let asked_for = asked.lease.task.job;
        let (lease, from) = (asked.lease, asked.donor);
        // A driver that has ended does not want to know.
        let answered = async move {
            let answered = Heard::Happened(Event::Answered { lease, from });
            drop(tell.send(answered).await);
        };
        self.tell_later(asked_for, async move {
            let ended = ways.dispatch(asked, trace, answered).await;
            Some(Heard::Happened(ended))
        });
    }

    fn heartbeat(&self, lease: LeaseId, donor: PeerId) {
        let Some(job) = self.jobs.get(&lease.task.job) else {
            return;
        };
        let (ways, manifest) = (self.ways.clone(), job.manifest.clone());
        let asked = Asked {
            lease,
            donor,
            manifest,
        };
        self.tell_later(lease.task.job, async move {
            ways.heartbeat(&asked).await.map(Heard::Happened)
        });
    }

    /// Writes the evidence of a job that has ended.
    fn conclude(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let conclusion = Conclusion {
            manifest: job.manifest.clone(),
            records: self.records.clone(),
            content: self.ways.content.clone(),
            key: self.key.clone(),
            root: self.evidence.clone(),
        };
        let writing = conclusion.write().instrument(debug_span!("evidence"));
        let past = self.past.clone();
        self.tell_later(id, async move {
            let (written, kept) = tokio::join!(writing, past.pin(move |needed| needed.end(id)));
            if let Err(fault) = kept {
                tracing::error!(job = %id, code = fault.code(), reason = fault.message(), "what the job needs is kept in memory only, and pinned at the next start");
            }
            Some(Heard::Concluded(id, written))
        });
    }

    fn concluded(&mut self, id: JobId, evidence: Result<Option<PathBuf>>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.evidence = Evidence::of(id, evidence);
        job.show();
        let (view, state) = (job.view(), job.record.state);
        // First there, then gone from here: whoever asks finds it.
        self.past.add(id, state);
        self.jobs.remove(&id);
        for reply in self.ending.remove(&id).unwrap_or_default() {
            answer(reply, Ok(view.clone()));
        }
    }

    /// Shows watchers what changed without a commit: why a job waits.
    fn show_changes(&mut self) {
        let records: Vec<_> = self.broker.jobs().collect();
        for record in records {
            if let Some(job) = self.jobs.get_mut(&record.id) {
                job.update(record);
            }
        }
    }

    async fn mesh_event(&mut self, event: std::result::Result<MeshEvent, RecvError>) {
        let now = self.now();
        match event {
            Ok(MeshEvent::Capacity(peer, capacity)) => {
                self.broker.handle(now, donor(peer, &capacity))
            }
            Ok(MeshEvent::PeerDown(peer)) => self.broker.handle(now, Event::DonorDown { peer }),
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => self.donor_round().await,
            // The mesh has ended, so this node is about to: the pause keeps the loop from spinning meanwhile.
            Err(RecvError::Closed) => tokio::time::sleep(DONOR_ROUND).await,
        }
    }

    /// Tells the broker who is there: the peers that announced capacity, and this node.
    async fn donor_round(&mut self) {
        let now = self.now();
        let peers = self.ways.mesh.peers().await.into_iter().filter(is_present);
        let others =
            peers.filter_map(|info| info.capacity.map(|capacity| donor(info.peer, &capacity)));
        let own = self
            .ways
            .local
            .as_ref()
            .map(|local| donor(self.ways.me, &local.capacity()));
        for event in others.chain(own) {
            self.broker.handle(now, event);
        }
    }

    /// Waits for commits that are under way: what was settled stays settled, and whoever asked for a job that is on disk by
    /// now hears so, and does not ask for it again.
    async fn stop(mut self, done: oneshot::Sender<()>) {
        while self.storing > 0 {
            match self.inbox.recv().await {
                Some(Heard::Stored(commit, stored)) => {
                    self.storing -= 1;
                    if stored.is_ok() {
                        self.submitted(commit.job.id);
                    }
                }
                Some(_) => {}
                None => break,
            }
        }
        answer(done, ());
    }

    /// Runs beside the driver, as a part of what was asked for with the job, and tells the driver when done.
    fn tell_later(&self, job: JobId, work: impl Future<Output = Option<Heard>> + Send + 'static) {
        let tell = self.tell.clone();
        let asked_with = self.jobs.get(&job).map(|job| job.correlation);
        let correlation = asked_with.unwrap_or_else(CorrelationId::random);
        tokio::spawn(with_correlation(correlation, async move {
            if let Some(heard) = work.await {
                // A driver that has ended does not want to know.
                drop(tell.send(heard).await);
            }
        }));
    }

    fn job(&mut self, id: JobId) -> Result<&mut Job> {
        self.jobs
            .get_mut(&id)
            .ok_or_else(|| no_such_job(&id.to_string()))
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.started.elapsed(),
            wall: Timestamp::now(),
        }
    }

    fn wakeup(&self) -> Instant {
        let now = self.now();
        let next = self.broker.next_wakeup(now);
        self.started + next.unwrap_or(now.monotonic + DONOR_ROUND)
    }
}

/// Keeps the decision to send a job out, and it and all that the tasks take for as long as there are records of the job.
async fn accept(
    past: &Past,
    content: &Arc<ContentStore>,
    manifest: &VerifiedManifest,
    decision: Vec<u8>,
) -> Result<()> {
    let (id, mut objects) = (manifest.job_id(), needed::of_job(manifest)?);
    objects.push(Cid::raw(&decision));
    let pinned = move |needed: &Needed| needed.accept(id, objects.iter().copied());
    tokio::try_join!(keep(content, decision), past.pin(pinned)).map(drop)
}

async fn write(
    records: &Records,
    manifest: &VerifiedManifest,
    commit: &Commit,
    key: &SigningKey,
) -> Result<Vec<SignedReceipt>> {
    let countersigned = || {
        let open = |one: &Settlement| ExecutorReceipt::open(&one.receipt)?.countersign(key);
        commit.receipts.iter().map(open).collect::<Result<Vec<_>>>()
    };
    let receipts = debug_span!("countersign").in_scope(countersigned)?;
    records
        .commit(manifest, commit, &receipts)
        .instrument(debug_span!("commit"))
        .await?;
    Ok(receipts)
}

fn donor(peer: PeerId, capacity: &wire::Capacity) -> Event {
    let capacity = Capacity {
        slots: capacity.slots,
        cpu_millicores: capacity.cores.saturating_mul(1000),
        memory_bytes: capacity.memory_mb.saturating_mul(1 << 20),
        load_permille: permille(capacity.load),
        classes: Classes::of(capacity.classes.iter().map(String::as_str)),
        paused: capacity.paused,
        images: capacity.images,
    };
    Event::Donor { peer, capacity }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=1000; NaN becomes 0"
)]
fn permille(load: f64) -> u16 {
    (load.clamp(0.0, 1.0) * 1000.0) as u16
}

/// Nodes that break ties differently spread over equal donors.
fn seed_of(peer: PeerId) -> u64 {
    let digest = Sha256::of(peer.to_string());
    digest
        .as_bytes()
        .iter()
        .take(8)
        .fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

fn has_ended(id: JobId, state: JobState) -> Fault {
    let message = format!("job {id} has ended already: it is {}", state.as_str());
    Fault::new(Category::InvalidInput, "job_ended", message)
        .hint(format!("'worldcompute job status {id}' shows how it ended"))
}

/// An asker that has gone needs no answer.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    drop(reply.send(value));
}
