//! The jobs in the encrypted store: one partition per job, one transaction per [`Commit`].
//!
//! | record | id | cleartext | sealed |
//! |---|---|---|---|
//! | job (the partition's `meta`) | | state, counts, times | name, faults, reasons |
//! | `submission` | `manifest` | | the signed manifest, options |
//! | `task` | its index | state | leases with donors and reasons, fault |
//! | `receipt` | its index | | the receipt with both signatures |
//!
//! A task that nobody was asked to do has no record. Leases lie inside of their task, because they change together.

mod entities;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use blue_encrypted_store::{
    Batch, CrossPartition, Entity, Hint, Kind, META, Partition, PartitionVersion, Snapshot, Store,
};
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_ledger::receipt::SignedReceipt;

use crate::broker::{Commit, StoredJob};
use crate::manifest::VerifiedManifest;
use crate::{JobId, JobRecord, JobState};
use entities::{Job, Receipt, Submission, Task};

/// The records of every job in one store.
pub struct Records {
    store: Store,
    /// The jobs that are being written, so that each commit writes what changed and reads nothing.
    open: Mutex<HashMap<JobId, Arc<tokio::sync::Mutex<Open>>>>,
}

struct Open {
    partition: Partition,
    /// What the next commit builds on; `None` when it has to be read.
    version: Option<PartitionVersion>,
    /// Whether this process tried to write the job's first records: if they are there, they may be its own.
    began: bool,
}

