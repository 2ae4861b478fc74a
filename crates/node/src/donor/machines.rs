//! The microVMs of this donor: an image becomes a disk, and runs in a machine of its own where the gate let it through.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gait::Permit;
use worldcompute_content::ContentStore;
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_image::{Furnishing, Image, Making, Overrides, Process, STDIN_PATH, rootfs};
use worldcompute_ledger::receipt::Machine;
use worldcompute_microvm::{
    self as microvm, Backend, Collected, Control, Limits, MicroVms, OutputFile, Spec,
};
use worldcompute_rootfs::{Cache, Devices, Limits as RootfsLimits, Size};
use worldcompute_sandbox::{CancelToken, Profile, RunRequest};

use super::ended::Ended;
use crate::blocking::blocking;
use crate::config::Config;
use crate::home::Home;
use crate::receipts;

/// For how long images are not offered once no guest booted here: as long as that is remembered.
const WITHDRAWN_FOR: Duration = Duration::from_secs(600);
/// How long a guest has to boot: an emulated processor of a busy machine takes its time.
const BOOT: Duration = Duration::from_secs(120);

/// The machines of one donor. Nothing is opened, unpacked or booted before the first image comes.
#[derive(Clone)]
pub struct Machines(Arc<Inner>);

struct Inner {
    config: microvm::Config,
    home: PathBuf,
    rootfs: PathBuf,
    rootfs_bytes: u64,
    /// Whether the operator wants images, and there is something to try: a kernel and a hypervisor.
    equipped: bool,
    ready: Mutex<Option<Ready>>,
    /// One survey at a time: those that boot beside each other make each other fail.
    surveying: Mutex<()>,
    withdrawn: Mutex<Option<Instant>>,
}

#[derive(Clone)]
struct Ready {
    vms: MicroVms,
    cache: Cache,
}

impl Machines {
    /// Those of a home, as its operator configured them.
    pub fn new(config: &Config, home: &Home) -> Self {
        Self(Arc::new(Inner {
            equipped: config.images && MicroVms::is_equipped(&config.microvm),
            config: config.microvm.clone(),
            home: home.microvm(),
            rootfs: home.rootfs(),
            rootfs_bytes: config.rootfs_bytes,
            ready: Mutex::default(),
            surveying: Mutex::default(),
            withdrawn: Mutex::default(),
        }))
    }

    /// Whether images may be sent here. It is found out by booting a guest, and that only once one has come.
    pub fn are_offered(&self) -> bool {
        let withdrawn = lock(&self.0.withdrawn);
        self.0.equipped && withdrawn.is_none_or(|since| since.elapsed() > WITHDRAWN_FOR)
    }

    /// Whoever did not hear of the offer, or will not, is told.
    ///
    /// # Errors
    /// WC-004 for an image where none are offered.
    pub fn check(&self, run: &RunRequest) -> Result<()> {
        match run.profile {
            Profile::MicroVm { .. } if !self.are_offered() => Err(Fault::wc(
                WcCode::NoEligibleNodes,
                "this donor runs no images",
            )),
            _ => Ok(()),
        }
    }

    /// Runs the image that `request` names, if `permit` is for exactly that. Everything it is made of is in the content
    /// store. `control` freezes and ends it.
    ///
    /// # Errors
    /// Nothing has run then, or without an end that says something of the program: `permit_mismatch`; WC-007 where no
    /// machine boots here, or one was given up; what image and disk say.
    pub async fn run(
        &self,
        permit: Permit,
        request: &RunRequest,
        content: &Arc<ContentStore>,
        control: &Control,
        cancel: &CancelToken,
    ) -> Result<Ended> {
        let allowed = permit.redeem(&request.intent()?.digest())?;
        tracing::debug!(decision = allowed.trace_id(), job = request.job_id, "boot");
        let _reins = Reins(control.clone());
        let (inner, request, content) = (self.0.clone(), request.clone(), content.clone());
        let held = control.clone();
        let run = blocking(move || inner.run(&request, &content, &held));
        tokio::pin!(run);
        match cancel.run_until_cancelled(&mut run).await {
            Some(ended) => ended,
            None => {
                control.cancel();
                run.await
            }
        }
    }
}

/// Whoever stops waiting for a run ends it.
struct Reins(Control);

impl Drop for Reins {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Inner {
    fn run(
        &self,
        request: &RunRequest,
        content: &ContentStore,
        control: &Control,
    ) -> Result<Ended> {
        let (ready, backend) = self.ready()?;
        let image = Image::read(content, &request.workload)?;
        let process = image.config().process(&overrides(request))?;
        let disk = rootfs(
            content,
            &image,
            &furnishing(request),
            &ready.cache,
            Making {
                devices: Devices::EmptyFile,
                size: Size::WithRoom(request.limits.output_bytes),
                limits: self.limits(),
                go_on: &|| go_on(control),
            },
        )?;
        go_on(control)?;
        let spec = spec(request, process, disk.size())?;
        let mut collected = Collected::default();
        let ran = ready
            .vms
            .run(backend, disk.into_file(), &spec, &mut collected, control)?;
        let machine = Machine {
            backend: receipts::backend(backend),
            kernel: ready.vms.kernel_digest(),
        };
        Ended::in_machine(ran, collected, request, machine)
    }

    /// No image comes to more than the operator gave to all of them.
    fn limits(&self) -> RootfsLimits {
        let limits = RootfsLimits::default();
        RootfsLimits {
            max_unpacked: limits.max_unpacked.min(self.rootfs_bytes),
            max_image: limits.max_image.min(self.rootfs_bytes),
            ..limits
        }
    }

