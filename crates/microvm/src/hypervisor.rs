//! The trait that every hypervisor is behind, and a VM that runs.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use worldcompute_fault::{Fault, Result, WcCode};

use crate::confinement::Confinement;
use crate::kernel::Kernel;
use crate::qemu::Monitor;
use crate::run_dir::RunDir;
use crate::{Backend, Limits, Program};

/// What every guest's kernel is told. A guest that is given up needs no second chance, and none of what takes time at
/// its start: it runs one program of one owner and trusts nothing in it.
pub const KERNEL_ARGS: &str = "console=ttyS0 quiet panic=-1 mitigations=off init_on_alloc=0 nokaslr cryptomgr.notests audit=0 \
     random.trust_cpu=on";

/// What a VM is made of.
pub struct Machine<'a> {
    pub kernel: &'a Kernel,
    /// Its disk; a probe needs none.
    pub rootfs: Option<File>,
    pub limits: &'a Limits,
    pub confinement: &'a Confinement,
    /// The folder below which its own is made, on the kernel's disk.
    pub runs: &'a Path,
}

/// What starts VMs.
pub trait Hypervisor: Send + Sync {
    /// Which backend it is.
    fn backend(&self) -> Backend;

    /// Its program, if it is installed and nothing speaks against it without trying.
    ///
    /// # Errors
    /// What is missing, with what to do about it.
    fn program(&self) -> Result<Program>;

    /// Starts a VM. That it boots is not said.
    ///
    /// # Errors
    /// WC-007 where the program cannot be started; what the disk says.
    fn start(&self, machine: Machine<'_>) -> Result<Vm>;
}

/// A VM that was started. Dropped, it is gone: the process first, then its folder.
pub struct Vm {
    pub process: Process,
    /// Where the agent calls.
    pub channel: UnixListener,
    /// What the hypervisor tells of the VM's fate, where it tells any.
    pub monitor: Option<Monitor>,
    pub dir: RunDir,
}

/// A process that ends with its owner.
pub struct Process {
    child: Child,
    handle: OwnedFd,
}

impl Process {
    /// Starts `command`. The thread that does has to outlive it, since the process is told to die with that thread.
    ///
    /// # Errors
    /// WC-007 where that does not work.
    pub fn start(mut command: Command) -> Result<Self> {
        let failed = |error: io::Error| {
            Fault::wc(
                WcCode::SandboxUnavailable,
                "the hypervisor cannot be started",
            )
            .caused_by(error)
        };
        let mut child = command.spawn().map_err(failed)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let opened = pid
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
            .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?));
        match opened {
            Ok(handle) => Ok(Self { child, handle }),
            Err(error) => {
                end(&mut child);
                Err(failed(error))
            }
        }
    }

    /// Readable when the process has ended.
    pub const fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    /// What it prints, to be taken once.
    pub const fn output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// How it ended, once it has.
    ///
    /// # Errors
    /// What the system says.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // Neither fails but for a process that has been waited for already.
    let _ = child.kill();
    let _ = child.wait();
}
