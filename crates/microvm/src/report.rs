//! Backends, and what is known of each.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::Sha256;

/// A way of running a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Firecracker, on the processor's own virtualization.
    Firecracker,
    /// QEMU's machine `microvm` on the processor's own virtualization.
    QemuKvm,
    /// The same machine with its processor emulated: as isolated, and slower by an order of magnitude.
    QemuEmulation,
}

impl Backend {
    /// Every backend, the best first.
    pub const ALL: [Self; 3] = [Self::Firecracker, Self::QemuKvm, Self::QemuEmulation];

    /// The stable snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firecracker => "firecracker",
            Self::QemuKvm => "qemu_kvm",
            Self::QemuEmulation => "qemu_emulation",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A hypervisor's program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub path: PathBuf,
    pub sha256: Sha256,
}

impl Program {
    /// Its path becomes absolute, without links: it is started in another folder.
    ///
    /// # Errors
    /// What the disk says.
    pub fn at(path: &Path) -> Result<Self> {
        let cannot = |error| Fault::io(format_args!("read {}", path.display()), &error);
        let path = path.canonicalize().map_err(cannot)?;
        let (sha256, _) = File::open(&path)
            .and_then(Sha256::of_reader)
            .map_err(cannot)?;
        Ok(Self { path, sha256 })
    }
}

/// What is known of one backend, for `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub backend: Backend,
    /// Whether a guest has booted on it.
    pub usable: bool,
    /// The code of what speaks against it; empty where nothing does.
    pub code: String,
    /// The same in words, with what to do about it.
    pub why_not: String,
    /// From the start of the hypervisor to the agent's first word.
    pub boot_ms: Option<u64>,
    /// Its program, where it is installed.
    pub program: Option<Program>,
    /// How its process is confined here, in words.
    pub confinement: String,
}
