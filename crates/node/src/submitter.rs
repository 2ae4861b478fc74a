//! The submitter: takes jobs, hands their tasks to donors, checks what comes back, and keeps the evidence.
//!
//! One task owns the broker and its records ([`driver`]); everybody else speaks to it through a bounded queue. A job is on
//! disk before its submitter is told that it was accepted.

mod dispatch;
mod driver;
mod evidence;
mod job;
mod past;
pub(crate) mod settle;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use gait::{Gate, Redeemed};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_stream::wrappers::BroadcastStream;
use tracing::{Instrument, debug_span};
use worldcompute_content::{ContentStore, Held};
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_image::Image;
use worldcompute_mesh::Mesh;
use worldcompute_proof::{Cid, SigningKey};
use worldcompute_sandbox::{Profile, RunRequest, check_workload};
use worldcompute_scheduler::JobId;
use worldcompute_scheduler::broker::Options;
use worldcompute_scheduler::manifest::VerifiedManifest;
use worldcompute_scheduler::records::Records;
use worldcompute_telemetry::CorrelationId;

use crate::api::{DEFAULT_PAGE, JobEvent, JobPage, JobView, MAX_PAGE, SubmitRequest, Submitted};
use crate::donor::{Donor, MAX_OBJECT_BYTES, overrides};
use crate::needed::{self, Needed};
use crate::served::Served;
use driver::Driver;
use past::{Archive, Keeping, MAX_PAST_JOBS, Past, check_unseen};

/// Questions that wait for the driver; askers beyond that wait themselves.
const COMMAND_QUEUE: usize = 64;

/// Events a watcher may lag behind before it is shown the job as a whole again.
const EVENT_QUEUE: usize = 4096;

/// What a submitter is made of.
pub struct SubmitterParts {
    /// Signs manifests, decisions and receipts.
    pub key: SigningKey,
    /// What may be sent out.
    pub gate: Arc<Gate>,
    /// Where jobs are kept.
    pub store: blue_encrypted_store::Store,
    /// Modules, inputs and results.
    pub content: Arc<ContentStore>,
    /// How much of them each donor has fetched.
    pub served: Arc<Served>,
    /// The way to donors.
    pub mesh: Mesh,
    /// The donor in this node, which needs no network.
    pub donor: Option<Donor>,
    /// Where evidence bundles go.
    pub evidence: PathBuf,
    /// For how long a job that has ended is kept.
    pub retention: Duration,
}

/// A handle on the submitter. Cheap to clone.
#[derive(Clone)]
pub struct Submitter {
    commands: mpsc::Sender<Command>,
    content: Arc<ContentStore>,
    gate: Arc<Gate>,
    key: SigningKey,
    records: Arc<Records>,
    past: Past,
}

/// A job that the gate let through: only [`clear`] makes one.
struct Cleared {
    manifest: VerifiedManifest,
    trace: Vec<u8>,
    correlation: CorrelationId,
    /// What its tasks take.
    held: Vec<Held>,
    _permit: Redeemed,
}

enum Command {
    Submit(Box<Cleared>, Options, oneshot::Sender<Result<JobView>>),
    /// The jobs that are not past.
    List(oneshot::Sender<Vec<(JobId, JobView)>>),
    View(JobId, oneshot::Sender<Result<JobView>>),
    Cancel(JobId, String, oneshot::Sender<Result<JobView>>),
    Watch(
        JobId,
        oneshot::Sender<Result<(JobView, broadcast::Receiver<JobEvent>)>>,
    ),
    Stop(oneshot::Sender<()>),
}

impl Submitter {
    /// Loads what is on disk, resumes what was under way, and waits for jobs.
    ///
    /// # Errors
    /// Records that do not verify.
    pub async fn start(parts: SubmitterParts) -> Result<Self> {
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let records = Arc::new(Records::new(parts.store.clone()));
        let archive = Archive {
            records: records.clone(),
            content: parts.content.clone(),
            needed: Needed::of(parts.content.clone()),
            key: parts.key.clone(),
            evidence: parts.evidence.clone(),
        };
        let keeping = Keeping {
            time: parts.retention,
            most: MAX_PAST_JOBS,
        };
        let needed = archive.needed.clone();
        let past = Past::load(archive, keeping).await?;
        let submitter = Self {
            commands,
            content: parts.content.clone(),
            gate: parts.gate.clone(),
            key: parts.key.clone(),
            records: records.clone(),
            past: past.clone(),
        };
        let driver = Driver::load(parts, records, past, needed).await?;
        tokio::spawn(driver.run(queue));
        Ok(submitter)
    }

