//! The submitter: takes jobs, hands their tasks to donors, checks what comes back, and keeps the evidence.
//!
//! One task owns the broker and its records ([`driver`]); everybody else speaks to it through a bounded queue. A job is on
//! disk before its submitter is told that it was accepted.

mod dispatch;
mod driver;
mod evidence;
mod job;
mod settle;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use gait::{Gate, Redeemed};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_stream::wrappers::BroadcastStream;
use tracing::{Instrument, debug_span};
use worldcompute_content::ContentStore;
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_mesh::Mesh;
use worldcompute_proof::{Cid, SigningKey};
use worldcompute_sandbox::check_workload;
use worldcompute_scheduler::JobId;
use worldcompute_scheduler::broker::Options;
use worldcompute_scheduler::manifest::VerifiedManifest;
use worldcompute_telemetry::CorrelationId;

use crate::api::{JobEvent, JobView, SubmitRequest, Submitted};
use crate::donor::Donor;
use driver::Driver;

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
    /// The way to donors.
    pub mesh: Mesh,
    /// The donor in this node, which needs no network.
    pub donor: Option<Donor>,
    /// Where evidence bundles go.
    pub evidence: PathBuf,
}

/// A handle on the submitter. Cheap to clone.
#[derive(Clone)]
pub struct Submitter {
    commands: mpsc::Sender<Command>,
    content: Arc<ContentStore>,
    gate: Arc<Gate>,
    key: SigningKey,
}

/// A job that the gate let through: only [`clear`] makes one.
struct Cleared {
    manifest: VerifiedManifest,
    trace: Vec<u8>,
    correlation: CorrelationId,
    _permit: Redeemed,
}

enum Command {
    Submit(Box<Cleared>, Options, oneshot::Sender<Result<JobView>>),
    List(oneshot::Sender<Vec<JobView>>),
    View(JobId, oneshot::Sender<Result<JobView>>),
    Cancel(JobId, String, oneshot::Sender<Result<JobView>>),
    Watch(
        JobId,
        oneshot::Sender<Result<(JobView, broadcast::Receiver<JobEvent>)>>,
    ),
    Output(JobId, u32, String, oneshot::Sender<Result<Cid>>),
    Stop(oneshot::Sender<()>),
}

impl Submitter {
    /// Loads what is on disk, resumes what was under way, and waits for jobs.
    ///
    /// # Errors
    /// Records that do not verify.
    pub async fn start(parts: SubmitterParts) -> Result<Self> {
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let submitter = Self {
            commands,
            content: parts.content.clone(),
            gate: parts.gate.clone(),
            key: parts.key.clone(),
        };
        let driver = Driver::load(parts, submitter.gate.clone()).await?;
        tokio::spawn(driver.run(queue));
        Ok(submitter)
    }

    /// Signs the manifest, asks the gate, and accepts the job: it is on disk when this returns. With patience, the job
    /// fails once no donor could take it for so long.
    ///
    /// # Errors
    /// WC-001 for a manifest that is not valid or names bytes that are not here; WC-014 for another's signature;
    /// `policy_blocked` when the gate says no; WC-019 for a signed manifest that was submitted before.
    pub async fn submit(
        &self,
        request: SubmitRequest,
        patience: Option<Duration>,
    ) -> Result<Submitted> {
        let manifest = debug_span!("sign_manifest").in_scope(|| self.signed(request))?;
        self.check_content(&manifest)?;
        let cleared = debug_span!("clear").in_scope(|| clear(&self.gate, manifest))?;
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

    /// Every job, oldest first.
    pub async fn list(&self) -> Result<Vec<JobView>> {
        self.ask(Command::List).await
    }

    /// One job.
    pub async fn view(&self, id: &str) -> Result<JobView> {
        let id = job_id(id)?;
        self.ask(|reply| Command::View(id, reply)).await?
    }

    /// Ends a job; what runs is told to stop.
    pub async fn cancel(&self, id: &str, reason: String) -> Result<JobView> {
        let id = job_id(id)?;
        self.ask(|reply| Command::Cancel(id, reason, reply)).await?
    }

    /// The job as it stands, then what happens to it, until it has ended.
    pub async fn watch(&self, id: &str) -> Result<impl Stream<Item = JobEvent> + Send + use<>> {
        let id = job_id(id)?;
        let (now, events) = self.ask(|reply| Command::Watch(id, reply)).await??;
        let ended = now.is_ended();
        let first = futures::stream::iter([JobEvent::Job { job: Box::new(now) }]);
        let later = BroadcastStream::new(events).filter_map(|event| async { event.ok() });
        let later = until_ended(later).take(if ended { 0 } else { usize::MAX });
        Ok(first.chain(later))
    }

    /// The bytes of one output of one accepted task.
    pub async fn result(&self, id: &str, task: u32, name: &str) -> Result<Bytes> {
        let (id, name) = (job_id(id)?, name.to_owned());
        let cid = self
            .ask(|reply| Command::Output(id, task, name, reply))
            .await??;
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
        check_workload(&self.content.get(&run.workload)?)
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

/// Asks the gate whether a job may be sent out.
fn clear(gate: &Gate, manifest: VerifiedManifest) -> Result<Cleared> {
    let intent = manifest.submit_intent()?;
    let decision = gate.decide(&intent)?;
    let permit = decision.permit()?.redeem(&intent.digest())?;
    let trace = decision.trace().bytes().to_vec();
    Ok(Cleared {
        manifest,
        trace,
        correlation: worldcompute_telemetry::current().unwrap_or_else(CorrelationId::random),
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
mod tests {
    use super::*;
    use blue_encrypted_store::{LocalFileKeyProvider, Store, StoreConfig, StorePath};
    use gait::{Policy, SystemClock};
    use worldcompute_content::Limits;
    use worldcompute_mesh::MeshConfig;
    use worldcompute_scheduler::manifest::Manifest;

    const MODULE: &[u8] = include_bytes!("../../../examples/hello/hello.wat");

    /// A submitter whose mesh has nobody else in it.
    async fn alone(directory: &std::path::Path) -> Submitter {
        let key = SigningKey::generate().unwrap();
        let keys = Arc::new(LocalFileKeyProvider::new(directory.join("keys/umk.key")));
        let store = Store::open(StoreConfig::new(StorePath::Memory), keys);
        let content = ContentStore::open(directory.join("content"), Limits::default());
        let (mesh, _) = Mesh::start(MeshConfig::new(key.clone())).await.unwrap();
        let policy = Policy::parse(gait::starter::submitter_policy().as_bytes()).unwrap();
        let gate = Gate::new(policy, key.clone(), SystemClock::shared());
        Submitter::start(SubmitterParts {
            key,
            gate: Arc::new(gate),
            store: store.await.unwrap(),
            content: Arc::new(content.unwrap()),
            mesh,
            donor: None,
            evidence: directory.join("evidence"),
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn an_accepted_job_has_its_decision_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        let submitter = alone(directory.path()).await;
        let module = submitter.content.put(MODULE).unwrap();
        let document = format!(
            "{{apiVersion: worldcompute/v1, kind: Job, metadata: {{name: test}}, spec: {{wasm: 'cid:{module}'}}}}"
        );
        let manifest = Manifest::parse(document.as_bytes()).unwrap();
        let manifest = manifest.resolve(|_| unreachable!()).unwrap();
        let before = submitter.content.used();
        let request = SubmitRequest::Manifest(Box::new(manifest));
        submitter.submit(request, None).await.unwrap();
        assert!(submitter.content.used() > before);
        submitter.stop().await.unwrap();
    }
}
