//! What an operator can choose.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_proof::Sha256;

use crate::Backend;

/// Where packages of Linux put kernels, and their drivers.
const IMAGES: &str = "/boot";
const MODULES: &str = "/lib/modules";
/// What Debian calls its kernel for virtual machines.
const FLAVOUR: &str = "cloud";
pub const KERNEL_HINT: &str = "apt-get install linux-image-cloud-amd64, or name a kernel and its modules in the configuration";

/// What an operator can choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The kernel of the guests; the newest that is installed where this is left out.
    pub kernel: Option<KernelSource>,
    /// Firecracker's program; the one that is installed where this is left out.
    pub firecracker: Option<ProgramSource>,
    /// The only backend that may be used; the best that works where this is left out.
    pub backend: Option<Backend>,
    /// Dangerous: lets hypervisors run also where this system refuses them namespaces. A guest that gets the better of
    /// its hypervisor then reaches every network that this machine reaches.
    pub allow_without_namespaces: bool,
}

/// A program on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramSource {
    pub path: PathBuf,
    /// What it has to be; whatever is there is taken where this is left out.
    pub sha256: Option<Sha256>,
}

/// A kernel on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelSource {
    /// A bzImage or a vmlinux for x86-64.
    pub image: PathBuf,
    /// The folder with its `modules.dep`; none for a kernel that has its drivers built in.
    pub modules: Option<PathBuf>,
    /// What the image has to be; whatever is there is taken where this is left out.
    pub sha256: Option<Sha256>,
}

impl KernelSource {
    /// The newest kernel that a package put on this machine, one that is made for virtual machines before others.
    ///
    /// # Errors
    /// WC-007 with what to install where there is none.
    pub fn installed() -> Result<Self> {
        let entries = std::fs::read_dir(IMAGES).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut releases: Vec<_> = names
            .filter_map(|name| name.strip_prefix("vmlinuz-").map(ToOwned::to_owned))
            .filter(|release| Path::new(MODULES).join(release).is_dir())
            .collect();
        releases.sort_by_cached_key(|release| (release.contains(FLAVOUR), numbers_of(release)));
        let newest = releases.pop().ok_or_else(|| {
            Fault::wc(
                WcCode::SandboxUnavailable,
                "no kernel for a microVM is installed",
            )
            .hint(KERNEL_HINT)
        })?;
        Ok(Self {
            image: Path::new(IMAGES).join(format!("vmlinuz-{newest}")),
            modules: Some(Path::new(MODULES).join(newest)),
            sha256: None,
        })
    }
}

/// For the order of releases: `6.1.0-56` after `6.1.0-9`.
fn numbers_of(release: &str) -> Vec<u64> {
    release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_is_told_by_its_numbers() {
        assert!(numbers_of("6.1.0-56-cloud-amd64") > numbers_of("6.1.0-9-cloud-amd64"));
    }
}
