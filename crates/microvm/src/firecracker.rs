//! Firecracker, told what to do over its API socket (its `firecracker.yaml`), with its own seccomp filters on.

mod api;

use std::fs::File;
use std::path::PathBuf;

use serde_json::json;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_guest::PORT;

use crate::config::ProgramSource;
use crate::confinement::find_program;
use crate::hypervisor::{Hypervisor, KERNEL_ARGS, Machine, Process, Vm};
use crate::run_dir::RunDir;
use crate::spec::invalid;
use crate::{Backend, Limits, MIN_DISK, Program, copy, kvm};

use api::Api;

const PROGRAM: &str = "firecracker";
const API: &str = "api";
const DISK: &str = "disk";
/// Firecracker calls the host at this name, an underscore and the port.
const VSOCK: &str = "vsock";
/// The guest's address on vsock; the host's is 2, and lower ones have a meaning of their own (vsock(7)).
const GUEST_CID: u32 = 3;
/// There is no PCI, and a machine that is to start over ends: by the keyboard controller, the one way it has.
const OWN_KERNEL_ARGS: &str = "reboot=k pci=off";
/// Most processors of a VM (`vcpu_count` in `firecracker.yaml`).
const MAX_VCPUS: u32 = 32;

/// Firecracker as the configuration names it, or as it is installed.
#[derive(Clone, Debug)]
pub struct Firecracker {
    source: Option<ProgramSource>,
}

impl Firecracker {
    pub const fn new(source: Option<ProgramSource>) -> Self {
        Self { source }
    }

    /// Whether there is a program of the name.
    pub fn is_installed(&self) -> bool {
        self.path().is_ok_and(|path| path.is_file())
    }

    fn path(&self) -> Result<PathBuf> {
        match &self.source {
            Some(source) => Ok(source.path.clone()),
            None => find_program(PROGRAM, PROGRAM).map_err(|fault| {
                fault.hint("install Firecracker from its releases, or name its program in the configuration")
            }),
        }
    }

    /// The program, if it is the one that is pinned.
    fn checked(&self) -> Result<Program> {
        let program = Program::at(&self.path()?)?;
        match self.source.as_ref().and_then(|source| source.sha256) {
            Some(pinned) if pinned != program.sha256 => {
                let path = program.path.display();
                let message = format!(
                    "{path} has the SHA-256 {}, which is not the one that is pinned",
                    program.sha256
                );
                Err(Fault::new(
                    Category::VerificationFailed,
                    "hypervisor_digest_mismatch",
                    message,
                )
                .hint("install the program that is pinned, or pin the one that is there"))
            }
            _ => Ok(program),
        }
    }
}

impl Hypervisor for Firecracker {
    fn backend(&self) -> Backend {
        Backend::Firecracker
    }

    fn program(&self) -> Result<Program> {
        kvm::check()?;
        self.checked()
    }

    fn start(&self, machine: Machine<'_>) -> Result<Vm> {
        let limits = limits_of(machine.limits, machine.rootfs.as_ref())?;
        let program = self.checked()?;
        let dir = RunDir::create(machine.runs)?;
        machine.kernel.copy_into(dir.path())?;
        let call = format!("{VSOCK}_{PORT}");
        let channel = dir.listen(&call)?;
        let mut names = vec![call.as_str()];
        if let Some(rootfs) = &machine.rootfs {
            let path = dir.path().join(DISK);
            copy::new_file(rootfs, &path, 0o600).map_err(|error| {
                Fault::io(format_args!("copy an image to {}", path.display()), &error)
            })?;
            names.push(DISK);
        }
        let user = machine.confinement.next_user();
        if let Some(user) = user {
            dir.give_to(user, &names)?;
        }
        let group = kvm::group();
        let confined = machine
            .confinement
            .command(user, group, &limits, dir.path());
        let mut process = Process::start(confined.run(&program.path, ["--api-sock", API], None))?;
        boot(
            &mut Api::new(&dir, API, &mut process),
            &limits,
            machine.rootfs.is_some(),
        )?;
        Ok(Vm {
            process,
            channel,
            monitor: None,
            dir,
        })
    }
}

