//! QEMU's machine `microvm`: no firmware, no PCI, no device but a disk, a port for the agent and a console.

mod clock;
mod monitor;

use worldcompute_fault::Result;
use worldcompute_guest::PORT_NAME;

use crate::confinement::{HANDED_OVER, find_program};
use crate::hypervisor::{Hypervisor, KERNEL_ARGS, Machine, Process, Vm};
use crate::run_dir::RunDir;
use crate::{Backend, Program, kvm};

pub use monitor::{Fate, Monitor};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

const CHANNEL: &str = "channel";
const MONITOR: &str = "monitor";

/// QEMU may make no process, take no privilege and use no call that is only there for old programs.
const SECCOMP: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// Room for translated code, in MiB: the default is a fixed part of all memory.
const TRANSLATED_MIB: u32 = 64;

/// QEMU, on KVM or with its own processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qemu {
    Kvm,
    Emulation,
}

/// Whether there is a program of the name.
pub fn is_installed() -> bool {
    find_program(PROGRAM, PACKAGE).is_ok()
}

impl Hypervisor for Qemu {
    fn backend(&self) -> Backend {
        match self {
            Self::Kvm => Backend::QemuKvm,
            Self::Emulation => Backend::QemuEmulation,
        }
    }

    fn program(&self) -> Result<Program> {
        if *self == Self::Kvm {
            kvm::check()?;
        }
        Program::at(&find_program(PROGRAM, PACKAGE)?)
    }

    fn start(&self, machine: Machine<'_>) -> Result<Vm> {
        let program = find_program(PROGRAM, PACKAGE)?;
        let dir = RunDir::create(machine.runs)?;
        machine.kernel.copy_into(dir.path())?;
        let channel = dir.listen(CHANNEL)?;
        let monitor = Monitor::new(dir.listen(MONITOR)?);
        let user = machine.confinement.next_user();
        if let Some(user) = user {
            dir.give_to(user, &[CHANNEL, MONITOR])?;
        }
        let group = (*self == Self::Kvm).then(kvm::group).flatten();
        let confined = machine
            .confinement
            .command(user, group, machine.limits, dir.path());
        let args = self.args(&machine);
        let process = Process::start(confined.run(&program, args, machine.rootfs))?;
        Ok(Vm {
            process,
            channel,
            monitor: Some(monitor),
            dir,
        })
    }
}

impl Qemu {
    fn args(self, machine: &Machine<'_>) -> Vec<String> {
        let limits = machine.limits;
        let mut args: Vec<String> = [
            "-M",
            "microvm",
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ]
        .map(ToOwned::to_owned)
        .into();
        let mut add = |name: &str, value: String| args.extend([name.to_owned(), value]);
        let (accelerator, processor, hints) = self.processor();
        add("-accel", accelerator);
        add("-cpu", processor.to_owned());
        add("-smp", limits.vcpus.to_string());
        add("-m", format!("{}M", limits.memory_bytes >> 20));
        add("-sandbox", SECCOMP.to_owned());
        add("-kernel", "vmlinux".to_owned());
        add("-initrd", "initramfs".to_owned());
        add("-append", format!("{KERNEL_ARGS}{hints}"));
        add("-chardev", "stdio,id=console,signal=off".to_owned());
        add("-serial", "chardev:console".to_owned());
        add("-global", "virtio-mmio.force-legacy=false".to_owned());
        if machine.rootfs.is_some() {
            // What is written goes to a file of QEMU's in its own folder, which has no name.
            add("-add-fd", format!("fd={HANDED_OVER},set=1"));
            add(
                "-drive",
                "id=root,file=/dev/fdset/1,format=raw,if=none,snapshot=on".to_owned(),
            );
            add(
                "-device",
                "virtio-blk-device,drive=root,werror=stop".to_owned(),
            );
        }
        add("-device", "virtio-serial-device".to_owned());
        add("-chardev", format!("socket,id=agent,path={CHANNEL}"));
        add(
            "-device",
            format!("virtserialport,chardev=agent,name={PORT_NAME}"),
        );
        add("-chardev", format!("socket,id=monitor,path={MONITOR}"));
        add("-mon", "chardev=monitor,mode=control".to_owned());
        args
    }

    /// The accelerator, the processor, and what the kernel is told of its clocks. An emulated machine has none that it
    /// could measure others by: without hints it hangs in its calibration.
    fn processor(self) -> (String, &'static str, String) {
        match self {
            Self::Kvm => ("kvm".to_owned(), "host", String::new()),
            Self::Emulation => {
                let hints = clock::tsc_khz().map_or_else(String::new, |khz| {
                    format!(" tsc_early_khz={khz} lpj={} no_timer_check", 2 * khz)
                });
                (format!("tcg,tb-size={TRANSLATED_MIB}"), "max", hints)
            }
        }
    }
}
