//! The JSON shapes of the control API (world-compute.md 1.H). They are a contract: fields are added, never changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use worldcompute_fault::Problem;
use worldcompute_image::{Listed, Progress};
use worldcompute_preempt::Report;
use worldcompute_proof::{Cid, PeerId};
use worldcompute_scheduler::manifest::Manifest;

/// `GET /v1/health`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Always `ok`: a daemon that cannot answer does not answer.
    pub status: String,
    /// The program's version.
    pub version: String,
    /// Who answers.
    pub peer_id: PeerId,
}

/// Load of the host, each in 0..=1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Processor time in use.
    pub cpu: f64,
    /// Accelerator time in use; 0 where there is none.
    pub gpu: f64,
    /// Memory in use.
    pub mem: f64,
}

/// A relay that keeps a circuit address for this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    /// The relay.
    pub relay: String,
    /// The circuit address others dial, once there is one.
    pub address: Option<String>,
    /// `requesting`, `active`, `renewing`, `lost` or `failed`.
    pub state: String,
    /// When the relay drops it unless renewed, RFC 3339.
    pub expires_at: Option<String>,
    /// Since when it stands where it does, RFC 3339; one that is held, since it was granted.
    #[serde(default)]
    pub since: Option<String>,
    /// How often it was renewed since it was granted.
    #[serde(default)]
    pub renewals: u64,
    /// Why the last attempt failed, while it is not held.
    #[serde(default)]
    pub last_error: Option<String>,
    /// When it was lost last, RFC 3339.
    #[serde(default)]
    pub lost_at: Option<String>,
    /// Why it was lost then.
    #[serde(default)]
    pub lost_because: Option<String>,
    /// How the relay is reached: `direct` or `hole_punched`.
    #[serde(default)]
    pub path: Option<String>,
    /// What the connection to the relay is made of: `quic`, `tcp` or `wss`.
    #[serde(default)]
    pub transport: Option<String>,
    /// The last round trip to the relay, in milliseconds.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
    /// Who sees that there is a connection to the relay.
    #[serde(default)]
    pub tier: Option<Tier>,
}

/// How far a connection is nobody else's business. What is said over it is, in every tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tier {
    /// Nobody on the way opens anything.
    Standard,
    /// A box on the way, which this machine was told to trust, opens its TLS.
    Inspected,
}

impl Tier {
    /// `Standard` or `Inspected`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "Standard",
            Self::Inspected => "Inspected",
        }
    }
}

/// `GET /v1/admin/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdminStatus {
    /// This node.
    pub peer_id: PeerId,
    /// The program's version.
    pub version: String,
    /// `relay`, `donor` or `submitter`, all that apply.
    pub roles: Vec<String>,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// What time it is by this machine's clock, RFC 3339: receipts and leases are dated by it.
    #[serde(default)]
    pub time: Option<String>,
    /// Addresses it listens on.
    pub listen: Vec<String>,
    /// Addresses at which others reach it, circuits included.
    pub addresses: Vec<String>,
    /// Open connections.
    pub connections: usize,
    /// Dials made since the start, by outcome.
    pub dials: BTreeMap<String, u64>,
    /// What came in since the start: requests `accepted`, answered `busy` and `malformed`, peers `blocked`, connections
    /// that came to nothing (`failed`), and what limits forbade of connections, reservations and circuits
    /// (`connections_refused`, `reservations_refused`, `circuits_refused`).
    #[serde(default)]
    pub inbound: BTreeMap<String, u64>,
    /// Its relay reservations.
    pub reservations: Vec<Reservation>,
    /// Peers that are shut out until they are let in again.
    #[serde(default)]
    pub banned: Vec<Ban>,
    /// Peers that are connected, by the tier of the connection.
    #[serde(default)]
    pub tiers: BTreeMap<Tier, usize>,
    /// Load of the host.
    pub load: Load,
    /// Jobs known to this submitter, by phase.
    pub jobs: BTreeMap<String, usize>,
    /// What is wrong with the record of the store's keys; `null` when nothing was when it was last verified.
    #[serde(default)]
    pub store_audit_broken: Option<String>,
}

/// Body of `POST /v1/admin/bans`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BanRequest {
    /// Whom to ban.
    pub subject_id: PeerId,
    /// Why, for whoever reads the list.
    pub reason: String,
}

/// A peer that is shut out: reply of `POST /v1/admin/bans` and of `DELETE /v1/admin/bans/{subject_id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ban {
    /// Who.
    pub subject_id: PeerId,
    /// Why.
    pub reason: String,
    /// Since when, RFC 3339.
    pub since: String,
}

/// What a donor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DonorState {
    /// Ready, nothing runs.
    Idle,
    /// At least one task runs.
    Running,
    /// Takes no tasks until resumed.
    Paused,
    /// Finishing what runs, then gone.
    Leaving,
}

/// `GET /v1/donor/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DonorStatus {
    /// This node.
    pub peer_id: PeerId,
    /// What it is doing.
    pub state: DonorState,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// Tasks that run now.
    pub running: usize,
    /// Tasks that may run at once.
    pub slots: usize,
    /// Tasks that ended here since the start, by status.
    pub finished: BTreeMap<String, u64>,
    /// Tasks refused since the start.
    pub refused: u64,
    /// The number of the latest sandbox exit ever recorded in this home.
    pub last_exit: u64,
    /// Classes this donor consented to.
    pub consent: Vec<String>,
    /// Digest of the policy that guards this machine.
    pub policy_digest: String,
    /// Whether the machine is its owner's now, what is watched to know that, and the last times that it was.
    #[serde(default)]
    pub yielding: Report,
}

