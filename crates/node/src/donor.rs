//! The donor: what stands between this machine and the jobs of others. Nothing runs here that the manifest's signature, the
//! donor's consent and the gate did not all let through, and nothing that ran goes without a signed receipt.

pub mod answers;
mod ended;
mod fetches;
mod guard;
mod machines;
mod rerun;
mod running;
#[cfg(test)]
mod tests;
mod write_up;
mod yielding;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gait::{Permit, Policy};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument, debug_span};
use worldcompute_content::{ContentStore, Held};
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_image::{Blob, Manifest};
use worldcompute_ledger::receipt::Path;
use worldcompute_mesh::Mesh;
use worldcompute_mesh::wire::{
    Capacity, DispatchReply, DispatchRequest, NamedBytes, OfferReply, OfferRequest,
};
use worldcompute_microvm::Control;
use worldcompute_proof::{Cid, PeerId, SigningKey};
use worldcompute_sandbox::{CancelToken, Profile, Reins, RunRequest, Sandbox, SandboxConfig};
use worldcompute_scheduler::broker::RUN_GRACE;
use worldcompute_scheduler::donor_log::DonorLog;
use worldcompute_telemetry::LoadSampler;
use worldcompute_telemetry::metrics::Counter;

use crate::api::{DonorState, DonorStatus};
use crate::blocking::blocking;
use crate::config::Config;
use crate::home::Home;
use crate::keep::keep;
use crate::needed::hold;
use answers::Answers;
use ended::Ended;
use fetches::{Fetches, Place};
use guard::{Admitted, Guard, Task};
use machines::Machines;
pub use machines::overrides;
pub use rerun::re_execute;
use running::Leases;
use write_up::Attempt;
use yielding::{Grip, Yielding};

/// How long a donor that leaves waits for what still runs before it is handed back.
pub const LEAVE_PATIENCE: Duration = Duration::from_secs(30);

/// Modules, layers of images and inputs that one task may have fetched, in bytes each.
pub const MAX_OBJECT_BYTES: u64 = crate::api::MAX_CONTENT_BYTES as u64;

static TASKS: Counter = Counter::new(
    "worldcompute.tasks",
    "{task}",
    "Tasks that ended in this donor's sandbox",
);

/// This machine at the service of others. Cheap to clone.
#[derive(Clone)]
pub struct Donor(Arc<Inner>);

/// What a donor is made of.
pub struct DonorParts {
    /// Signs decisions and receipts.
    pub key: SigningKey,
    /// What may run here.
    pub policy: Policy,
    /// The operator's choices.
    pub config: Config,
    /// Where disks of images and kernels of their machines are kept.
    pub home: Home,
    /// Modules, inputs and outputs.
    pub content: Arc<ContentStore>,
    /// The numbered record of what ran.
    pub log: DonorLog,
    /// Fetches what is not here.
    pub mesh: Mesh,
    /// Load of the host.
    pub load: Arc<LoadSampler>,
}

struct Inner {
    key: SigningKey,
    me: PeerId,
    guard: Guard,
    config: Config,
    sandbox: Sandbox,
    machines: Machines,
    content: Arc<ContentStore>,
    log: DonorLog,
    answers: Answers,
    mesh: Mesh,
    load: Arc<LoadSampler>,
    slots: Arc<Semaphore>,
    fetches: Fetches,
    leases: Leases,
    yielding: Yielding,
    paused: AtomicBool,
    leaving: AtomicBool,
    refused: AtomicU64,
    finished: Mutex<BTreeMap<String, u64>>,
    started: Instant,
}

impl Donor {
    /// A donor ready to take tasks.
    ///
    /// # Errors
    /// WC-007 when the sandbox cannot start; for an answer in the log that is none.
    pub fn new(parts: DonorParts) -> Result<Self> {
        let answers = Answers::of(&parts.log, &parts.content, parts.config.content_bytes)?;
        let slots = parts.config.effective_slots();
        let sandbox = Sandbox::new(SandboxConfig {
            workers: slots,
            ..SandboxConfig::default()
        })?;
        Ok(Self(Arc::new(Inner {
            me: parts.key.peer_id(),
            yielding: Yielding::start(&parts.config.yields)?,
            guard: Guard::new(parts.policy, &parts.config, &parts.key),
            key: parts.key,
            machines: Machines::new(&parts.config, &parts.home),
            config: parts.config,
            sandbox,
            content: parts.content,
            log: parts.log,
            answers,
            mesh: parts.mesh,
            load: parts.load,
            slots: Arc::new(Semaphore::new(slots)),
            fetches: Fetches::new(slots),
            leases: Leases::default(),
            paused: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            finished: Mutex::default(),
            started: Instant::now(),
        })))
    }

