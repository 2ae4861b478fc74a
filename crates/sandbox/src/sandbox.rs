//! The sandbox: an engine, its compiled programs, and the threads that guests run on.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use worldcompute_content::ContentStore;
use worldcompute_fault::{Fault, Result, WcCode};

use crate::engine::{Engine, Program};
use crate::programs::Programs;
use crate::run;
use crate::watchdog::Watchdog;
use crate::{CancelToken, Outcome, Reins, RunRequest};

/// How much of this machine guests may use. Nothing here changes what a guest computes.
///
/// Guests run on the blocking threads of the tokio runtime, whose stacks have to stay at 1 MiB at least (2 MiB is the
/// default).
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Guests and compilations at the same time; further ones wait.
    pub workers: usize,
    /// Memory for compiled programs, in bytes.
    pub cache_bytes: u64,
    /// Most bytes of all inputs of one run together, standard input included.
    pub max_input_bytes: u64,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            cache_bytes: 256 << 20,
            max_input_bytes: 256 << 20,
        }
    }
}

/// Runs guests, each in a world of its own. Clones share everything.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<Engine>,
    programs: Programs,
    workers: Arc<Semaphore>,
    watchdog: Watchdog,
    max_input_bytes: u64,
}

impl Sandbox {
    /// # Errors
    /// WC-007 on a machine that cannot run compiled WebAssembly.
    pub fn new(config: SandboxConfig) -> Result<Self> {
        if config.workers == 0 {
            return Err(Fault::wc(
                WcCode::SandboxUnavailable,
                "a sandbox without workers runs nothing",
            ));
        }
        let engine = Arc::new(Engine::new()?);
        let workers = Arc::new(Semaphore::new(config.workers.min(Semaphore::MAX_PERMITS)));
        let inner = Inner {
            programs: Programs::new(engine.clone(), workers.clone(), config.cache_bytes),
            watchdog: Watchdog::start(engine.wasmtime())?,
            engine,
            workers,
            max_input_bytes: config.max_input_bytes,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Runs what `request` says, if `permit` is for exactly that.
    ///
    /// Only the gate makes a permit, and without one nothing runs:
    ///
    /// ```compile_fail,E0061
    /// # use worldcompute_sandbox::{CancelToken, RunRequest, Sandbox};
    /// # async fn run(sandbox: Sandbox, request: RunRequest, content: worldcompute_content::ContentStore) {
    /// sandbox.run(&request, &content, CancelToken::new()).await;
    /// # }
    /// ```
    ///
    /// With one it reads:
    ///
    /// ```no_run
    /// # use worldcompute_sandbox::{CancelToken, Outcome, RunRequest, Sandbox};
    /// # async fn run(
    /// #     gate: gait::Gate, sandbox: Sandbox, request: RunRequest, content: worldcompute_content::ContentStore,
    /// # ) -> worldcompute_fault::Result<Outcome> {
    /// let permit = gate.decide(&request.intent()?)?.permit()?;
    /// sandbox.run(permit, &request, &content, CancelToken::new()).await
    /// # }
    /// ```
    ///
    /// The guest runs on a thread that may block; this future only waits for it. Dropping the future ends the guest
    /// as cancelling it does.
    ///
    /// # Errors
    /// Nothing has run then: `permit_mismatch` for a permit for anything else; WC-001 for a request past a limit or of the
    /// profile of images, a workload or an input that is missing or corrupt, and a workload that is not a program; WC-015
    /// for a defect.
    pub async fn run(
        &self,
        permit: gait::Permit,
        request: &RunRequest,
        content: &ContentStore,
        cancel: CancelToken,
    ) -> Result<Outcome> {
        let reins = Reins::new();
        self.run_held(permit, request, content, cancel, &reins)
            .await
    }

    /// The same, held by `reins`, which are for this run alone. A run that is frozen before it begins begins frozen.
    ///
    /// # Errors
    /// As [`Sandbox::run`].
    pub async fn run_held(
        &self,
        permit: gait::Permit,
        request: &RunRequest,
        content: &ContentStore,
        cancel: CancelToken,
        reins: &Reins,
    ) -> Result<Outcome> {
        let allowed = permit.redeem(&request.intent()?.digest())?;
        request.seed()?;
        tracing::debug!(
            decision = allowed.trace_id(),
            job = request.job_id,
            task = request.task_index,
            "run"
        );
        let ready = async {
            let program = self.inner.programs.get(&request.workload, content).await?;
            let worker = self.inner.workers.clone().acquire_owned().await;
            let worker = worker.map_err(|error| {
                Fault::wc(WcCode::SandboxUnavailable, "the sandbox is closed").caused_by(error)
            })?;
            Ok((program, worker))
        };
        match cancel.run_until_cancelled(ready).await {
            None => Ok(run::cancelled()),
            Some(Err(fault)) => Err(fault),
            Some(Ok((program, worker))) => {
                self.start(program, worker, request, content, reins)
                    .await_end(&cancel)
                    .await
            }
        }
    }

    /// Workers that have neither a guest nor a compilation at the moment.
    pub fn idle_workers(&self) -> usize {
        self.inner.workers.available_permits()
    }

    fn start(
        &self,
        program: Arc<Program>,
        worker: OwnedSemaphorePermit,
        request: &RunRequest,
        content: &ContentStore,
        reins: &Reins,
    ) -> Running {
        let (inner, request, content, held) = (
            self.inner.clone(),
            request.clone(),
            content.clone(),
            reins.clone(),
        );
        let guest = tokio::task::spawn_blocking(move || {
            let _worker = worker;
            let world = run::furnish(&request, &content, inner.max_input_bytes)?;
            run::run(
                &inner.engine,
                &program,
                world,
                &request,
                &inner.watchdog,
                &held,
            )
        });
        Running {
            reins: reins.clone(),
            guest,
        }
    }
}

/// A guest on its thread. Dropping this ends it.
struct Running {
    reins: Reins,
    guest: JoinHandle<Result<Outcome>>,
}

impl Running {
    async fn await_end(mut self, cancel: &CancelToken) -> Result<Outcome> {
        let ended = match cancel.run_until_cancelled(&mut self.guest).await {
            Some(ended) => ended,
            None => {
                self.reins.cancel();
                (&mut self.guest).await
            }
        };
        ended.unwrap_or_else(|error| {
            Err(Fault::wc(WcCode::Internal, "a guest took its worker down").caused_by(error))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.guest.is_finished() {
            self.reins.cancel();
        }
    }
}