/// `GET /v1/cluster/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// This node.
    pub peer_id: PeerId,
    /// Nodes that are present, this one included.
    pub nodes: usize,
    /// Of those, donors that announce capacity.
    pub donors: usize,
    /// Tasks that all donors that are not paused may run at once.
    pub slots: usize,
    /// `island` without any relay or public peer, else `merged`.
    pub reach: String,
    /// What to do, where no other node is known.
    #[serde(default)]
    pub alone: Option<String>,
}

/// One row of `GET /v1/cluster/peers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Who.
    pub peer_id: PeerId,
    /// Whether a connection is open.
    pub connected: bool,
    /// `direct`, `hole_punched` or `relayed`.
    pub path: String,
    /// What the connection is made of: `quic`, `tcp`, `wss` or `circuit`; empty without one.
    pub transport: String,
    /// Whether a box on the way, which this machine was told to trust, opens its TLS.
    pub inspected: bool,
    /// The same as a tier, while it is connected.
    #[serde(default)]
    pub tier: Option<Tier>,
    /// Round trip, in milliseconds, as last measured.
    pub rtt_ms: Option<f64>,
    /// What it calls itself.
    pub agent: Option<String>,
    /// Where it can be dialled.
    pub addresses: Vec<String>,
    /// Its announced capacity, when it is a donor.
    pub capacity: Option<PeerCapacity>,
}

/// What a donor announces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerCapacity {
    /// Tasks it may run at once.
    pub slots: u32,
    /// Largest memory of one task, MiB.
    pub memory_mb: u64,
    /// Its load, 0..=1.
    pub load: f64,
    /// Classes it consented to.
    pub classes: Vec<String>,
    /// Whether it takes no tasks at present.
    pub paused: bool,
}

/// Reply of `POST /v1/content`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContentAdded {
    /// The name of the bytes.
    pub cid: Cid,
}

/// One line of the reply of `POST /v1/images`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ImageEvent {
    /// It goes on.
    Progress(Progress),
    /// It is there: the last line.
    Imported(Listed),
    /// It is not: the last line.
    Failed(Problem),
}

/// Body of `POST /v1/jobs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum SubmitRequest {
    /// A manifest whose files are named by their content, to be signed by this node.
    #[serde(rename = "manifest")]
    Manifest(Box<Manifest>),
    /// Signed canonical CBOR in standard base64; its submitter must be this node.
    #[serde(rename = "signed_manifest", with = "in_base64")]
    Signed(Vec<u8>),
}

/// Bytes as standard base64 text.
mod in_base64 {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD
            .decode(String::deserialize(deserializer)?)
            .map_err(de::Error::custom)
    }
}

/// Reply of `POST /v1/jobs`, 202.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// The job's id.
    pub job_id: String,
    /// The signed manifest's name.
    pub manifest_cid: Cid,
    /// Its phase, `queued`.
    pub phase: String,
}

/// How many tasks are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// All of them.
    pub total: u32,
    /// Waiting for a donor.
    pub ready: u32,
    /// At a donor.
    pub running: u32,
    /// Ended with a verified receipt.
    pub accepted: u32,
    /// Given up.
    pub failed: u32,
}

/// Jobs on a page of `GET /v1/jobs` unless said.
pub const DEFAULT_PAGE: usize = 100;

/// The most jobs on a page of `GET /v1/jobs`.
pub const MAX_PAGE: usize = 1_000;

/// Query of `GET /v1/jobs`, which answers with the latest jobs, the oldest of them first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobPage {
    /// How many; [`DEFAULT_PAGE`] unless said, [`MAX_PAGE`] at most.
    pub limit: Option<usize>,
    /// Only jobs that are older than the one with this id: the first of the page before.
    pub before: Option<String>,
}

/// `GET /v1/jobs/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// The job's id.
    pub job_id: String,
    /// The name in the manifest.
    pub name: String,
    /// `queued`, `dispatching`, `running`, `verifying`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// The signed manifest's name.
    pub manifest_cid: Cid,
    /// RFC 3339.
    pub submitted_at: String,
    /// RFC 3339, once ended.
    pub ended_at: Option<String>,
    /// How many tasks are where.
    pub tasks: TaskCounts,
    /// Accepted tasks by donor.
    pub executors: BTreeMap<PeerId, u32>,
    /// Tasks handed out again after their donor was lost, so far.
    pub redispatched: u32,
    /// Why it waits or why it failed, in plain words.
    pub reason: Option<String>,
    /// The fault that ended it.
    pub error: Option<Problem>,
    /// For a job of one task: how the guest exited.
    pub exit_code: Option<i32>,
    /// Whether every accepted task's receipt was verified by this node: `None` until there is one.
    pub receipt_verified: Option<bool>,
    /// Where the evidence bundle lies, once written.
    pub evidence: Option<String>,
}

impl JobView {
    /// Whether nothing more will happen to it.
    pub fn is_ended(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed" | "cancelled")
    }
}

/// One line of `GET /v1/jobs/{id}/events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JobEvent {
    /// A task went to a donor.
    TaskStarted {
        /// Which task.
        task: u32,
        /// Which donor.
        executor: PeerId,
        /// Which try, from 1.
        attempt: u32,
    },
    /// A task's receipt was verified and its result kept.
    TaskAccepted {
        /// Which task.
        task: u32,
        /// Which donor.
        executor: PeerId,
        /// How it ended, as the receipt says.
        status: String,
    },
    /// A task was taken back from a donor.
    TaskLost {
        /// Which task.
        task: u32,
        /// Which donor.
        executor: PeerId,
        /// Why.
        reason: String,
    },
    /// The job as it now stands: first, on each change of phase, and last.
    Job {
        /// The whole view.
        job: Box<JobView>,
    },
}
