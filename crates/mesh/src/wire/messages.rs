//! The messages themselves.

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};
use worldcompute_proof::{Cid, PeerId};

use super::bounded::{List, MaybeText, Names, Text};
use super::{
    MAX_ADDRESSES, MAX_CLASSES, MAX_ID, MAX_INPUTS, MAX_NAME, MAX_OUTPUTS, MAX_RELAY_ADDRESSES,
    MAX_RELAYS, MAX_TEXT,
};

/// Asks a donor whether it would take a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfferRequest {
    /// The submitter's name for the task.
    #[serde(with = "Text::<MAX_ID>")]
    pub task_id: String,
    /// The signed manifest it belongs to.
    pub manifest_cid: Cid,
    /// Cores it needs.
    pub min_cpu_cores: u32,
    /// Memory it needs, in MiB.
    pub min_memory_mb: u64,
    /// Whether it needs a GPU.
    pub needs_gpu: bool,
    /// Wall-clock limit in milliseconds.
    pub max_wallclock_ms: u64,
    /// Its acceptable-use classes.
    #[serde(with = "Names::<MAX_CLASSES>")]
    #[serde(default)]
    pub classes: Vec<String>,
}

/// The donor's answer to an offer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfferReply {
    /// Whether it would run the task now.
    pub accepted: bool,
    /// Its load, 0 to 1.
    pub load: f64,
    /// Why not, in words.
    #[serde(with = "MaybeText::<MAX_TEXT>")]
    pub reason: Option<String>,
}

/// Bytes with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedBytes {
    /// The name.
    #[serde(with = "Text::<MAX_NAME>")]
    pub name: String,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Hands a task to a donor under a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DispatchRequest {
    /// The lease that this attempt runs under.
    #[serde(with = "Text::<MAX_ID>")]
    pub lease_id: String,
    /// The job.
    #[serde(with = "Text::<MAX_ID>")]
    pub job_id: String,
    /// The task.
    #[serde(with = "Text::<MAX_ID>")]
    pub task_id: String,
    /// Its index in the job's array.
    pub task_index: u32,
    /// How often it was tried, from 1.
    pub attempt: u32,
    /// The signed manifest.
    #[serde(with = "serde_bytes")]
    pub manifest: Vec<u8>,
    /// Inputs that travel with the task.
    #[serde(with = "List::<MAX_INPUTS>")]
    pub inline_inputs: Vec<NamedBytes>,
    /// The submitter's signed decision.
    #[serde(with = "serde_bytes")]
    pub trace: Vec<u8>,
    /// Ties the records of both sides together.
    #[serde(with = "Text::<MAX_ID>")]
    pub correlation_id: String,
    /// Whether a box opens the TLS on the submitter's way to the donor. The mesh adds what it knows when it sends this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inspected: bool,
}

/// How a dispatched task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DispatchStatus {
    /// It ran to its end and said so.
    Succeeded,
    /// It ran and did not.
    Failed,
    /// It ran out of time.
    Timeout,
    /// The donor took its machine back.
    Preempted,
}

/// One output of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputBlob {
    /// Its name in the manifest.
    #[serde(with = "Text::<MAX_NAME>")]
    pub name: String,
    /// The name of its bytes.
    pub cid: Cid,
    /// How many they are.
    pub size: u64,
    /// The bytes, when they are few enough to travel along.
    pub inline: Option<serde_bytes::ByteBuf>,
}

/// What came of a dispatched task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DispatchReply {
    /// The task.
    #[serde(with = "Text::<MAX_ID>")]
    pub task_id: String,
    /// How it ended.
    pub status: DispatchStatus,
    /// Its standard output.
    #[serde(with = "serde_bytes")]
    pub output: Vec<u8>,
    /// The name of its standard output.
    pub output_cid: Option<Cid>,
    /// How long it ran.
    pub duration_ms: u64,
    /// What went wrong, in words.
    #[serde(with = "MaybeText::<MAX_TEXT>")]
    pub error: Option<String>,
    /// The executor's signed receipt.
    #[serde(with = "serde_bytes")]
    pub receipt: Vec<u8>,
    /// The executor's signed decision.
    #[serde(with = "serde_bytes")]
    pub trace: Vec<u8>,
    /// Its outputs.
    #[serde(with = "List::<MAX_OUTPUTS>")]
    pub outputs: Vec<OutputBlob>,
}

/// Keeps a lease alive, or ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseMessage {
    /// The submitter still waits for this lease.
    Heartbeat {
        /// The lease.
        #[serde(with = "Text::<MAX_ID>")]
        lease_id: String,
    },
    /// The submitter no longer wants it.
    Cancel {
        /// The lease.
        #[serde(with = "Text::<MAX_ID>")]
        lease_id: String,
    },
}

/// The donor's answer about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReply {
    /// Whether the donor runs under that lease.
    pub known: bool,
}

/// Asks for a part of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentRequest {
    /// The object.
    pub cid: Cid,
    /// The first byte.
    pub offset: u64,
    /// How many bytes at most, up to [`MAX_CHUNK`](super::MAX_CHUNK).
    pub len: u32,
}

/// A part of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentReply {
    /// The size of the whole object.
    pub total: u64,
    /// The bytes asked for, fewer only at the end.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// What a donor can take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Cores it gives.
    pub cores: u32,
    /// Memory it gives, in MiB.
    pub memory_mb: u64,
    /// Its load, 0 to 1.
    pub load: f64,
    /// The acceptable-use classes it consented to.
    #[serde(with = "Names::<MAX_CLASSES>")]
    pub classes: Vec<String>,
    /// Whether it takes nothing at the moment.
    pub paused: bool,
    /// Where it can be reached. The mesh fills this in when it announces.
    #[serde(with = "List::<MAX_ADDRESSES>")]
    pub addresses: Vec<Multiaddr>,
    /// Tasks it takes at the same time.
    pub slots: u32,
    /// Whether it runs images, in microVMs. Donors from before there were any do not say.
    #[serde(default)]
    pub images: bool,
}

/// A relay tells where it is. Whoever signed the message is the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelayAnnouncement {
    /// Grows with every announcement of one relay, across its restarts.
    pub sequence: u64,
    /// Where it can be dialled, without its peer id.
    #[serde(with = "List::<MAX_RELAY_ADDRESSES>")]
    pub addresses: Vec<Multiaddr>,
}

/// Asks a peer for relays that it reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelaysRequest {}

/// Relays that a peer reached lately, the asked one itself not among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelaysReply {
    /// They.
    #[serde(with = "List::<MAX_RELAYS>")]
    pub relays: Vec<RelayRecord>,
}

/// A relay as one peer tells another of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelayRecord {
    /// Who it is.
    pub peer: PeerId,
    /// Where it answered.
    #[serde(with = "List::<MAX_RELAY_ADDRESSES>")]
    pub addresses: Vec<Multiaddr>,
}