impl Records {
    /// The records in `store`.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            open: Mutex::default(),
        }
    }

    /// Writes one commit, all or nothing. `receipts` are those of the commit, countersigned, in its order.
    ///
    /// A commit that failed can be written again, whether or not it took place.
    ///
    /// # Errors
    /// WC-019 for the first commit of a job that the store has had before; WC-015 when the receipts are not those of
    /// the commit; those of the store.
    pub async fn commit(
        &self,
        manifest: &VerifiedManifest,
        commit: &Commit,
        receipts: &[SignedReceipt],
    ) -> Result<()> {
        let batch = || batch(manifest, commit, receipts);
        let open = self.open(commit.job.id)?;
        let mut open = open.lock().await;
        // Taken out: whatever happens to this future, nothing is known until the store has answered.
        let known = open.version.take();
        open.version = Some(match known {
            Some(version) => open.partition.commit(batch()?, version).await?,
            None if commit.first && !open.began => self.begin(&mut open, commit, batch).await?,
            None => {
                let version = current_version(&open.partition).await?;
                open.partition.commit(batch()?, version).await?
            }
        });
        if commit.job.state.is_final() {
            self.close(commit.job.id);
        }
        Ok(())
    }

    /// Every job in the store, oldest first.
    ///
    /// Jobs are found by an index that is not authenticated and that DynamoDB brings up to date with a delay; what is
    /// read is verified, and rows of jobs that never were are passed over.
    ///
    /// # Errors
    /// Those of the store; WC-015 for a job whose records contradict each other or whose manifest does not verify.
    pub async fn load(&self) -> Result<Vec<StoredJob>> {
        self.load_in(&JobState::ALL).await
    }

    /// As [`Records::load`], without the jobs that came to their end.
    pub async fn load_open(&self) -> Result<Vec<StoredJob>> {
        let open: Vec<_> = JobState::ALL
            .into_iter()
            .filter(|state| !state.is_final())
            .collect();
        let mut jobs = self.load_in(&open).await?;
        jobs.retain(|stored| !stored.job.state.is_final());
        Ok(jobs)
    }

    /// The jobs that came to their end, and to which. What says so is not authenticated: it is for finding and counting.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn ended(&self) -> Result<BTreeMap<JobId, JobState>> {
        let mut ended = BTreeMap::new();
        for state in JobState::ALL.into_iter().filter(|state| state.is_final()) {
            let hints = self.hints_in(state).await?;
            ended.extend(hints.into_keys().map(|id| (id, state)));
        }
        Ok(ended)
    }

    /// Whether the store gives out the keys that jobs are written with. Reads nothing.
    ///
    /// # Errors
    /// Why not: for whoever promises to write one, since a commit that fails is tried again.
    pub async fn check_keys(&self) -> Result<()> {
        self.store.check_keys(Kind::JOB).await
    }

    /// Whether the store has, or ever had, a job of that id.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn had(&self, id: JobId) -> Result<bool> {
        let partition = self.store.partition(Kind::JOB, &id.to_string())?;
        Ok(partition.load().await?.is_some())
    }

    /// Deletes the records of a job that came to its end. That there was such a job stays known, so that its manifest
    /// never runs again.
    ///
    /// # Errors
    /// `job_open` for a job that has not come to its end; those of the store.
    pub async fn remove(&self, id: JobId) -> Result<()> {
        let Some(snapshot) = self.snapshot(id).await? else {
            return Ok(());
        };
        let Some(job) = snapshot.get::<Job>("")? else {
            return Err(foreign(id, "it has no job record"));
        };
        if !job.value().is_final() {
            return Err(still_open(id));
        }
        let mut batch = Batch::new();
        batch.delete(&job)?;
        delete_all::<Submission>(&mut batch, &snapshot)?;
        delete_all::<Task>(&mut batch, &snapshot)?;
        delete_all::<Receipt>(&mut batch, &snapshot)?;
        let partition = self.store.partition(Kind::JOB, &id.to_string())?;
        partition.commit(batch, snapshot.version()).await.map(drop)
    }

    /// One job; `None` when the store does not have it.
    ///
    /// # Errors
    /// As [`Records::load`].
    pub async fn job(&self, id: JobId) -> Result<Option<StoredJob>> {
        match self.snapshot(id).await? {
            Some(snapshot) => stored_job(id, &snapshot).map(Some),
            None => Ok(None),
        }
    }

    /// The receipts of the tasks that ran to their end, in the order of the tasks, with both signatures verified.
    ///
    /// # Errors
    /// As [`Records::load`]; WC-009 for a receipt that does not verify.
    pub async fn receipts(&self, id: JobId) -> Result<Vec<SignedReceipt>> {
        let Some(snapshot) = self.snapshot(id).await? else {
            return Ok(Vec::new());
        };
        let stored = snapshot.entities::<Receipt>()?;
        let mut receipts = stored
            .into_iter()
            .map(|receipt| receipt.into_value().open(id))
            .collect::<Result<Vec<_>>>()?;
        receipts.sort_by_key(|receipt| receipt.receipt().task_index);
        Ok(receipts)
    }

    /// The receipt of one task; `None` while there is none.
    ///
    /// # Errors
    /// As [`Records::receipts`].
    pub async fn receipt(&self, id: JobId, task: u32) -> Result<Option<SignedReceipt>> {
        let Some(snapshot) = self.snapshot(id).await? else {
            return Ok(None);
        };
        let stored = snapshot.get::<Receipt>(&task.to_string())?;
        stored
            .map(|receipt| receipt.into_value().open(id))
            .transpose()
    }

    async fn load_in(&self, states: &[JobState]) -> Result<Vec<StoredJob>> {
        let mut hints = BTreeMap::new();
        for state in states {
            hints.extend(self.hints_in(*state).await?);
        }
        let mut jobs = Vec::with_capacity(hints.len());
        let mut confirming = self.store.confirming();
        for (id, hint) in hints {
            if let Some(snapshot) = confirming.confirm(&hint).await? {
                jobs.push(stored_job(id, &snapshot)?);
            }
        }
        Ok(jobs)
    }

    async fn hints_in(&self, state: JobState) -> Result<BTreeMap<JobId, Hint>> {
        let hints = self.store.list(Kind::JOB, state.as_str()).await?;
        let hints = hints.into_iter().filter(|hint| hint.entity_type == META);
        let hints = hints.filter_map(|hint| Some((hint.partition.id.as_str().parse().ok()?, hint)));
        Ok(hints.collect())
    }

    /// `None` also for a job whose records were deleted.
    async fn snapshot(&self, id: JobId) -> Result<Option<Snapshot>> {
        let partition = self.store.partition(Kind::JOB, &id.to_string())?;
        let snapshot = partition.load().await?;
        Ok(snapshot.filter(|snapshot| !snapshot.is_empty()))
    }

    /// The first commit of a job, which is taken to be new: it is read only if the store says otherwise.
    async fn begin(
        &self,
        open: &mut Open,
        commit: &Commit,
        batch: impl Fn() -> Result<Batch>,
    ) -> Result<PartitionVersion> {
        let first = batch()?;
        open.began = true;
        match open.partition.commit(first, PartitionVersion::NONE).await {
            Err(fault) if fault.category() == Category::StateContention => {}
            ended => return ended,
        }
        if current_version(&open.partition).await? == PartitionVersion::NONE {
            return open
                .partition
                .commit(batch()?, PartitionVersion::NONE)
                .await;
        }
        self.close(commit.job.id);
        let message = format!("job {} was submitted before", commit.job.id);
        Err(Fault::wc(WcCode::AlreadyExists, message)
            .hint("sign the manifest again to run it again"))
    }

    fn open(&self, id: JobId) -> Result<Arc<tokio::sync::Mutex<Open>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(job) = open.get(&id) {
            return Ok(job.clone());
        }
        let partition = self.store.partition(Kind::JOB, &id.to_string())?;
        let job = Arc::new(tokio::sync::Mutex::new(Open {
            partition,
            version: None,
            began: false,
        }));
        open.insert(id, job.clone());
        Ok(job)
    }

    fn close(&self, id: JobId) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
    }
}