    /// Whether a task would be taken now; nothing is promised.
    pub fn offer(&self, offer: &OfferRequest) -> OfferReply {
        let willing = self
            .0
            .check_taking()
            .and_then(|()| self.0.guard.check_offer(offer));
        let reason = willing.err().or_else(|| self.0.check_slots().err());
        OfferReply {
            accepted: reason.is_none(),
            load: self.0.load.sample().overall(),
            reason: reason.map(|fault| fault.message().to_owned()),
        }
    }

    /// Runs a task for `from` under its lease. Asked again for a lease it knows, it answers with the same run.
    ///
    /// # Errors
    /// A refusal: nothing ran. Whatever ran, however it ended, is a reply with a receipt.
    pub async fn dispatch(
        &self,
        from: &PeerId,
        request: DispatchRequest,
        path: Path,
    ) -> Result<DispatchReply> {
        let lease = request.lease_id.clone();
        let ended = self.0.leases.once(from, &lease, |cancel| {
            let (inner, from) = (self.0.clone(), *from);
            let run = async move { inner.run_once(&from, &request, path, cancel).await };
            run.instrument(debug_span!("donor"))
        });
        let ended = ended.await;
        if let Err(fault) = &ended {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            tracing::info!(%lease, %from, code = fault.code(), reason = fault.message(), "task refused");
        }
        ended
    }

    /// The submitter still waits for this lease. False when nothing runs under it and no answer of it is kept. One that is
    /// kept counts as known for as long as it can be asked for again: its submitter may still be receiving it, or fetching
    /// the results that it names, and would otherwise give the task to another.
    pub fn heartbeat(&self, from: &PeerId, lease: &str) -> bool {
        let kept = || matches!(self.0.log.reply_of(from, lease), Ok(Some(_)));
        self.0.leases.heartbeat(from, lease) || kept()
    }

    /// The submitter no longer wants this lease. False when nothing runs under it.
    pub fn cancel(&self, from: &PeerId, lease: &str) -> bool {
        self.0.leases.cancel(from, lease)
    }

    /// Ends what runs for submitters that have gone silent.
    pub fn end_abandoned(&self) {
        self.0.leases.end_abandoned();
    }

    /// What is announced to the cluster.
    pub fn capacity(&self) -> Capacity {
        Capacity {
            cores: u32::try_from(self.0.config.effective_slots()).unwrap_or(u32::MAX),
            memory_mb: self.0.config.max_task_memory_mb,
            load: self.0.load.sample().overall(),
            classes: self.0.config.consent.iter().cloned().collect(),
            paused: self.0.check_taking().is_err(),
            addresses: Vec::new(),
            slots: u32::try_from(self.0.config.effective_slots()).unwrap_or(u32::MAX),
            images: self.0.machines.are_offered(),
        }
    }

    /// Takes no tasks, or takes them again, also where the machine is yielded and nothing fires any more; the cluster is told
    /// at once.
    pub async fn set_paused(&self, paused: bool) {
        self.0.paused.store(paused, Ordering::Relaxed);
        if !paused {
            self.0.yielding.go_on();
        }
        self.0.mesh.announce(self.capacity()).await;
    }

    /// Resolves when the machine was yielded to its owner, or is no longer, since this was last asked.
    pub async fn yielding_changed(&self) {
        self.0.yielding.changed().await;
    }

    /// Takes no more tasks, and waits for what runs; what takes longer than `patience` is handed back to its submitter.
    pub async fn leave(&self, patience: Duration) {
        self.0.leaving.store(true, Ordering::Relaxed);
        self.0.mesh.announce(self.capacity()).await;
        if tokio::time::timeout(patience, self.0.leases.all_ended())
            .await
            .is_err()
        {
            self.hand_back().await;
        }
    }

    /// Ends everything that runs, so that its submitters give it to others.
    pub async fn hand_back(&self) {
        self.0.leaving.store(true, Ordering::Relaxed);
        self.0.leases.cancel_all();
        self.0.leases.all_ended().await;
        if let Err(fault) = self.0.log.close().await {
            tracing::warn!(
                code = fault.code(),
                reason = fault.message(),
                "unused exit numbers were not given back"
            );
        }
    }

    /// What the donor is doing.
    pub fn status(&self) -> DonorStatus {
        let inner = &self.0;
        DonorStatus {
            peer_id: inner.me,
            state: inner.state(),
            uptime_s: inner.started.elapsed().as_secs(),
            running: inner.leases.running(),
            slots: inner.config.effective_slots(),
            finished: inner.finished().clone(),
            refused: inner.refused.load(Ordering::Relaxed),
            last_exit: inner.log.last_exit(),
            consent: inner.config.consent.iter().cloned().collect(),
            policy_digest: inner.guard.policy_digest().to_string(),
            yielding: inner.yielding.report(),
        }
    }
}

