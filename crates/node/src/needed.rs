//! What must not be collected from the content store, because a job of this node needs it.
//!
//! | what | how it is kept | until |
//! |---|---|---|
//! | module, standard input and inputs of an open job, its decisions | pin `job:<id>`, written when it is accepted | its records are deleted |
//! | results of an open job | [`Held`] in memory; from its receipts after a restart | it ends |
//! | the layers of its image | [`Held`] in memory, beside the pin of the image; pin `results:<id>` from its end on | its records are deleted |
//! | the same of a job that has ended | pin `results:<id>`, written when it ends | its records are deleted |
//!
//! Pins and records are two writes, and a crash may come between them. A job is accepted when both are on disk: the next
//! start makes the pin of a job that has records only, and removes that of one that has none. At its end the records come
//! first: they name its results, and the pin is made of them at the next start if it is not there. When it is deleted
//! they go first: a pin that nobody is left to need is removed at the next start, whereas records without their pin
//! would name bytes that are gone. Until all of this is done nothing is collected.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use worldcompute_content::{ContentStore, Held, MAX_PIN_OBJECTS, PinName};
use worldcompute_fault::Result;
use worldcompute_ledger::receipt::Receipt;
use worldcompute_proof::Cid;
use worldcompute_scheduler::JobId;
use worldcompute_scheduler::manifest::VerifiedManifest;
use worldcompute_scheduler::records::Records;

use crate::donor;

/// The pin of what a job was accepted with.
const ACCEPTED: &str = "job";

/// The pin of all that a job that has ended needs.
const ENDED: &str = "results";

/// What the jobs of this node need. Cheap to clone.
#[derive(Clone)]
pub struct Needed(Arc<Inner>);

struct Inner {
    content: Arc<ContentStore>,
    open: Mutex<HashMap<JobId, BTreeMap<Cid, Held>>>,
}

impl Needed {
    /// What is pinned there already; nothing is held yet.
    pub fn of(content: Arc<ContentStore>) -> Self {
        Self(Arc::new(Inner {
            content,
            open: Mutex::default(),
        }))
    }

    /// A job is open from now on, and holds these.
    pub fn open(&self, job: JobId, held: Vec<Held>) {
        self.holds().entry(job).or_default();
        self.add(job, held);
    }

    /// An open job holds these too. What comes for one that has ended is let go.
    pub fn add(&self, job: JobId, held: Vec<Held>) {
        if let Some(holds) = self.holds().get_mut(&job) {
            holds.extend(held.into_iter().map(|held| (*held.cid(), held)));
        }
    }

    /// Keeps these for a job, durably, for as long as there are records of it.
    ///
    /// # Errors
    /// Those of [`ContentStore::pin`].
    pub fn accept(&self, job: JobId, objects: impl IntoIterator<Item = Cid>) -> Result<()> {
        self.0.content.pin(&pin(ACCEPTED, job, 0)?, objects)
    }

    /// Keeps all that an open job holds, durably, for as long as there are records of it; it holds nothing more.
    ///
    /// # Errors
    /// Those of [`ContentStore::pin`]; the job then holds what it held.
    pub fn end(&self, job: JobId) -> Result<()> {
        let objects: Vec<Cid> = match self.holds().get(&job) {
            Some(holds) => holds.keys().copied().collect(),
            None => return Ok(()),
        };
        self.end_with(job, &objects)?;
        self.holds().remove(&job);
        Ok(())
    }

    /// Keeps these for a job that has ended. The part that says that all are kept is written last.
    ///
    /// # Errors
    /// Those of [`ContentStore::pin`].
    pub fn end_with(&self, job: JobId, objects: &[Cid]) -> Result<()> {
        let parts = objects.chunks(MAX_PIN_OBJECTS).enumerate().skip(1);
        for (number, part) in parts {
            self.0
                .content
                .pin(&pin(ENDED, job, number)?, part.iter().copied())?;
        }
        let first = objects.iter().take(MAX_PIN_OBJECTS).copied();
        self.0.content.pin(&pin(ENDED, job, 0)?, first)
    }

    /// Whether all that a job needs after its end is kept.
    ///
    /// # Errors
    /// None for the id of a job.
    pub fn is_ended(&self, job: JobId) -> Result<bool> {
        Ok(self.0.content.pinned(&pin(ENDED, job, 0)?).is_some())
    }