fn delete_all<E: Entity>(batch: &mut Batch, snapshot: &Snapshot) -> Result<()> {
    for stored in snapshot.entities::<E>()? {
        batch.delete(&stored)?;
    }
    Ok(())
}

/// What a commit builds on, read at the start and after a commit that failed.
async fn current_version(partition: &Partition) -> Result<PartitionVersion> {
    let snapshot = partition.load().await?;
    Ok(snapshot.map_or(PartitionVersion::NONE, |snapshot| snapshot.version()))
}

fn batch(
    manifest: &VerifiedManifest,
    commit: &Commit,
    receipts: &[SignedReceipt],
) -> Result<Batch> {
    let id = commit.job.id;
    if manifest.job_id() != id {
        return Err(foreign(id, "the manifest is of another job"));
    }
    let settled = commit
        .receipts
        .iter()
        .map(|settlement| settlement.lease.to_string());
    if !settled.eq(receipts
        .iter()
        .map(|receipt| receipt.receipt().lease_id.clone()))
    {
        return Err(foreign(id, "the receipts are not those of the commit"));
    }
    let mut batch = Batch::new();
    batch.put(Job::from(commit.job.clone()))?;
    if commit.first {
        batch.put(Submission::of(manifest, &commit.options)?)?;
    }
    for task in &commit.tasks {
        batch.put(Task::from(task.clone()))?;
    }
    for receipt in receipts {
        batch.put(Receipt::of(receipt))?;
    }
    Ok(batch)
}

fn stored_job(id: JobId, snapshot: &Snapshot) -> Result<StoredJob> {
    let job = snapshot
        .get::<Job>("")?
        .ok_or_else(|| foreign(id, "it has no job record"))?;
    let job = JobRecord::from(job.into_value());
    if job.id != id {
        return Err(foreign(id, "the job record is of another job"));
    }
    let submission = snapshot.get::<Submission>(Submission::ID)?;
    let submission = submission
        .ok_or_else(|| foreign(id, "what was submitted is missing"))?
        .into_value();
    let (manifest, options) = submission.open(id)?;
    let stored = snapshot.entities::<Task>()?.into_iter();
    let opened = stored.map(|task| task.into_value().open(id));
    let mut tasks = opened.collect::<Result<Vec<_>>>()?;
    tasks.sort_by_key(|task| task.index);
    if tasks
        .last()
        .is_some_and(|task| task.index >= manifest.manifest().array_count)
    {
        return Err(foreign(id, "a task lies outside of the array"));
    }
    Ok(StoredJob {
        job,
        manifest: Arc::new(manifest),
        options,
        tasks,
    })
}

fn still_open(id: JobId) -> Fault {
    let message = format!("job {id} has not come to its end");
    Fault::new(Category::InvalidInput, "job_open", message).hint("cancel it first")
}

/// WC-015: the store holds what this program does not write.
fn foreign(id: JobId, why: &str) -> Fault {
    Fault::wc(
        WcCode::Internal,
        format!("the records of job {id} contradict each other: {why}"),
    )
    .hint("restore the store from a backup")
}