impl Inner {
    /// Looks for an earlier answer while it holds the lease: whoever looked before could miss a run that ends meanwhile, and
    /// run it again.
    async fn run_once(
        &self,
        from: &PeerId,
        request: &DispatchRequest,
        path: Path,
        cancel: CancelToken,
    ) -> Result<DispatchReply> {
        match self.log.reply_of(from, &request.lease_id)? {
            Some(reply) => write_up::stored_reply(&reply, &self.content),
            None => self.run(from, request, path, cancel).await,
        }
    }

    async fn run(
        &self,
        from: &PeerId,
        request: &DispatchRequest,
        path: Path,
        cancel: CancelToken,
    ) -> Result<DispatchReply> {
        self.check_taking()?;
        let task =
            debug_span!("verify_origin").in_scope(|| self.guard.check_origin(from, request))?;
        self.check_slots()?;
        self.machines.check(&task.run)?;
        let _taken = hold(&self.content, needed(&task.run));
        let admitted = debug_span!("decide").in_scope(|| self.guard.admit(&task.run))?;
        let _parts = self
            .collect_all(from, &task.run, &request.inline_inputs, &cancel)
            .instrument(debug_span!("collect"))
            .await?;
        let slot = self.slot()?;
        let exit = self
            .log
            .next_exit()
            .instrument(debug_span!("number_exit"))
            .await?;
        let started_at = Timestamp::now();
        let Admitted { permit, decision } = admitted;
        let ended = self
            .execute(permit, &task, cancel)
            .instrument(debug_span!("sandbox"))
            .await?;
        drop(slot);
        self.count(ended.status.as_str());
        // The clock may be set back meanwhile; what was run must not be lost for it.
        let ended_at = Timestamp::now().max(started_at);
        let attempt = Attempt {
            request,
            task: &task,
            path,
            exit,
            started_at,
            ended_at,
            executor: &self.me,
            decision: &decision,
        };
        let (reply, results) = attempt
            .write_up(ended, &self.key, &self.content)
            .instrument(debug_span!("write_up"))
            .await?;
        self.log
            .finished(from, &request.lease_id, exit, &write_up::stored(&reply)?)
            .instrument(debug_span!("keep_result"))
            .await?;
        self.answers.keep(exit, results, &self.log);
        tracing::info!(lease = %request.lease_id, %from, exit, status = ?reply.status, ms = reply.duration_ms, "task ran");
        Ok(reply)
    }

    /// A module runs in this process, an image in a machine of its own.
    async fn execute(&self, permit: Permit, task: &Task, cancel: CancelToken) -> Result<Ended> {
        let (run, content) = (&task.run, &self.content);
        match run.profile {
            Profile::Deterministic { .. } => {
                let reins = Reins::new();
                let held = self.yielding.hold(Grip::Guest(reins.clone()), &cancel);
                let ran = self
                    .sandbox
                    .run_held(permit, run, content, cancel, &reins)
                    .await?;
                Ok(held.over(ran.into()))
            }
            Profile::MicroVm { .. } => {
                let control = Control::new()?;
                let held = self.yielding.hold(Grip::Machine(control.clone()), &cancel);
                let ran = self
                    .machines
                    .run(permit, run, content, &control, &cancel)
                    .await?;
                Ok(held.over(ran))
            }
        }
    }

    /// Has all that a run takes in the content store. What an image is made of is known once its manifest is here, and held
    /// from then on.
    async fn collect_all(
        &self,
        from: &PeerId,
        run: &RunRequest,
        inline: &[NamedBytes],
        cancel: &CancelToken,
    ) -> Result<Vec<Held>> {
        let named: Vec<_> = needed(run).copied().collect();
        self.collect(from, &named, inline, cancel).await?;
        let (content, run) = (self.content.clone(), run.clone());
        let parts = blocking(move || parts_of(&content, &run)).await?;
        let held = hold(&self.content, &parts);
        self.collect(from, &parts, inline, cancel).await?;
        Ok(held)
    }

    /// Has these objects in the content store: taken along, here already, or fetched from the submitter. Whatever the
    /// way, bytes that are not the named ones are refused.
    async fn collect(
        &self,
        from: &PeerId,
        cids: &[Cid],
        inline: &[NamedBytes],
        cancel: &CancelToken,
    ) -> Result<()> {
        let mut elsewhere = Vec::new();
        for cid in cids {
            if self.content.has(cid)? {
                continue;
            }
            match inline.iter().find(|one| one.name == cid.to_string()) {
                Some(one) => self.take_in(cid, one.bytes.clone()).await?,
                None => elsewhere.push(*cid),
            }
        }
        match elsewhere.first() {
            None => Ok(()),
            Some(cid) if *from == self.me => Err(missing(cid)),
            Some(_) => self.fetch(from, &elsewhere, cancel).await,
        }
    }

