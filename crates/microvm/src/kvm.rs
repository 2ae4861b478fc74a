//! The processor's own virtualization, as this machine offers it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use worldcompute_fault::{Category, Fault, Result};

const KVM: &str = "/dev/kvm";

/// What is known without trying. That KVM is there and opens does not mean that a kernel boots on it.
pub fn check() -> Result<()> {
    let no_kvm = |code, message: &str| Fault::new(Category::DependencyMissing, code, message);
    if !Path::new(KVM).exists() {
        return Err(no_kvm("kvm_missing", "this machine has no /dev/kvm")
            .hint("switch virtualization on in the firmware, or go on with emulation"));
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open(KVM) {
        return Err(no_kvm("kvm_forbidden", "this user may not open /dev/kvm")
            .caused_by(error)
            .hint("add this user to the group kvm"));
    }
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !has_virtualization(&processor) && Path::new("/sys/module/kvm_pvm").exists() {
        return Err(no_kvm(
            "kvm_cannot_boot",
            "the KVM of this machine is kvm_pvm, which boots no common kernel",
        )
        .hint("use a machine with nested virtualization, or go on with emulation"));
    }
    Ok(())
}

fn has_virtualization(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| {
        flags
            .split_whitespace()
            .any(|flag| flag == "vmx" || flag == "svm")
    })
}

/// The group that may open KVM, for a user that is in no other. Never root's, which may do more than that.
pub fn group() -> Option<u32> {
    let kvm = File::open(KVM).and_then(|kvm| kvm.metadata()).ok()?;
    (kvm.gid() != 0).then(|| kvm.gid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_with_virtualization_is_told_by_its_flags() {
        assert!(has_virtualization(
            "model name: svm\nflags\t: fpu vmx sse\n"
        ));
        assert!(has_virtualization("flags\t: fpu svm\n"));
        assert!(!has_virtualization(
            "model name: vmx\nflags\t: fpu vmx2 sse\n"
        ));
        assert!(!has_virtualization(""));
    }
}