    /// What boots here, found out again where it is not known any more.
    fn ready(&self) -> Result<(Ready, Backend)> {
        let _alone = lock(&self.surveying);
        let found = self.opened().and_then(|ready| {
            let backend = ready.vms.choose()?;
            Ok((ready, backend))
        });
        *lock(&self.withdrawn) = found.is_err().then(Instant::now);
        found
    }

    fn opened(&self) -> Result<Ready> {
        let mut ready = lock(&self.ready);
        if let Some(ready) = &*ready {
            return Ok(ready.clone());
        }
        let new = Ready {
            vms: MicroVms::open(&self.config, &self.home)?,
            cache: Cache::open(&self.rootfs, self.rootfs_bytes)?,
        };
        Ok(ready.insert(new).clone())
    }
}

/// Waits for as long as the run is frozen, while there is no process yet that could be.
///
/// # Errors
/// `task_cancelled` for one that is to end: nothing ran.
fn go_on(control: &Control) -> Result<()> {
    match control.wait_while_frozen()? {
        true => Ok(()),
        false => Err(super::cancelled()),
    }
}

/// What a job says otherwise than its image.
pub fn overrides(request: &RunRequest) -> Overrides {
    Overrides {
        command: request.args.clone(),
        env: request.env.clone().into_iter().collect(),
    }
}

fn furnishing(request: &RunRequest) -> Furnishing {
    let inputs = request.inputs.iter();
    Furnishing {
        inputs: inputs
            .map(|input| (input.path.clone(), input.cid))
            .collect(),
        stdin: request.stdin,
        outputs: !request.outputs.is_empty(),
    }
}

/// The disk is as large as what may be written to it, so that the guest's own file system says when it is full.
fn spec(request: &RunRequest, process: Process, disk_bytes: u64) -> Result<Spec> {
    let Profile::MicroVm { vcpus } = request.profile else {
        return Err(Fault::wc(
            WcCode::InvalidManifest,
            "a module is no image, and needs no machine",
        ));
    };
    let outputs = request.outputs.iter().map(|output| OutputFile {
        path: output.path.clone(),
        max_bytes: output.max_bytes,
    });
    Ok(Spec {
        argv: process.argv,
        env: process.env,
        user: process.user.to_string(),
        cwd: process.cwd,
        stdin: request
            .stdin
            .map(|_| STDIN_PATH.to_owned())
            .unwrap_or_default(),
        outputs: outputs.collect(),
        limits: Limits {
            memory_bytes: request.limits.memory_bytes,
            vcpus,
            // What a hypervisor notes beside what is written: QEMU's list of clusters, Firecracker's copy as a whole.
            disk_bytes: disk_bytes + disk_bytes / 8 + (16 << 20),
            wall: Duration::from_millis(request.limits.wall_ms),
            boot: BOOT,
            output_bytes: request.limits.output_bytes,
            ..Limits::default()
        },
    })
}

/// What is in it is consistent after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use worldcompute_proof::{Cid, SigningKey};
    use worldcompute_scheduler::manifest::Manifest;

    /// A run of a job whose spec has this workload.
    fn run(workload: &str) -> RunRequest {
        let document = format!(
            "{{apiVersion: worldcompute/v1, kind: Job, metadata: {{name: test}}, spec: {{{workload}}}}}"
        );
        let manifest = Manifest::parse(document.as_bytes()).unwrap();
        let manifest = manifest.resolve(|_| unreachable!()).unwrap();
        let key = SigningKey::from_seed([1; 32]);
        manifest.sign(&key).unwrap().task(0).unwrap()
    }

    fn image() -> RunRequest {
        run(&format!("image: 'oci+cid:{}'", Cid::raw(b"image")))
    }

    #[test]
    fn an_image_is_refused_where_the_operator_wants_none_whatever_its_sender_heard() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            images: false,
            ..Config::default()
        };
        let machines = Machines::new(&config, &Home::at(dir.path()));
        assert!(!machines.are_offered());
        let fault = machines.check(&image()).unwrap_err();
        assert_eq!(fault.number(), Some(WcCode::NoEligibleNodes));
        let module = run(&format!("wasm: 'cid:{}'", Cid::raw(b"module")));
        machines.check(&module).unwrap();
    }

    #[test]
    fn a_run_that_is_frozen_before_it_has_begun_waits_and_one_that_is_cancelled_ends() {
        let control = Control::new().unwrap();
        go_on(&control).unwrap();
        control.freeze().unwrap();
        let (gone_on, heard) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| gone_on.send(go_on(&control)));
            let early = heard.recv_timeout(Duration::from_millis(50));
            assert!(early.is_err(), "it did not wait");
            control.resume().unwrap();
            waits.join().unwrap().unwrap();
        });
        heard.recv().unwrap().unwrap();
        control.freeze().unwrap();
        control.cancel();
        assert_eq!(go_on(&control).unwrap_err().code(), "task_cancelled");
    }

    #[test]
    fn the_disk_of_an_image_is_no_larger_than_all_of_them_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            rootfs_bytes: 1 << 20,
            ..Config::default()
        };
        let limits = Machines::new(&config, &Home::at(dir.path())).0.limits();
        assert_eq!((limits.max_unpacked, limits.max_image), (1 << 20, 1 << 20));
    }
}