    /// There are no records of the job any more.
    ///
    /// # Errors
    /// What the disk says; the next start tries again.
    pub fn retire(&self, job: JobId) -> Result<()> {
        self.holds().remove(&job);
        let content = &self.0.content;
        content.unpin(&pin(ACCEPTED, job, 0)?)?;
        content.unpin(&pin(ENDED, job, 0)?)?;
        let mut part = 1;
        while content.unpin(&pin(ENDED, job, part)?)? {
            part += 1;
        }
        Ok(())
    }

    /// Removes the pins of all jobs that nobody knows, as a crash leaves them.
    ///
    /// # Errors
    /// What the disk says.
    pub fn retire_unknown(&self, is_known: impl Fn(JobId) -> bool) -> Result<()> {
        for pin in self.0.content.pins() {
            if job_of(&pin).is_some_and(|job| !is_known(job)) {
                self.0.content.unpin(&pin)?;
            }
        }
        Ok(())
    }

    /// From now on the store makes room by itself: all that anybody needs has to be pinned or held.
    pub fn collect_when_full(&self) {
        self.0.content.collect_when_full();
    }

    fn holds(&self) -> MutexGuard<'_, HashMap<JobId, BTreeMap<Cid, Held>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds all of these.
pub fn hold<'a>(content: &ContentStore, objects: impl IntoIterator<Item = &'a Cid>) -> Vec<Held> {
    let held = objects.into_iter().map(|cid| content.hold(cid));
    held.collect()
}

/// The content that every task of a job takes.
///
/// # Errors
/// Those of [`VerifiedManifest::task`].
pub fn of_job(manifest: &VerifiedManifest) -> Result<Vec<Cid>> {
    Ok(donor::needed(&manifest.task(0)?).copied().collect())
}

/// What the image of a job is made of, which is held while the job is open: it has a pin of its own until somebody lets
/// it go. Nothing for a job of modules.
///
/// # Errors
/// Those of [`donor::parts_of`].
pub fn of_image(content: &ContentStore, manifest: &VerifiedManifest) -> Result<Vec<Cid>> {
    donor::parts_of(content, &manifest.task(0)?)
}

/// The content that a receipt names: results, and the decisions that it rests on.
pub fn of_receipt(receipt: &Receipt) -> impl Iterator<Item = &Cid> {
    let outcome = &receipt.outcome;
    let printed = [&outcome.stdout_cid, &outcome.stderr_cid];
    let decided = [
        &receipt.decision.trace_cid,
        &receipt.submitter_decision.trace_cid,
    ];
    let files = outcome.outputs.iter().map(|output| &output.cid);
    printed.into_iter().chain(decided).chain(files)
}

/// Holds what the jobs of these records need, as far as it is not pinned: for whoever has the home while no daemon runs.
///
/// # Errors
/// Those of the store: of a job that cannot be read it is not known what it needs.
pub async fn of_records(records: &Records, content: &Arc<ContentStore>) -> Result<Vec<Held>> {
    let needed = Needed::of(content.clone());
    let open = records.load_open().await?.into_iter();
    let mut jobs: Vec<JobId> = open.map(|stored| stored.job.id).collect();
    for id in records.ended().await?.into_keys() {
        if !needed.is_ended(id)? {
            jobs.push(id);
        }
    }
    let mut held = Vec::new();
    for id in jobs {
        if let Some(stored) = records.job(id).await? {
            held.extend(hold(content, &of_job(&stored.manifest)?));
            // An image that cannot be read any more has nothing left to hold.
            let parts = of_image(content, &stored.manifest).unwrap_or_default();
            held.extend(hold(content, &parts));
        }
        for receipt in records.receipts(id).await? {
            held.extend(hold(content, of_receipt(receipt.receipt())));
        }
    }
    Ok(held)
}

fn pin(kind: &str, job: JobId, part: usize) -> Result<PinName> {
    match part {
        0 => format!("{kind}:{job}").parse(),
        part => format!("{kind}:{job}:{part}").parse(),
    }
}

/// Whose pin it is; `None` for one that is no job's.
fn job_of(pin: &PinName) -> Option<JobId> {
    let mut parts = pin.as_str().split(':');
    let kind = parts.next()?;
    let job = parts.next()?.parse().ok()?;
    [ACCEPTED, ENDED].contains(&kind).then_some(job)
}

#[cfg(test)]
mod tests;
