//! Jobs that have ended. Of each, its id and how it ended stay in memory; the rest is read from the store when somebody asks.
//! After a time, and beyond a number, their records are deleted. Their evidence stays: it needs no node to be verified.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use worldcompute_content::ContentStore;
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_proof::SigningKey;
use worldcompute_scheduler::manifest::VerifiedManifest;
use worldcompute_scheduler::records::Records;
use worldcompute_scheduler::{JobId, JobState};

use super::evidence::Conclusion;
use super::job::{Evidence, Job};
use super::no_such_job;
use crate::api::JobView;
use crate::blocking::blocking;
use crate::needed::{self, Needed};

/// Most ended jobs whose records are kept; the oldest give way.
pub const MAX_PAST_JOBS: usize = 10_000;

/// How often jobs are looked for whose time is over.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

/// The jobs that have ended. Cheap to clone.
#[derive(Clone)]
pub struct Past(Arc<Inner>);

/// Where they are, and what their evidence is made of.
pub struct Archive {
    pub records: Arc<Records>,
    pub content: Arc<ContentStore>,
    pub needed: Needed,
    pub key: SigningKey,
    pub evidence: PathBuf,
}

/// Which of them are kept.
#[derive(Clone, Copy)]
pub struct Keeping {
    /// For so long after their end.
    pub time: Duration,
    /// At most so many.
    pub most: usize,
}

struct Inner {
    archive: Archive,
    keeping: Keeping,
    jobs: Mutex<BTreeMap<JobId, JobState>>,
    crowded: Notify,
    /// Held while evidence is written, so that nobody writes the same twice.
    writing: tokio::sync::Mutex<()>,
    /// Whether something that one of them needs could not be pinned.
    incomplete: AtomicBool,
}