/// What holds for Firecracker: it writes to the disk in place, so that all that there is to write is the disk, and that
/// has to be within the limit before it is copied.
fn limits_of(limits: &Limits, rootfs: Option<&File>) -> Result<Limits> {
    let mut limits = *limits;
    if limits.vcpus > MAX_VCPUS {
        return Err(invalid("limits.vcpus").hint(format!(
            "ask for no more than {MAX_VCPUS}, or run it on QEMU"
        )));
    }
    if let Some(rootfs) = rootfs {
        let length = rootfs.metadata().map(|image| image.len());
        let length = length.map_err(|error| Fault::io("read an image", &error))?;
        if length > limits.disk_bytes {
            return Err(invalid("limits.disk_bytes").hint(format!(
                "Firecracker runs on a copy of the image: allow its {length} bytes, or run it on QEMU"
            )));
        }
        limits.disk_bytes = length.max(MIN_DISK);
    }
    Ok(limits)
}

fn boot(api: &mut Api<'_>, limits: &Limits, has_disk: bool) -> Result<()> {
    api.put(
        "/machine-config",
        &json!({"vcpu_count": limits.vcpus, "mem_size_mib": limits.memory_bytes >> 20}),
    )?;
    let args = format!("{KERNEL_ARGS} {OWN_KERNEL_ARGS}");
    api.put(
        "/boot-source",
        &json!({"kernel_image_path": "vmlinux", "initrd_path": "initramfs", "boot_args": args}),
    )?;
    if has_disk {
        let disk = json!({"drive_id": DISK, "path_on_host": DISK, "is_root_device": false, "is_read_only": false});
        api.put("/drives/disk", &disk)?;
    }
    api.put(
        "/vsock",
        &json!({"guest_cid": GUEST_CID, "uds_path": VSOCK}),
    )?;
    api.put("/actions", &json!({"action_type": "InstanceStart"}))
}

#[cfg(test)]
mod tests {
    use worldcompute_fault::WcCode;
    use worldcompute_proof::Sha256;

    use super::*;

    #[test]
    fn more_than_firecracker_can_or_may_is_refused_by_the_name_of_its_field() {
        let image = tempfile::tempfile().unwrap();
        let limits = |vcpus, disk_bytes| Limits {
            vcpus,
            disk_bytes,
            ..Limits::default()
        };
        image.set_len(4 << 20).unwrap();
        let within = limits_of(&limits(MAX_VCPUS, 1 << 40), Some(&image)).unwrap();
        assert_eq!(within.disk_bytes, 4 << 20);
        for (past, field) in [
            (limits(MAX_VCPUS + 1, 1 << 40), "limits.vcpus"),
            (limits(1, (4 << 20) - 1), "limits.disk_bytes"),
        ] {
            let fault = limits_of(&past, Some(&image)).unwrap_err();
            assert_eq!(fault.number(), Some(WcCode::InvalidManifest));
            assert!(fault.message().ends_with(field), "{fault}");
        }
    }

    #[test]
    fn a_program_other_than_the_pinned_one_is_not_started() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("firecracker");
        worldcompute_durable::write_atomic(&path, b"another", worldcompute_durable::Mode::Public)
            .unwrap();
        let named = |sha256| {
            Firecracker::new(Some(ProgramSource {
                path: path.clone(),
                sha256,
            }))
        };
        assert_eq!(
            named(Some(Sha256::of("this")))
                .checked()
                .unwrap_err()
                .code(),
            "hypervisor_digest_mismatch"
        );
        assert_eq!(
            named(Some(Sha256::of("another"))).checked().unwrap().sha256,
            Sha256::of("another")
        );
        assert!(named(None).checked().is_ok());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("firecracker", &link).unwrap();
        let linked = Program::at(&link).unwrap();
        assert_eq!(linked.path, path.canonicalize().unwrap());
    }
}
