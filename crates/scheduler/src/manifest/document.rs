//! The document: `apiVersion: worldcompute/v1`, `kind: Job`, in YAML or JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_proof::Cid;

use super::admission::{DEFAULT_CLASS, unsupported};
use super::quantity::{Quantity, Whole};
use super::structure::{MAX_TEXT_BYTES, brief, refuse};
use super::{Confidentiality, Input, Manifest, Output, Resources, Verification, WorkloadType};

/// Most bytes of a document.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 10;
/// Deepest nesting a document can need is 4; a little room keeps the message about the field rather than the depth.
const MAX_DEPTH: usize = 16;

const DEFAULT_CPU: u32 = 1_000;
const DEFAULT_RAM: u64 = 256 << 20;
const DEFAULT_SCRATCH: u64 = 16 << 20;
/// A Linux writes more: caches, sockets, what it unpacks.
const DEFAULT_IMAGE_SCRATCH: u64 = 256 << 20;
const DEFAULT_WALL_MS: u64 = 300_000;
/// Four billion instructions a second: no present core spends its fuel before its time.
const DEFAULT_FUEL_PER_MS: u64 = 4_000_000;

/// Where a document says the bytes of a blob are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the mesh, under this id.
    Cid(Cid),
    /// In a file of the submitter; the path as the document spells it.
    File(String),
}

/// Reads the document; bounds are checked by the caller.
pub(super) fn parse(bytes: &[u8]) -> Result<Manifest<Source>> {
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(refuse(
            "manifest",
            format!("{} bytes; it takes {MAX_DOCUMENT_BYTES}", bytes.len()),
        ));
    }
    let document: Document =
        serde_saphyr::from_slice_with_options(bytes, strict()).map_err(malformed)?;
    document.check_header()?;
    document.spec.into_manifest(document.metadata.name)
}