impl Past {
    /// Those in the store. What they need is pinned when this returns, also where a crash came between.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn load(archive: Archive, keeping: Keeping) -> Result<Self> {
        let jobs = archive.records.ended().await?;
        let past = Self(Arc::new(Inner {
            archive,
            keeping,
            jobs: Mutex::new(jobs),
            crowded: Notify::new(),
            writing: tokio::sync::Mutex::default(),
            incomplete: AtomicBool::new(false),
        }));
        for id in past.latest(None, usize::MAX) {
            if let Err(fault) = past.need(id).await {
                past.0.incomplete.store(true, Ordering::Relaxed);
                tracing::warn!(job = %id, code = fault.code(), reason = fault.message(), "what an ended job needs is not kept");
            }
        }
        Ok(past)
    }

    /// Whether something that an ended job needs could not be pinned when this was loaded: then nothing may be collected.
    pub fn is_incomplete(&self) -> bool {
        self.0.incomplete.load(Ordering::Relaxed)
    }

    /// Does what pins content. Where there are too many pins, the oldest jobs give way to it.
    ///
    /// # Errors
    /// Those of `work`; those of the store.
    pub async fn pin(
        &self,
        work: impl Fn(&Needed) -> Result<()> + Clone + Send + 'static,
    ) -> Result<()> {
        loop {
            let (work, needed) = (work.clone(), self.0.archive.needed.clone());
            match blocking(move || work(&needed)).await {
                Err(fault) if fault.code() == "too_many_pins" => {
                    if !self.retire_oldest().await? {
                        return Err(fault);
                    }
                }
                done => return done,
            }
        }
    }

    /// One more, with its evidence.
    pub fn add(&self, id: JobId, state: JobState) {
        let mut jobs = self.jobs();
        jobs.insert(id, state);
        if jobs.len() > self.0.keeping.most {
            self.0.crowded.notify_one();
        }
    }

    /// How a job ended; `None` for one that has not, or is not known here.
    pub fn state(&self, id: JobId) -> Option<JobState> {
        self.jobs().get(&id).copied()
    }

    /// How many ended how.
    pub fn counts(&self) -> BTreeMap<JobState, usize> {
        let count = |mut counts: BTreeMap<_, _>, state: &JobState| {
            *counts.entry(*state).or_default() += 1;
            counts
        };
        self.jobs().values().fold(BTreeMap::new(), count)
    }

    /// The latest before `end`, oldest first.
    pub fn latest(&self, end: Option<JobId>, most: usize) -> Vec<JobId> {
        let jobs = self.jobs();
        let earlier = jobs
            .keys()
            .rev()
            .filter(|id| end.is_none_or(|end| **id < end));
        let mut ids: Vec<_> = earlier.take(most).copied().collect();
        ids.reverse();
        ids
    }

    /// A job as its submitter is shown it.
    ///
    /// # Errors
    /// WC-018 for one that is not here; those of the store.
    pub async fn view(&self, id: JobId) -> Result<JobView> {
        let records = &self.0.archive.records;
        let stored = records.job(id).await?;
        let stored = stored
            .filter(|stored| stored.job.state.is_final())
            .ok_or_else(|| no_such_job(&id.to_string()))?;
        let manifest = stored.manifest.clone();
        let mut job = Job::new(manifest.clone(), Arc::default(), stored.job, stored.tasks);
        if manifest.manifest().array_count == 1 {
            job.exit_code = job.exit_code_in(records.receipt(id, 0).await?.as_slice());
        }
        job.evidence = self.evidence(manifest).await;
        Ok(job.view())
    }

    /// Writes the evidence that a crash cut off, then deletes what is too old or too much, for ever.
    pub async fn keep_house(self) {
        self.complete().await;
        loop {
            self.retire(Timestamp::now()).await;
            tokio::select! {
                () = tokio::time::sleep(SWEEP_EVERY) => {}
                () = self.0.crowded.notified() => {}
            }
        }
    }

    async fn complete(&self) {
        let (past, ids) = (self.clone(), self.latest(None, usize::MAX));
        let place = move |id: &JobId| past.0.archive.evidence.join(id.to_string());
        let incomplete = tokio::task::spawn_blocking(move || {
            let without = ids.into_iter().filter(|id| !place(id).exists());
            without.collect::<Vec<_>>()
        });
        for id in incomplete.await.unwrap_or_default() {
            if let Err(fault) = self.view(id).await {
                tracing::warn!(job = %id, code = fault.code(), reason = fault.message(), "an ended job cannot be read");
            }
        }
    }

    async fn evidence(&self, manifest: Arc<VerifiedManifest>) -> Evidence {
        let (archive, id) = (&self.0.archive, manifest.job_id());
        let conclusion = Conclusion {
            manifest,
            records: archive.records.clone(),
            content: archive.content.clone(),
            key: archive.key.clone(),
            root: archive.evidence.clone(),
        };
        let _alone = self.0.writing.lock().await;
        Evidence::of(id, conclusion.write().await)
    }

    pub(super) async fn retire(&self, now: Timestamp) {
        let end = now
            .checked_sub(self.0.keeping.time)
            .unwrap_or(Timestamp::MIN);
        for (id, surplus) in self.candidates(end) {
            match self.retire_one(id, surplus, end).await {
                Ok(()) => {}
                Err(fault) => {
                    tracing::warn!(job = %id, code = fault.code(), reason = fault.message(), "records not deleted");
                }
            }
        }
    }

    /// Jobs that were made before `end`, of which some may have ended later, and the oldest of too many, which are
    /// marked.
    fn candidates(&self, end: Timestamp) -> Vec<(JobId, bool)> {
        let jobs = self.jobs();
        let surplus = jobs.len().saturating_sub(self.0.keeping.most);
        let numbered = jobs.keys().enumerate();
        numbered
            .map(|(at, id)| (*id, at < surplus))
            .take_while(|(id, surplus)| *surplus || id.made_at() < end)
            .collect()
    }

    async fn retire_one(&self, id: JobId, surplus: bool, end: Timestamp) -> Result<()> {
        let records = &self.0.archive.records;
        if !surplus {
            let stored = records.job(id).await?;
            let finished = stored.and_then(|stored| stored.job.finished_at);
            if finished.is_some_and(|at| at >= end) {
                return Ok(());
            }
        }
        records.remove(id).await?;
        self.jobs().remove(&id);
        let needed = self.0.archive.needed.clone();
        blocking(move || needed.retire(id)).await?;
        tracing::info!(job = %id, "the records of an ended job were deleted; its evidence stays");
        Ok(())
    }

    /// Pins what an ended job needs, unless that was done at its end.
    async fn need(&self, id: JobId) -> Result<()> {
        let Archive {
            records, needed, ..
        } = &self.0.archive;
        if needed.is_ended(id)? {
            return Ok(());
        }
        let receipts = records.receipts(id).await?;
        let Some(stored) = records.job(id).await? else {
            return Ok(());
        };
        let mut objects = needed::of_job(&stored.manifest)?;
        let named = receipts.iter().map(|receipt| receipt.receipt());
        objects.extend(named.flat_map(needed::of_receipt));
        self.pin(move |needed| needed.end_with(id, &objects)).await
    }

    /// Deletes the records of the oldest; false where there is none.
    pub(super) async fn retire_oldest(&self) -> Result<bool> {
        let oldest = self.jobs().keys().next().copied();
        match oldest {
            Some(id) => self
                .retire_one(id, true, Timestamp::MIN)
                .await
                .map(|()| true),
            None => Ok(false),
        }
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobId, JobState>> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// WC-019 for the manifest of a job that this node has had, also when its records were deleted since.
///
/// # Errors
/// Those of the store.
pub async fn check_unseen(records: &Records, id: JobId) -> Result<()> {
    match records.had(id).await? {
        true => Err(submitted_before(id)),
        false => Ok(()),
    }
}

pub fn submitted_before(id: JobId) -> Fault {
    Fault::wc(
        WcCode::AlreadyExists,
        format!("job {id} was submitted before"),
    )
    .hint("sign the manifest again to run it again")
}
