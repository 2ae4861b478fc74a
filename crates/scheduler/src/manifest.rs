//! What a submitter asks for.
//!
//! A manifest has two forms. The **document** is YAML or JSON that a human writes ([`Manifest::parse`]); its files are
//! replaced by content ids ([`Manifest::resolve`]). The **wire form** is deterministic CBOR (RFC 8949, 4.2.1) that
//! carries the submitter's identity and an Ed25519 signature over every other field ([`VerifiedManifest`]). Everything
//! a donor or a broker does is derived from a [`VerifiedManifest`], and only signing and verifying make one.
//!
//! A job is an array of tasks that run the same module; without `spec.array` the array has one task. A field that this
//! version does not honour is refused, never ignored.

mod admission;
mod document;
mod quantity;
mod signed;
mod structure;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use worldcompute_fault::Result;
use worldcompute_proof::Cid;

pub use admission::{CLASSES, DEFAULT_CLASS};
pub use document::{MAX_DOCUMENT_BYTES, Source};
pub use signed::{MAX_WIRE_BYTES, VerifiedManifest};
pub use structure::{
    MAX_COMMAND, MAX_ENV, MAX_INPUTS, MAX_NAME_BYTES, MAX_OUTPUTS, MAX_PATH_BYTES, MAX_REPLICAS,
    MAX_TASKS, MAX_TEXT_BYTES, MAX_WALL_MS, MIN_WALL_MS, TASK_COUNT_VARIABLE, TASK_INDEX_VARIABLE,
};

/// What a job runs, on what, within which limits. `R` names its blobs: a [`Source`] as parsed, a [`Cid`] once resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest<R = Cid> {
    /// The submitter's name for the job.
    pub name: String,
    /// What kind of thing runs.
    pub workload_type: WorkloadType,
    /// The module, or the manifest of the image.
    pub workload_cid: R,
    /// The argument vector; the first entry is the program's own name. For an image what takes the place of its `Cmd`, behind
    /// its `Entrypoint`; where it is empty the image's own.
    pub command: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// What the task reads on its standard input.
    pub stdin: Option<R>,
    /// Files the task can read.
    pub inputs: Vec<Input<R>>,
    /// Files the task leaves behind.
    pub outputs: Vec<Output>,
    /// What one task needs and may use.
    pub resources: Resources,
    /// How many tasks the job has.
    pub array_count: u32,
    /// Seeds the randomness of the tasks; each task draws its own stream from it. 0 for an image.
    pub seed: u64,
    /// How many donors execute each task.
    pub replica_count: u8,
    /// How the results of a task are judged.
    pub verification: Verification,
    /// Who may see the data.
    pub confidentiality: Confidentiality,
    /// The least trust tier of a donor, 0 to 4.
    pub min_trust_tier: u8,
    /// What the job is for, in the donors' vocabulary.
    pub acceptable_use_classes: Vec<String>,
    /// Network endpoints a task may reach.
    pub allowed_endpoints: Vec<String>,
    /// Wall-clock limit of one task, in milliseconds.
    pub max_wallclock_ms: u64,
    /// When the result is of no use any more.
    pub deadline: Option<Timestamp>,
}

/// What kind of workload a job has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadType {
    /// A WebAssembly module with a WASI interface.
    WasmModule,
    /// An OCI image, for a microVM.
    OciContainer,
}

/// A blob mounted into the task's file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input<R = Cid> {
    /// The bytes.
    pub cid: R,
    /// The absolute path at which the task sees them.
    pub mount: String,
}

/// A file the task leaves behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The submitter's name for the file.
    pub name: String,
    /// The absolute path the task writes.
    pub path: String,
    /// The most bytes the file may have.
    pub max_bytes: u64,
}

/// What one task needs and may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Thousandths of a processor core the donor must have.
    pub cpu_millicores: u32,
    /// Memory limit, in bytes.
    pub ram_bytes: u64,
    /// GPUs.
    pub gpu_count: u32,
    /// Limit of everything the task writes (standard output, standard error, files), in bytes. To the disk of its machine an
    /// image can write as much again.
    pub scratch_bytes: u64,
    /// Bytes the task may send to the network.
    pub network_egress_bytes: u64,
    /// Limit of executed instructions, in units of fuel; 0 for an image, whose work is not counted.
    pub fuel: u64,
}

/// How the results of a task are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verification {
    /// The hash that most replicas agree on.
    HashQuorum,
    /// Numbers within a tolerance.
    RangeCheck,
    /// An attested machine.
    TeeAttestation,
}

/// Who may see the data of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidentiality {
    /// Anyone.
    #[serde(alias = "Public")]
    Public,
    /// Only machines with an attested boot.
    #[serde(alias = "ConfidentialMedium")]
    ConfidentialMedium,
    /// Only measured guests on machines that encrypt their memory.
    #[serde(alias = "ConfidentialHigh")]
    ConfidentialHigh,
}

impl Manifest<Source> {
    /// Reads the document: YAML 1.2, of which JSON is a part.
    ///
    /// # Errors
    /// WC-001 with the line or the field for a document that is malformed, too large, ambiguous (unknown or repeated
    /// fields, values of another type) or out of bounds; WC-003 for a class nobody can consent to; WC-006 and WC-021 for
    /// what this version does not offer.
    pub fn parse(document: &[u8]) -> Result<Self> {
        let manifest = document::parse(document)?;
        manifest.check_structure()?;
        manifest.check_admission()?;
        Ok(manifest)
    }

    /// Names every blob by its content: `store` takes the path of a file as the document spells it, keeps its bytes
    /// and returns their id.
    ///
    /// # Errors
    /// The first error of `store`.
    pub fn resolve(self, mut store: impl FnMut(&str) -> Result<Cid>) -> Result<Manifest> {
        let mut cid = |source: Source| match source {
            Source::Cid(cid) => Ok(cid),
            Source::File(path) => store(&path),
        };
        let workload_cid = cid(self.workload_cid)?;
        let stdin = self.stdin.map(&mut cid).transpose()?;
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for Input { cid: source, mount } in self.inputs {
            let cid = cid(source)?;
            inputs.push(Input { cid, mount });
        }
        Ok(Manifest {
            workload_cid,
            stdin,
            inputs,
            name: self.name,
            workload_type: self.workload_type,
            command: self.command,
            env: self.env,
            outputs: self.outputs,
            resources: self.resources,
            array_count: self.array_count,
            seed: self.seed,
            replica_count: self.replica_count,
            verification: self.verification,
            confidentiality: self.confidentiality,
            min_trust_tier: self.min_trust_tier,
            acceptable_use_classes: self.acceptable_use_classes,
            allowed_endpoints: self.allowed_endpoints,
            max_wallclock_ms: self.max_wallclock_ms,
            deadline: self.deadline,
        })
    }
}

#[cfg(test)]
mod tests;
