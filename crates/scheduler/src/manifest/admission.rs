//! What this version offers: a well-formed manifest may still ask for more than there is.

use std::ops::RangeInclusive;

use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_sandbox::{MAX_MACHINE_MEMORY, MAX_VCPUS};

use super::structure::{brief, refuse};
use super::{Confidentiality, Manifest, Verification, WorkloadType};

/// The uses a donor can consent to.
pub const CLASSES: [&str; 6] = [
    "scientific",
    "public-good-ml",
    "rendering",
    "indexing",
    "self-improvement",
    "general",
];
/// The class of a job that names none.
pub const DEFAULT_CLASS: &str = "general";
/// Memory of a microVM: what its kernel, the agent and a small program take, to what the largest may have.
const MACHINE_RAM: RangeInclusive<u64> = 160 << 20..=MAX_MACHINE_MEMORY;
/// Below this nothing could be written at all.
const MIN_MACHINE_SCRATCH: u64 = 1 << 20;
/// What a machine has beside the image's files.
const OWN_FOLDER: &str = "/.worldcompute";
/// What 32-bit WebAssembly can address.
const MAX_WASM_RAM: u64 = 4 << 30;

impl<R> Manifest<R> {
    /// The first thing the manifest asks for that no donor of this version can give.
    pub(super) fn check_admission(&self) -> Result<()> {
        self.check_classes()?;
        self.check_workload()?;
        self.check_confidentiality()?;
        self.check_network()?;
        self.check_redundancy()
    }

    fn check_classes(&self) -> Result<()> {
        let mut classes = self.acceptable_use_classes.iter();
        match classes.find(|class| !CLASSES.contains(&class.as_str())) {
            None => Ok(()),
            Some(class) => Err(Fault::wc(
                WcCode::AcceptableUseViolation,
                format!(
                    "acceptable_use_classes: `{}` is not a use donors can consent to",
                    brief(class.escape_default().to_string())
                ),
            )
            .hint(format!("choose from {}", CLASSES.join(", ")))),
        }
    }

    fn check_workload(&self) -> Result<()> {
        if self.resources.gpu_count > 0 {
            return Err(unsupported("resources.gpu", "tasks cannot use a GPU"));
        }
        match self.workload_type {
            WorkloadType::WasmModule if self.resources.ram_bytes > MAX_WASM_RAM => Err(refuse(
                "resources.memory",
                "WASM tasks can address at most 4Gi",
            )),
            WorkloadType::WasmModule => Ok(()),
            WorkloadType::OciContainer => self.check_machine(),
        }
    }

    /// What an image needs to boot, and what a machine cannot be held to.
    fn check_machine(&self) -> Result<()> {
        let resources = &self.resources;
        if !MACHINE_RAM.contains(&resources.ram_bytes) {
            return Err(refuse("resources.memory", "a machine has 160Mi to 256Gi"));
        }
        if resources.cpu_millicores > MAX_VCPUS * 1000 {
            let why = format!("a machine has {MAX_VCPUS} processors at most");
            return Err(refuse("resources.cpu", why));
        }
        if resources.scratch_bytes < MIN_MACHINE_SCRATCH {
            return Err(refuse("resources.scratch", "a machine takes 1Mi at least"));
        }
        let mut mounts = self.inputs.iter().map(|input| input.mount.as_str());
        if mounts.any(|mount| mount == OWN_FOLDER || mount.starts_with(&format!("{OWN_FOLDER}/"))) {
            let why = format!("{OWN_FOLDER} is where standard input lies");
            return Err(refuse("inputs.mount", why));
        }
        if self.seed != 0 {
            let why = "the randomness of an image is its Linux's, not seeded";
            return Err(unsupported("seed", why));
        }
        Ok(())
    }

    fn check_confidentiality(&self) -> Result<()> {
        if self.confidentiality != Confidentiality::Public {
            return Err(Fault::wc(
                WcCode::TrustTierMismatch,
                "confidentiality: tasks run on machines whose owners can read the data, so only public data is taken",
            )
            .hint("set confidentiality: public, or keep the data at home"));
        }
        if self.min_trust_tier > 0 || self.verification == Verification::TeeAttestation {
            return Err(Fault::wc(
                WcCode::TrustTierMismatch,
                "min_trust_tier, verification: no donor of this version is attested",
            )
            .hint("ask for min_trust_tier: 0 and verification: hash-quorum"));
        }
        Ok(())
    }

    fn check_network(&self) -> Result<()> {
        if self.allowed_endpoints.is_empty() && self.resources.network_egress_bytes == 0 {
            return Ok(());
        }
        Err(unsupported(
            "allowed_endpoints, resources.network_egress",
            "tasks have no network",
        ))
    }

    fn check_redundancy(&self) -> Result<()> {
        if self.replica_count > 1 {
            return Err(unsupported(
                "replica_count",
                "this version executes each task once",
            ));
        }
        if self.verification == Verification::RangeCheck {
            return Err(unsupported(
                "verification",
                "results are compared byte for byte (hash-quorum)",
            ));
        }
        Ok(())
    }
}

/// WC-021: a real feature of the format that this version does not have.
pub(super) fn unsupported(field: &str, why: &str) -> Fault {
    Fault::wc(WcCode::UnsupportedPlatform, format!("{field}: {why}"))
        .hint("remove the field, or set it to its default")
}
