//! The microVMs of one machine: what is there, what works, and runs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use worldcompute_durable::private_dir;
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_proof::Sha256;

use crate::confinement::Confinement;
use crate::dialogue::Dialogue;
use crate::firecracker::Firecracker;
use crate::hypervisor::{Hypervisor, Machine};
use crate::kernel::Kernel;
use crate::probe::{Memory, Question};
use crate::qemu::{self, Qemu};
use crate::run_dir::RunDir;
use crate::{
    Backend, Collected, Config, Control, KernelSource, Limits, Outcome, Program, Report, Sink,
    Spec, Status, run,
};

/// The microVMs of this machine. Everything here blocks: in async code call it from a blocking thread.
#[derive(Clone, Debug)]
pub struct MicroVms {
    kernel: Kernel,
    confinement: Confinement,
    firecracker: Firecracker,
    only: Option<Backend>,
    runs: PathBuf,
    memory: Memory,
}

impl MicroVms {
    /// Whether there is a kernel and a hypervisor to try. A look and no boot: it proves nothing.
    pub fn is_equipped(config: &Config) -> bool {
        let kernel = config.kernel.is_some() || KernelSource::installed().is_ok();
        let firecracker = Firecracker::new(config.firecracker.clone());
        kernel && (firecracker.is_installed() || qemu::is_installed())
    }

    /// Prepares the kernel, and removes what runs of processes that were killed have left. Kernel, folders of runs and
    /// what is remembered are kept in `home`.
    ///
    /// # Errors
    /// WC-007 without a kernel that can be used, or without namespaces that the configuration does not let go;
    /// `hypervisor_missing` without the tools that confine; `kernel_digest_mismatch`; what the disk says.
    pub fn open(config: &Config, home: &Path) -> Result<Self> {
        let source = match &config.kernel {
            Some(source) => source.clone(),
            None => KernelSource::installed()?,
        };
        let confinement = Confinement::of_this_machine(config.allow_without_namespaces)?;
        private_dir(home)?;
        let runs = home.join("runs");
        RunDir::sweep(&runs)?;
        Ok(Self {
            kernel: Kernel::prepare(&source, &home.join("kernels"))?,
            confinement,
            firecracker: Firecracker::new(config.firecracker.clone()),
            only: config.backend,
            runs,
            memory: Memory::at(home.join("hypervisors.json")),
        })
    }

    /// SHA-256 of the image of the guests' kernel.
    pub const fn kernel_digest(&self) -> Sha256 {
        self.kernel.digest()
    }

    /// How hypervisors are confined here, in words.
    pub fn confinement(&self) -> String {
        self.confinement.describe()
    }

    /// What is known of every backend, in the order of preference: remembered, or found out by booting a guest on each,
    /// which takes seconds. A backend on which no guest boots is asked again after ten minutes.
    ///
    /// # Errors
    /// What the disk says. A backend that does not work is no error.
    pub fn survey(&self) -> Result<Vec<Report>> {
        let hypervisors = self.hypervisors();
        let programs = hypervisors.map(Hypervisor::program);
        let found = programs
            .iter()
            .map(|program| program.as_ref().ok().cloned())
            .collect();
        let question = Question::new(self.kernel.key(), self.confinement(), found)?;
        let known = self.memory.recall(&question);
        let mut asked = false;
        let mut reports = Vec::new();
        for (hypervisor, program) in hypervisors.into_iter().zip(programs) {
            let backend = hypervisor.backend();
            let known = known.iter().find(|report| report.backend == backend);
            reports.push(match (program, known) {
                (Err(fault), _) => Report::unusable(backend, None, &fault, self.confinement()),
                (Ok(_), Some(known)) => known.clone(),
                (Ok(program), None) => {
                    asked = true;
                    self.report(hypervisor, program)
                }
            });
        }
        if asked {
            self.memory.keep(question, &reports)?;
        }
        Ok(reports)
    }