    /// Signs the manifest, asks the gate, and accepts the job: it is on disk when this returns. With patience, the job
    /// fails once no donor could take it for so long.
    ///
    /// # Errors
    /// WC-001 for a manifest that is not valid or names bytes that are not here; WC-014 for another's signature;
    /// `policy_blocked` when the gate says no, `key_release_denied` when it keeps back the keys of jobs; WC-019 for a signed manifest that was submitted before.
    pub async fn submit(
        &self,
        request: SubmitRequest,
        patience: Option<Duration>,
    ) -> Result<Submitted> {
        let came_signed = matches!(request, SubmitRequest::Signed(_));
        let manifest = debug_span!("sign_manifest").in_scope(|| self.signed(request))?;
        if came_signed {
            check_unseen(&self.records, manifest.job_id()).await?;
        }
        let mut held = needed::hold(&self.content, &needed::of_job(&manifest)?);
        let parts = needed::of_image(&self.content, &manifest)?;
        held.extend(needed::hold(&self.content, &parts));
        self.check_content(&manifest)?;
        self.records.check_keys().await?;
        let cleared = debug_span!("clear").in_scope(|| clear(&self.gate, manifest, held))?;
        let manifest_cid = *cleared.manifest.cid();
        let options = Options {
            patience,
            ..Options::default()
        };
        let submission = |reply| Command::Submit(Box::new(cleared), options, reply);
        let view = self
            .ask(submission)
            .instrument(debug_span!("accept"))
            .await??;
        tracing::info!(job = %view.job_id, tasks = view.tasks.total, "job accepted");
        Ok(Submitted {
            job_id: view.job_id,
            manifest_cid,
            phase: view.status,
        })
    }

    /// A page of the jobs, oldest first.
    ///
    /// # Errors
    /// WC-018 for a page that does not begin at a job's id; those of the store.
    pub async fn list(&self, page: &JobPage) -> Result<Vec<JobView>> {
        let end = page.before.as_deref().map(job_id).transpose()?;
        let most = page.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
        let past = self.past.latest(end, most).into_iter();
        let mut jobs: BTreeMap<JobId, Option<JobView>> = past.map(|id| (id, None)).collect();
        let open = self.ask(Command::List).await?.into_iter();
        let earlier = open.filter(|(id, _)| end.is_none_or(|end| *id < end));
        jobs.extend(earlier.map(|(id, view)| (id, Some(view))));
        let surplus = jobs.len().saturating_sub(most);
        let mut views = Vec::with_capacity(most);
        for (id, view) in jobs.into_iter().skip(surplus) {
            views.extend(match view {
                Some(view) => Some(view),
                None => unless_gone(self.past.view(id).await)?,
            });
        }
        Ok(views)
    }

