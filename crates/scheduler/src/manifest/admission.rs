//! What this version offers: a well-formed manifest may still ask for more than there is.

use worldcompute_fault::{Fault, Result, WcCode};

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
        if self.workload_type == WorkloadType::OciContainer {
            return Err(Fault::wc(
                WcCode::SandboxUnavailable,
                "OCI images run in microVMs, which this version does not have",
            )
            .hint("build the program for wasm32-wasip1 and name it in spec.wasm"));
        }
        if self.resources.gpu_count > 0 {
            return Err(unsupported("resources.gpu", "WASM tasks cannot use a GPU"));
        }
        if self.resources.ram_bytes > MAX_WASM_RAM {
            return Err(refuse(
                "resources.memory",
                "WASM tasks can address at most 4Gi",
            ));
        }
        Ok(())
    }

    fn check_confidentiality(&self) -> Result<()> {
        if self.confidentiality != Confidentiality::Public {
            return Err(Fault::wc(
                WcCode::TrustTierMismatch,
                "confidentiality: WASM tasks run on machines whose owners can read the data, so only public data is taken",
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
            "WASM tasks have no network",
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
