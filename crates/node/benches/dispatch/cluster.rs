//! The nodes, and what is asked of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::api::{JobEvent, JobView, SubmitRequest};
use worldcompute_node::manifest::Manifest;
use worldcompute_node::{Config, Home, Node, NodeOptions, Roles, Running, Storage};
use worldcompute_proof::Cid;

/// The module of every task: prints one line.
const MODULE: &[u8] = include_bytes!("../../../../examples/hello/hello.wat");

/// How long donors may take to be seen.
const MEETING_TIME: Duration = Duration::from_secs(30);

/// Between two looks at who is there.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A relay, donors behind it, and a submitter behind it.
pub struct Cluster {
    directory: tempfile::TempDir,
    relay: Running,
    relay_address: String,
    donors: Vec<Running>,
    submitter: Running,
}

/// What became of a job, and when.
pub struct Course {
    /// The job was handed over.
    pub submitted: Instant,
    /// It was on disk, and its first dispatch began.
    pub accepted: Instant,
    /// Its last receipt was verified, countersigned and on disk.
    pub settled: Instant,
    /// Its evidence was on disk.
    pub ended: Instant,
}

impl Cluster {
    /// Starts all nodes, and waits until the submitter sees the donors.
    pub async fn start(donors: usize) -> Result<Self> {
        let directory =
            tempfile::tempdir().map_err(|error| Fault::io("make a directory", &error))?;
        let relay = start(directory.path(), "relay", Roles::RELAY, None).await?;
        let relay_address = loopback(relay.node()).await?;
        let behind = Some(relay_address.as_str());
        let mut started = Vec::new();
        for number in 0..donors {
            let name = format!("donor-{number}");
            started.push(start(directory.path(), &name, Roles::DONOR, behind).await?);
        }
        let submitter = start(directory.path(), "submitter", Roles::SUBMITTER, behind).await?;
        let cluster = Self {
            directory,
            relay,
            relay_address,
            donors: started,
            submitter,
        };
        cluster.meet(donors).await?;
        Ok(cluster)
    }

    /// Waits until the submitter sees so many donors.
    pub async fn meet(&self, donors: usize) -> Result<()> {
        let all_there = async {
            while self.node().cluster_status().await?.donors < donors {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        tokio::time::timeout(MEETING_TIME, all_there)
            .await
            .unwrap_or_else(|_| Err(broken("the donors did not appear through the relay")))
    }

    /// The submitter.
    pub fn node(&self) -> &Node {
        self.submitter.node()
    }

    /// The donors.
    pub fn donors(&self) -> impl Iterator<Item = &Node> {
        self.donors.iter().map(Running::node)
    }

    /// Where the relay is dialled.
    pub fn relay_address(&self) -> &str {
        &self.relay_address
    }

    /// For further nodes' homes.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// How the submitter is connected to donors: `relayed`, unless something went wrong.
    pub async fn paths(&self) -> Result<BTreeSet<String>> {
        let peers = self.node().cluster_peers().await?;
        let donors = peers.into_iter().filter(|peer| peer.capacity.is_some());
        Ok(donors
            .filter(|peer| peer.connected)
            .map(|peer| peer.path)
            .collect())
    }

    /// A job of so many tasks that each print a line.
    pub async fn job(&self, tasks: u32) -> Result<Manifest> {
        let module = self.node().add_content(MODULE.into()).await?;
        manifest(&module, tasks)
    }

    /// Hands a job over, and follows it to its end.
    pub async fn run(&self, manifest: Manifest) -> Result<Course> {
        let tasks = manifest.array_count;
        let submitted = Instant::now();
        let request = SubmitRequest::Manifest(Box::new(manifest));
        let id = self.node().submitter().submit(request, None).await?.job_id;
        let accepted = Instant::now();
        let mut settled = None;
        let mut left = tasks;
        let mut events = std::pin::pin!(self.node().submitter().watch(&id).await?);
        while let Some(event) = events.next().await {
            left -= u32::from(matches!(event, JobEvent::TaskAccepted { .. }));
            let job = match event {
                JobEvent::Job { job } => Some(job),
                _ => None,
            };
            if left == 0 || job.as_ref().is_some_and(|job| job.tasks.accepted == tasks) {
                settled.get_or_insert_with(Instant::now);
            }
            if let Some(job) = job.filter(|job| job.is_ended()) {
                check(&job)?;
                return Ok(Course {
                    submitted,
                    accepted,
                    settled: settled.ok_or_else(|| broken("the job ended without receipts"))?,
                    ended: Instant::now(),
                });
            }
        }
        Err(broken("the submitter stopped telling how the job stands"))
    }

    /// Ends every node.
    pub async fn stop(self) -> Result<()> {
        self.submitter.stop().await?;
        for donor in self.donors {
            donor.stop().await?;
        }
        self.relay.stop().await
    }
}

async fn start(root: &Path, name: &str, roles: Roles, behind: Option<&str>) -> Result<Running> {
    let config = Config {
        port: 0,
        mdns: false,
        circuit_only: behind.is_some(),
        bootstrap: behind.into_iter().map(String::from).collect(),
        ..Config::default()
    };
    Node::start(NodeOptions {
        home: Home::at(root.join(name)),
        config,
        roles,
        exact_port: false,
        storage: Storage::InHome,
    })
    .await
}

async fn loopback(relay: &Node) -> Result<String> {
    let addresses = relay.reachable_at().await?;
    addresses
        .into_iter()
        .find(|address| address.starts_with("/ip4/127.0.0.1/tcp/"))
        .ok_or_else(|| broken("the relay does not listen on loopback"))
}

fn manifest(module: &Cid, tasks: u32) -> Result<Manifest> {
    let document = format!(
        "{{apiVersion: worldcompute/v1, kind: Job, metadata: {{name: bench}}, spec: {{wasm: 'cid:{module}', \
         array: {{count: {tasks}}}, resources: {{memory: 1Mi}}, max_wall_time: 10s}}}}"
    );
    Manifest::parse(document.as_bytes())?.resolve(|file| Err(broken(&format!("no file {file}"))))
}

fn check(job: &JobView) -> Result<()> {
    let whole = job.status == "completed"
        && job.tasks.accepted == job.tasks.total
        && job.receipt_verified == Some(true)
        && job.evidence.is_some();
    match (whole, &job.error) {
        (true, _) => Ok(()),
        (false, Some(problem)) => Err(Fault::from_problem(problem.clone())),
        (false, None) => Err(broken("a job ended without evidence")),
    }
}

/// The bench itself did not come about.
pub fn broken(why: &str) -> Fault {
    Fault::new(Category::InternalFailure, "bench_broken", why.to_owned())
}