    /// A submitter that names bytes and does not give them keeps nobody waiting but itself.
    async fn fetch(&self, from: &PeerId, cids: &[Cid], cancel: &CancelToken) -> Result<()> {
        let place = self.fetches.enter(from)?;
        let fetching = tokio::time::timeout(RUN_GRACE, self.fetch_in_turn(from, cids, &place));
        match cancel.run_until_cancelled(fetching).await {
            Some(Ok(fetched)) => fetched,
            Some(Err(_)) => Err(too_slow(from)),
            None => Err(cancelled()),
        }
    }

    async fn fetch_in_turn(&self, from: &PeerId, cids: &[Cid], place: &Place) -> Result<()> {
        let _turn = place.turn().await;
        for cid in cids {
            if !self.content.has(cid)? {
                let bytes = self.mesh.fetch(*from, cid, MAX_OBJECT_BYTES).await?;
                self.take_in(cid, bytes).await?;
            }
        }
        Ok(())
    }

    async fn take_in(&self, cid: &Cid, bytes: Vec<u8>) -> Result<()> {
        if !cid.matches(&bytes) {
            return Err(Fault::wc(
                WcCode::InvalidManifest,
                format!("the submitter's bytes are not {cid}"),
            ));
        }
        keep(&self.content, bytes).await.map(drop)
    }

    fn check_slots(&self) -> Result<()> {
        match self.slots.available_permits() {
            0 => Err(no_slot()),
            _ => Ok(()),
        }
    }

    fn slot(&self) -> Result<OwnedSemaphorePermit> {
        self.slots
            .clone()
            .try_acquire_owned()
            .map_err(|_| no_slot())
    }

    fn check_taking(&self) -> Result<()> {
        if self.leaving.load(Ordering::Relaxed) {
            return Err(not_taking("leaving"));
        }
        if self.yielding.now() {
            return Err(not_taking("paused: its owner wants the machine"));
        }
        if self.paused.load(Ordering::Relaxed) {
            Err(not_taking("paused"))
        } else {
            Ok(())
        }
    }

    fn state(&self) -> DonorState {
        if self.leaving.load(Ordering::Relaxed) {
            DonorState::Leaving
        } else if self.paused.load(Ordering::Relaxed) || self.yielding.now() {
            DonorState::Paused
        } else if self.leases.running() > 0 {
            DonorState::Running
        } else {
            DonorState::Idle
        }
    }

    fn count(&self, status: &str) {
        TASKS.add(1, &[("status", status)]);
        *self.finished().entry(status.to_owned()).or_default() += 1;
    }

    fn finished(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The content that a run takes.
pub fn needed(run: &RunRequest) -> impl Iterator<Item = &Cid> {
    std::iter::once(&run.workload)
        .chain(&run.stdin)
        .chain(run.inputs.iter().map(|input| &input.cid))
}

/// What an image that a run takes is made of besides its manifest, which has to be there; nothing for a module.
///
/// # Errors
/// Those of [`Manifest::read`].
pub fn parts_of(content: &ContentStore, run: &RunRequest) -> Result<Vec<Cid>> {
    match run.profile {
        Profile::Deterministic { .. } => Ok(Vec::new()),
        Profile::MicroVm { .. } => {
            let manifest = Manifest::read(content, &run.workload)?;
            Ok(manifest.parts().map(Blob::cid).collect())
        }
    }
}

fn missing(cid: &Cid) -> Fault {
    Fault::wc(
        WcCode::InvalidManifest,
        format!("{cid} is not in the content store"),
    )
    .hint("add the file that the manifest names, then submit again")
}

fn too_slow(from: &PeerId) -> Fault {
    Fault::new(
        Category::NetworkTransient,
        "fetch_timed_out",
        format!("{from} did not give the bytes of its task in time"),
    )
}

/// Nothing ran, so there is no receipt.
fn cancelled() -> Fault {
    Fault::new(
        Category::StateContention,
        "task_cancelled",
        "the task was cancelled before its bytes were here",
    )
    .hint("ask another donor")
}

fn no_slot() -> Fault {
    Fault::new(
        Category::StateContention,
        "no_free_slot",
        "every slot of this donor is taken",
    )
}

fn not_taking(why: &str) -> Fault {
    Fault::wc(WcCode::Unavailable, format!("this donor is {why}")).hint("ask another donor")
}