    /// The best backend that works.
    ///
    /// # Errors
    /// WC-007, naming what speaks against each. There is no weaker sandbox to fall back to.
    pub fn choose(&self) -> Result<Backend> {
        let mut reports = self.survey()?;
        reports.retain(|report| self.only.is_none_or(|only| only == report.backend));
        if let Some(report) = reports.iter().find(|report| report.usable) {
            return Ok(report.backend);
        }
        let why: Vec<_> = reports
            .iter()
            .map(|report| format!("{}: {}", report.backend, report.why_not))
            .collect();
        let message = format!(
            "no hypervisor of this machine boots a guest ({})",
            why.join("; ")
        );
        Err(Fault::wc(WcCode::SandboxUnavailable, message)
            .hint("apt-get install --no-install-recommends qemu-system-x86, then see `worldcompute doctor`"))
    }

    /// Runs `spec` on `backend`. `rootfs` is an ext4 file system with the image's files, and only read: what the program
    /// writes is gone with the VM. What it prints goes to `sink`; `control` freezes and ends it.
    ///
    /// When this returns nothing of the VM is left: no process, no file, no socket. A guest that is given up because of
    /// the machine makes that what is remembered of the machine is forgotten.
    ///
    /// # Errors
    /// Nothing has run, or it has no outcome then: WC-001 past a limit, WC-007 where the hypervisor cannot be started,
    /// what the disk says of the image, what `sink` says. However a guest ends is no error, but an [`Outcome`].
    pub fn run(
        &self,
        backend: Backend,
        rootfs: File,
        spec: &Spec,
        sink: &mut dyn Sink,
        control: &Control,
    ) -> Result<Outcome> {
        spec.check()?;
        let hypervisor = self.hypervisor(backend);
        let machine = Machine {
            rootfs: Some(rootfs),
            ..self.machine(&spec.limits)
        };
        let vm = hypervisor.start(machine)?;
        let dialogue = Dialogue::new(Some(spec.request()), spec.limits.output_bytes);
        let outcome = run::attend(vm, dialogue, &spec.limits, sink, control)?;
        if outcome.status.is_of_the_machine() {
            tracing::warn!(%backend, status = %outcome.status, console = outcome.console, "a guest was given up");
            self.memory.forget()?;
        }
        Ok(outcome)
    }

    /// In the order of [`Backend::ALL`].
    fn hypervisors(&self) -> [&dyn Hypervisor; 3] {
        Backend::ALL.map(|backend| self.hypervisor(backend))
    }

    fn hypervisor(&self, backend: Backend) -> &dyn Hypervisor {
        match backend {
            Backend::Firecracker => &self.firecracker,
            Backend::QemuKvm => &Qemu::Kvm,
            Backend::QemuEmulation => &Qemu::Emulation,
        }
    }

    fn report(&self, hypervisor: &dyn Hypervisor, program: Program) -> Report {
        let (backend, confinement) = (hypervisor.backend(), self.confinement());
        match self.probe(hypervisor) {
            Ok(boot) => {
                let boot_ms = u64::try_from(boot.as_millis()).unwrap_or(u64::MAX);
                Report::usable(backend, program, boot_ms, confinement)
            }
            Err(fault) => Report::unusable(backend, Some(program), &fault, confinement),
        }
    }

    fn probe(&self, hypervisor: &dyn Hypervisor) -> Result<Duration> {
        let limits = Limits::default();
        let vm = hypervisor.start(self.machine(&limits))?;
        let control = Control::new()?;
        let outcome = run::attend(
            vm,
            Dialogue::new(None, 0),
            &limits,
            &mut Collected::default(),
            &control,
        )?;
        match (outcome.status, outcome.boot) {
            (Status::Succeeded, Some(boot)) => Ok(boot),
            (status, _) => {
                let last = outcome.console.lines().last().unwrap_or_default();
                let message = format!("a guest did not boot on it: {status} ({last})");
                Err(Fault::wc(WcCode::SandboxUnavailable, message)
                    .hint("see the log for its console"))
            }
        }
    }

    fn machine<'a>(&'a self, limits: &'a Limits) -> Machine<'a> {
        Machine {
            kernel: &self.kernel,
            rootfs: None,
            limits,
            confinement: &self.confinement,
            runs: &self.runs,
        }
    }
}
