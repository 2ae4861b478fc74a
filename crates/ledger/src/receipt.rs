//! The receipt of one execution: an in-toto statement in a DSSE envelope.
//!
//! ```text
//! Receipt::sign ─► ExecutorReceipt::countersign ─► SignedReceipt
//!    bytes ─► ExecutorReceipt::open        bytes ─► SignedReceipt::open
//! ```
//!
//! The subjects of the statement are the results (`stdout`, `stderr`, `output:<name>`), so that any in-toto tool can
//! match a result file with its receipt by digest. A receipt has one spelling: opening accepts canonical JSON only,
//! outside and inside of the envelope, and refuses members it does not know.

mod check;
mod sealed;
mod words;

use gait::Verdict;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de};
use worldcompute_proof::{Cid, PeerId, Sha256};

pub use check::{MAX_ENTRIES, MAX_ERROR_BYTES, MAX_ID_BYTES, MAX_PATH_BYTES};
pub use sealed::{ExecutorReceipt, MAX_RECEIPT_BYTES, SignedReceipt};

/// The meaning of the statement's predicate.
pub const PREDICATE_TYPE: &str = "https://worldcompute.org/receipt/v1";

/// What one execution of one task did, as its executor tells it. Integers stay within 2^53 - 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The job, as its manifest names it.
    pub job_id: String,
    /// The task's place in the job, from 0.
    pub task_index: u32,
    /// Which attempt at the task this was, from 0.
    pub attempt: u32,
    /// The lease under which it ran.
    pub lease_id: String,
    /// The signed manifest.
    pub manifest_cid: Cid,
    /// The module, or the manifest of the image.
    pub workload_cid: Cid,
    /// SHA-256 of the canonical JSON of the run request.
    pub request_digest: Sha256,
    /// What the task read on standard input.
    pub stdin: Option<Cid>,
    /// The files that the task could read.
    pub inputs: Vec<Input>,
    /// What it was allowed to use.
    pub limits: Limits,
    /// How it saw the world.
    pub profile: Profile,
    /// The virtual machine around it. Absent where there was none: a module has the executor's own sandbox.
    #[serde(
        default,
        deserialize_with = "told",
        skip_serializing_if = "Option::is_none"
    )]
    pub machine: Option<Machine>,
    /// Who ran it, and signs first.
    pub executor: PeerId,
    /// Whose job it is, and who signs second.
    pub submitter: PeerId,
    /// The number of this exit from the executor's sandbox: a missing number is a missing record.
    pub sequence: u64,
    /// The executor's gate on running this task.
    pub decision: DecisionRef,
    /// The submitter's gate on sending out this job.
    pub submitter_decision: DecisionRef,
    /// How it ended and what it left behind.
    pub outcome: Outcome,
    /// When it started, by the executor's clock.
    pub started_at: Timestamp,
    /// When it ended, by the executor's clock.
    pub ended_at: Timestamp,
    /// How executor and submitter reached each other.
    pub path: Path,
    /// Whether a box on the way opened the TLS of the connection over which the task was handed over, at either side.
    /// Absent where none did: receipts from before there was this mark keep their bytes.
    #[serde(
        default,
        deserialize_with = "marked",
        skip_serializing_if = "is_unmarked"
    )]
    pub inspected: bool,
}

/// A mark that is there says yes: no is said by its absence, and by nothing else.
fn marked<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match bool::deserialize(deserializer)? {
        true => Ok(true),
        false => Err(de::Error::custom("inspected is true or absent")),
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_unmarked(inspected: &bool) -> bool {
    !*inspected
}

/// What may be absent says nothing in no other way.
fn told<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A virtual machine, by what it was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The hypervisor, and whose processor it used.
    pub backend: Backend,
    /// SHA-256 of the kernel's image.
    pub kernel: Sha256,
}

/// A hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Firecracker, on the processor's own virtualization.
    Firecracker,
    /// QEMU, on the processor's own virtualization.
    QemuKvm,
    /// QEMU, with an emulated processor.
    QemuEmulation,
}

/// A file that the task could read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The absolute path at which the task saw it.
    pub path: String,
    /// Its bytes.
    pub cid: Cid,
}

/// What an execution may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Work, in units of about one WebAssembly instruction; 0 in a virtual machine, where it is not counted.
    pub fuel: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Wall-clock time, in milliseconds.
    pub wall_ms: u64,
    /// Standard output, standard error and files together, in bytes.
    pub output_bytes: u64,
}

/// How an execution saw the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Profile {
    /// Nothing of the machine showed: whoever runs the same request again gets the same result.
    Deterministic {
        /// Seed of the task's randomness.
        seed: u64,
    },
    /// A Linux of its own in a virtual machine, with clocks and randomness: the same request may give another result.
    #[serde(rename = "microvm")]
    MicroVm {
        /// Its processors.
        vcpus: u32,
    },
}

/// A decision of a gate, by reference to its signed trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRef {
    /// The trace's own id: 24 hexadecimal digits that follow from policy, intent and verdict.
    pub trace_id: String,
    /// The policy that decided.
    pub policy_digest: Sha256,
    /// What was decided on.
    pub intent_digest: Sha256,
    /// What was decided; nothing but `allow` leads to an execution.
    pub verdict: Verdict,
    /// The signed trace.
    pub trace_cid: Cid,
}

/// How an execution ended and what it left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// The exit code, where it got as far as exiting: the 32 bits that it chose.
    pub exit_code: Option<i32>,
    /// What it printed.
    pub stdout_cid: Cid,
    /// What it printed as diagnostics.
    pub stderr_cid: Cid,
    /// The files it was asked for, in the manifest's order; none unless it succeeded.
    pub outputs: Vec<Output>,
    /// Work done, in the units of [`Limits::fuel`].
    pub fuel_used: u64,
    /// Wall-clock time taken, in milliseconds.
    pub wall_ms: u64,
    /// Why it did not succeed, in words ([`bounded_error`]).
    pub error: Option<String>,
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Exit code 0, and every file it was asked for is there.
    Succeeded,
    /// Another exit code, or a file is missing.
    Failed,
    /// A WebAssembly trap.
    Trapped,
    /// Used up its fuel.
    OutOfFuel,
    /// Died of a refused allocation.
    OutOfMemory,
    /// Ran past its wall-clock limit.
    TimedOut,
    /// Wrote more than allowed.
    OutputLimit,
    /// Stopped by submitter or donor.
    Cancelled,
    /// Ended by a signal.
    Killed,
    /// The image has no such program, user or folder.
    NotStarted,
    /// Wanted more processes than allowed.
    ProcessLimit,
    /// Wrote more to its disk than allowed.
    DiskLimit,
    /// Its machine went silent, off or back to its start, or broke the rules of talking to its host.
    BrokeOff,
}

/// A file that an execution left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The manifest's name for it.
    pub name: String,
    /// Its bytes.
    pub cid: Cid,
    /// How many bytes.
    pub size: u64,
}

/// How executor and submitter reached each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// Within one process: no network was used.
    Local,
    /// A connection without help.
    Direct,
    /// A direct connection that a relay helped to open.
    HolePunched,
    /// Through a relay.
    Relayed,
}

/// The text of an error as a receipt can carry it: at most [`MAX_ERROR_BYTES`], cut between characters.
pub fn bounded_error(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_ERROR_BYTES))
        .unwrap_or_default()
        .to_owned()
}