    /// How many jobs there are in each phase.
    pub async fn counts(&self) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for (_, view) in self.ask(Command::List).await? {
            *counts.entry(view.status).or_default() += 1;
        }
        for (state, count) in self.past.counts() {
            *counts.entry(state.as_str().to_owned()).or_default() += count;
        }
        Ok(counts)
    }

    /// One job.
    pub async fn view(&self, id: &str) -> Result<JobView> {
        let id = job_id(id)?;
        match unless_gone(self.ask(|reply| Command::View(id, reply)).await?)? {
            Some(view) => Ok(view),
            None => self.past.view(id).await,
        }
    }

    /// Ends a job; what runs is told to stop.
    pub async fn cancel(&self, id: &str, reason: String) -> Result<JobView> {
        let id = job_id(id)?;
        self.ask(|reply| Command::Cancel(id, reason, reply)).await?
    }

    /// The job as it stands, then what happens to it, until it has ended.
    pub async fn watch(&self, id: &str) -> Result<impl Stream<Item = JobEvent> + Send + use<>> {
        let id = job_id(id)?;
        let watched = self.ask(|reply| Command::Watch(id, reply)).await?;
        let (now, events) = match unless_gone(watched)? {
            Some(watched) => watched,
            None => (self.past.view(id).await?, broadcast::channel(1).1),
        };
        let ended = now.is_ended();
        let first = futures::stream::iter([JobEvent::Job { job: Box::new(now) }]);
        let later = BroadcastStream::new(events).filter_map(|event| async { event.ok() });
        let later = until_ended(later).take(if ended { 0 } else { usize::MAX });
        Ok(first.chain(later))
    }

    /// The bytes of one output of one accepted task.
    pub async fn result(&self, id: &str, task: u32, name: &str) -> Result<Bytes> {
        let cid = output_of(&self.records, job_id(id)?, task, name).await?;
        let content = self.content.clone();
        let read = tokio::task::spawn_blocking(move || content.get(&cid)).await;
        read.map_err(|_| gone())?.map(Bytes::from)
    }

    /// Writes what is settled and ends.
    pub async fn stop(&self) -> Result<()> {
        self.ask(Command::Stop).await
    }

    fn signed(&self, request: SubmitRequest) -> Result<VerifiedManifest> {
        match request {
            SubmitRequest::Manifest(manifest) => manifest.sign(&self.key),
            SubmitRequest::Signed(bytes) => {
                let manifest = VerifiedManifest::open(&bytes)?;
                if *manifest.submitter() != self.key.peer_id() {
                    return Err(Fault::wc(
                        WcCode::Unauthorized,
                        format!(
                            "the manifest is signed by {}, not by this node",
                            manifest.submitter()
                        ),
                    )
                    .hint("submit it on the node that signed it"));
                }
                Ok(manifest)
            }
        }
    }

    fn check_content(&self, manifest: &VerifiedManifest) -> Result<()> {
        let run = manifest.task(0)?;
        let named = std::iter::once(&run.workload)
            .chain(&run.stdin)
            .chain(run.inputs.iter().map(|input| &input.cid));
        for cid in named {
            if !self.content.has(cid)? {
                return Err(Fault::wc(
                    WcCode::InvalidManifest,
                    format!("{cid} is not in this node's content store"),
                )
                .hint("name the file itself in the manifest, or add its bytes first"));
            }
        }
        match run.profile {
            Profile::Deterministic { .. } => check_workload(&self.content.get(&run.workload)?),
            Profile::MicroVm { .. } => check_image(&self.content, &run),
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// Whether an image is here as a whole, and can be fetched and run.
fn check_image(content: &ContentStore, run: &RunRequest) -> Result<()> {
    let image = Image::read(content, &run.workload)?;
    image.config().process(&overrides(run))?;
    for part in image.parts() {
        let cid = part.cid();
        if !content.has(&cid)? {
            let message =
                format!("{cid}, a part of the image, is not in this node's content store");
            return Err(Fault::wc(WcCode::InvalidManifest, message)
                .hint("import the image again: worldcompute image import"));
        }
        if part.size() > MAX_OBJECT_BYTES {
            let message = format!(
                "the part {cid} of the image has {} bytes; donors fetch {MAX_OBJECT_BYTES} in one piece",
                part.size()
            );
            return Err(Fault::wc(WcCode::InvalidManifest, message)
                .hint("build the image of smaller layers"));
        }
    }
    Ok(())
}

/// Asks the gate whether a job may be sent out.
fn clear(gate: &Gate, manifest: VerifiedManifest, held: Vec<Held>) -> Result<Cleared> {
    let intent = manifest.submit_intent()?;
    let decision = gate.decide(&intent)?;
    let permit = decision.permit()?.redeem(&intent.digest())?;
    let trace = decision.trace().bytes().to_vec();
    Ok(Cleared {
        manifest,
        trace,
        correlation: worldcompute_telemetry::current().unwrap_or_else(CorrelationId::random),
        held,
        _permit: permit,
    })
}

/// Ends a stream behind the event that shows the job as ended.
fn until_ended(events: impl Stream<Item = JobEvent> + Send) -> impl Stream<Item = JobEvent> + Send {
    events.scan(false, |ended, event| {
        let over = std::mem::replace(
            ended,
            matches!(&event, JobEvent::Job { job } if job.is_ended()),
        );
        std::future::ready((!over).then_some(event))
    })
}

async fn output_of(records: &Records, id: JobId, task: u32, name: &str) -> Result<Cid> {
    let receipt = records
        .receipt(id, task)
        .await?
        .ok_or_else(|| no_output(task, name))?;
    let outcome = &receipt.receipt().outcome;
    match name {
        "stdout" => Ok(outcome.stdout_cid),
        "stderr" => Ok(outcome.stderr_cid),
        name => outcome
            .outputs
            .iter()
            .find(|output| output.name == name)
            .map(|output| output.cid)
            .ok_or_else(|| no_output(task, name)),
    }
}

fn no_output(task: u32, name: &str) -> Fault {
    Fault::wc(
        WcCode::NotFound,
        format!("task {task} has no result {name:?}"),
    )
    .hint("'worldcompute job status' shows whether the task has ended")
}

/// What is not among the open jobs may be past, and what was past may be deleted by now.
fn unless_gone<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(fault) if fault.number() == Some(WcCode::NotFound) => Ok(None),
        found => found.map(Some),
    }
}

fn job_id(text: &str) -> Result<JobId> {
    text.parse().map_err(|_| no_such_job(text))
}

fn no_such_job(id: &str) -> Fault {
    Fault::wc(WcCode::NotFound, format!("no job {id}"))
        .hint("'worldcompute job list' shows the jobs of this node")
}

fn gone() -> Fault {
    Fault::new(
        Category::NetworkTransient,
        "shutting_down",
        "this node is shutting down",
    )
    .hint("start it again, then repeat the request")
}

#[cfg(test)]
mod tests;
