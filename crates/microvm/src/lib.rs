//! Run it in a machine of its own: a program of an image, in a virtual machine that nothing outlives.
//!
//! [`MicroVms::choose`] finds a hypervisor that has booted a guest here, [`MicroVms::run`] runs a [`Spec`] on it and
//! returns an [`Outcome`]; a [`Control`] freezes or ends a run from outside.
//!
//! **Confinement.** The guest has a processor, memory, a disk of which only a copy changes, and one port to this
//! process: no network device, no clock of the host's to set, no file. Around it, the hypervisor is a process without
//! privileges and network, of a user of its own where this process is root and else of the same: then a guest that gets
//! the better of it may open what this user may. What comes over the port is a stranger's word ([`Misconduct`]).
//!
//! **No way down.** Where no hypervisor boots a guest, or none can be kept from the network, nothing runs.
//!
//! Linux on x86-64. Elsewhere [`MicroVms::open`] says that there is none (WC-021).

mod config;
mod dialogue;
mod outcome;
mod report;
mod spec;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod channel;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod confinement;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod control;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod copy;
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod elsewhere;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod firecracker;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod hearing;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod hypervisor;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod initramfs;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod kernel;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod kvm;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod microvms;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod probe;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod qemu;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod run;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod run_dir;

pub use config::{Config, KernelSource, ProgramSource};
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use control::Control;
pub use dialogue::{Broken, Dialogue, LastWord, Misconduct, WINDOW};
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub use elsewhere::{Control, MicroVms};
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use microvms::MicroVms;
pub use outcome::{Collected, Outcome, Sink, Source, Status};
pub use report::{Backend, Program, Report};
pub use spec::{
    Limits, MAX_DISK, MAX_MEMORY, MAX_OUTPUT, MAX_VCPUS, MAX_WALL, MIN_DISK, MIN_MEMORY, Spec,
};
pub use worldcompute_guest::{End, MAX_OUTPUTS, MAX_PATH, OutputFile, Tally};