/// No guess at types, no second value for a key, no expansion of anchors.
fn strict() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_aliases: 0,
            max_anchors: 0,
            max_documents: 1,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        no_schema: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn malformed(error: serde_saphyr::Error) -> Fault {
    let words = brief(error.render_with_formatter(&serde_saphyr::UserMessageFormatter));
    Fault::wc(WcCode::InvalidManifest, format!("manifest: {words}"))
        .hint("compare the document with docs/manifest.md")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    image: Option<String>,
    wasm: Option<String>,
    command: Option<Vec<String>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    stdin: Option<String>,
    #[serde(default)]
    inputs: Vec<DocumentInput>,
    #[serde(default)]
    outputs: Vec<DocumentOutput>,
    #[serde(default)]
    resources: DocumentResources,
    array: Option<Array>,
    seed: Option<Whole<u64>>,
    replica_count: Option<Whole<u8>>,
    verification: Option<Verification>,
    preempt_class: Option<String>,
    checkpoint_interval_s: Option<Whole<u32>>,
    max_wall_time: Option<Quantity>,
    confidentiality: Option<Confidentiality>,
    min_trust_tier: Option<Tier>,
    acceptable_use_classes: Option<Vec<String>>,
    #[serde(default)]
    allowed_endpoints: Vec<String>,
    deadline: Option<Timestamp>,
    locality_hint: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentInput {
    cid: Option<Cid>,
    file: Option<String>,
    mount: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentOutput {
    name: String,
    path: String,
    max_bytes: Option<Quantity>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentResources {
    cpu: Option<Quantity>,
    memory: Option<Quantity>,
    gpu: Option<Quantity>,
    scratch: Option<Quantity>,
    network_egress: Option<Quantity>,
    fuel: Option<Quantity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Array {
    count: Whole<u32>,
}

#[derive(Clone, Copy, Deserialize)]
enum Tier {
    T0,
    T1,
    T2,
    T3,
    T4,
}

impl Document {
    fn check_header(&self) -> Result<()> {
        if self.api_version != "worldcompute/v1" {
            return Err(refuse("apiVersion", "it is worldcompute/v1"));
        }
        if self.kind != "Job" {
            return Err(refuse("kind", "it is Job"));
        }
        Ok(())
    }
}

impl Spec {
    fn into_manifest(self, name: String) -> Result<Manifest<Source>> {
        self.check_unsupported()?;
        let (workload_type, workload_cid) = self.workload()?;
        let max_wallclock_ms = read(
            "spec.max_wall_time",
            self.max_wall_time.as_ref(),
            Quantity::millis,
            DEFAULT_WALL_MS,
        )?;
        let resources = self
            .resources
            .into_resources(workload_type, max_wallclock_ms)?;
        let outputs = self
            .outputs
            .into_iter()
            .map(|output| output.into_output(resources.scratch_bytes));
        Ok(Manifest {
            workload_type,
            workload_cid,
            command: self
                .command
                .unwrap_or_else(|| default_command(workload_type, &name)),
            name,
            env: self.env,
            stdin: self
                .stdin
                .map(|text| source("spec.stdin", &text))
                .transpose()?,
            inputs: self
                .inputs
                .into_iter()
                .map(DocumentInput::into_input)
                .collect::<Result<_>>()?,
            outputs: outputs.collect::<Result<_>>()?,
            resources,
            array_count: self.array.map_or(1, |array| array.count.0),
            seed: self.seed.map_or(0, |seed| seed.0),
            replica_count: self.replica_count.map_or(1, |count| count.0),
            verification: self.verification.unwrap_or(Verification::HashQuorum),
            confidentiality: self.confidentiality.unwrap_or(Confidentiality::Public),
            min_trust_tier: self.min_trust_tier.map_or(0, |tier| tier as u8),
            acceptable_use_classes: self
                .acceptable_use_classes
                .unwrap_or_else(|| vec![DEFAULT_CLASS.to_owned()]),
            allowed_endpoints: self.allowed_endpoints,
            max_wallclock_ms,
            deadline: self.deadline,
        })
    }

    fn workload(&self) -> Result<(WorkloadType, Source)> {
        match (&self.image, &self.wasm) {
            (None, Some(wasm)) => Ok((WorkloadType::WasmModule, source("spec.wasm", wasm)?)),
            (Some(image), None) => parse_image(image),
            _ => Err(refuse(
                "spec",
                "it names its program once: in `wasm` or in `image`",
            )),
        }
    }

    /// A task that is stopped starts again from the beginning on another machine, wherever that is.
    fn check_unsupported(&self) -> Result<()> {
        if self
            .preempt_class
            .as_deref()
            .is_some_and(|class| class != "yieldable")
        {
            return Err(unsupported(
                "spec.preempt_class",
                "donors may stop any task at any time (yieldable)",
            ));
        }
        if self.checkpoint_interval_s.is_some() {
            return Err(unsupported(
                "spec.checkpoint_interval_s",
                "tasks are restarted, not resumed",
            ));
        }
        if self
            .locality_hint
            .as_deref()
            .is_some_and(|hint| hint != "any")
        {
            return Err(unsupported(
                "spec.locality_hint",
                "donors do not say where they are (any)",
            ));
        }
        Ok(())
    }
}

impl DocumentInput {
    fn into_input(self) -> Result<Input<Source>> {
        let mount = self.mount;
        let cid = match (self.cid, self.file) {
            (Some(cid), None) => Source::Cid(cid),
            (None, Some(path)) => file("spec.inputs.file", &path)?,
            _ => {
                return Err(refuse(
                    "spec.inputs",
                    "an input names its bytes once: by `cid` or by `file`",
                ));
            }
        };
        Ok(Input { cid, mount })
    }
}

impl DocumentOutput {
    fn into_output(self, scratch: u64) -> Result<Output> {
        let max_bytes = read(
            "spec.outputs.max_bytes",
            self.max_bytes.as_ref(),
            Quantity::bytes,
            scratch,
        )?;
        let Self { name, path, .. } = self;
        Ok(Output {
            name,
            path,
            max_bytes,
        })
    }
}

impl DocumentResources {
    fn into_resources(self, workload_type: WorkloadType, wall_ms: u64) -> Result<Resources> {
        let cpu = read(
            "spec.resources.cpu",
            self.cpu.as_ref(),
            Quantity::millicores,
            DEFAULT_CPU.into(),
        )?;
        let gpu = read("spec.resources.gpu", self.gpu.as_ref(), Quantity::count, 0)?;
        let (fuel, scratch) = match workload_type {
            WorkloadType::WasmModule => {
                (wall_ms.saturating_mul(DEFAULT_FUEL_PER_MS), DEFAULT_SCRATCH)
            }
            WorkloadType::OciContainer => (0, DEFAULT_IMAGE_SCRATCH),
        };
        Ok(Resources {
            cpu_millicores: narrow("spec.resources.cpu", cpu)?,
            ram_bytes: read(
                "spec.resources.memory",
                self.memory.as_ref(),
                Quantity::bytes,
                DEFAULT_RAM,
            )?,
            gpu_count: narrow("spec.resources.gpu", gpu)?,
            scratch_bytes: read(
                "spec.resources.scratch",
                self.scratch.as_ref(),
                Quantity::bytes,
                scratch,
            )?,
            network_egress_bytes: read(
                "spec.resources.network_egress",
                self.network_egress.as_ref(),
                Quantity::bytes,
                0,
            )?,
            fuel: read(
                "spec.resources.fuel",
                self.fuel.as_ref(),
                Quantity::count,
                fuel,
            )?,
        })
    }
}

fn read(
    field: &str,
    quantity: Option<&Quantity>,
    unit: fn(&Quantity) -> Result<u64, String>,
    default: u64,
) -> Result<u64> {
    quantity
        .map_or(Ok(default), unit)
        .map_err(|why| refuse(field, why))
}

fn narrow(field: &str, value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| refuse(field, format!("{value} is too large")))
}

/// A module is told a name of its own; an image runs what it says itself.
fn default_command(workload_type: WorkloadType, name: &str) -> Vec<String> {
    match workload_type {
        WorkloadType::WasmModule => vec![name.to_owned()],
        WorkloadType::OciContainer => Vec::new(),
    }
}

/// `wasm+cid:<cid>` or `oci+cid:<cid>`.
fn parse_image(image: &str) -> Result<(WorkloadType, Source)> {
    let (workload_type, cid) = match image.split_once("+cid:") {
        Some(("wasm", cid)) => (WorkloadType::WasmModule, cid),
        Some(("oci", cid)) => (WorkloadType::OciContainer, cid),
        _ => {
            return Err(refuse(
                "spec.image",
                "it is wasm+cid:<cid> or oci+cid:<cid>",
            ));
        }
    };
    Ok((workload_type, Source::Cid(parse_cid("spec.image", cid)?)))
}

/// `cid:<cid>`, or the path of a file.
fn source(field: &str, text: &str) -> Result<Source> {
    match text.strip_prefix("cid:") {
        Some(cid) => Ok(Source::Cid(parse_cid(field, cid)?)),
        None => file(field, text),
    }
}

fn file(field: &str, path: &str) -> Result<Source> {
    if path.is_empty() || path.len() > MAX_TEXT_BYTES || path.contains('\0') {
        return Err(refuse(
            field,
            format!("a path has 1 to {MAX_TEXT_BYTES} bytes and no NUL"),
        ));
    }
    Ok(Source::File(path.to_owned()))
}

fn parse_cid(field: &str, text: &str) -> Result<Cid> {
    text.parse()
        .map_err(|fault: Fault| refuse(field, fault.message()))
}
