//! One run, from the compiled program to its outcome.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::{Store, Trap, UpdateDeadline};
use worldcompute_content::ContentStore;
use worldcompute_fault::{Category, Fault, Result, WcCode};
use worldcompute_proof::Cid;

use crate::engine::{Engine, Program};
use crate::inspect::brief;
use crate::outcome::{Outcome, Output, Status};
use crate::reins::Reins;
use crate::request::{OutputSpec, RunRequest};
use crate::stop::Stop;
use crate::watchdog::Watchdog;
use crate::world::{NodeId, Stdin, World};

/// Most bytes that one call of a component hands to the host.
const HOSTCALL_BYTES: usize = 4 << 20;
/// Most handles a component may hold.
const MAX_HANDLES: usize = 16 << 10;

/// How a guest ended, before its outputs are looked at.
struct Ended {
    status: Status,
    exit_code: Option<i32>,
    error: Option<String>,
}

/// Lays out the guest's world: inputs and standard input, verified.
///
/// # Errors
/// WC-001 naming what is missing, corrupt, too large together, or in each other's way.
pub fn furnish(request: &RunRequest, content: &ContentStore, max_input: u64) -> Result<World> {
    let mut world = World::new(request, request.seed()?);
    let mut left = max_input;
    if let Some(cid) = &request.stdin {
        world.stdin = Stdin::new(fetch("stdin", cid, content, &mut left)?);
    }
    for mount in &request.inputs {
        let bytes = fetch(&mount.path, &mount.cid, content, &mut left)?;
        world
            .files
            .lay_input(&mount.path, bytes)
            .map_err(|refusal| {
                let message = format!("inputs: {} cannot be laid out: {refusal:?}", mount.path);
                Fault::wc(WcCode::InvalidManifest, message)
            })?;
    }
    Ok(world)
}

/// Reads an object that a request names.
///
/// # Errors
/// WC-001 if it is not there or corrupt; what the disk says.
pub fn read(what: &str, cid: &Cid, content: &ContentStore) -> Result<Vec<u8>> {
    content.get(cid).map_err(|fault| match fault.category() {
        Category::DependencyMissing | Category::VerificationFailed => {
            Fault::wc(WcCode::InvalidManifest, format!("{what} cannot be used")).caused_by(fault)
        }
        _ => fault,
    })
}

fn fetch(what: &str, cid: &Cid, content: &ContentStore, left: &mut u64) -> Result<Arc<[u8]>> {
    let bytes = read(what, cid, content)?;
    *left = left.checked_sub(bytes.len() as u64).ok_or_else(|| {
        Fault::wc(
            WcCode::InvalidManifest,
            format!("the inputs up to {what} are too large together"),
        )
    })?;
    Ok(bytes.into())
}

/// Runs the program in its world. Blocks until the guest has ended.
pub fn run(
    engine: &Engine,
    program: &Program,
    world: World,
    request: &RunRequest,
    watchdog: &Watchdog,
    reins: &Reins,
) -> Result<Outcome> {
    let started = Instant::now();
    let limit = Duration::from_millis(request.limits.wall_ms);
    let watched = watchdog.watch(reins.clone(), limit);
    let mut store = prepare(engine, world, request, reins)?;
    let result = match reins.look() {
        Err(stop) => Err(stop.into()),
        Ok(()) => program.call(&mut store),
    };
    drop(watched);
    let left = store.get_fuel().unwrap_or(0);
    let wall_ms = started.elapsed().saturating_sub(reins.frozen()).as_millis() as u64;
    let mut world = store.into_data();
    let used = request
        .limits
        .fuel
        .saturating_sub(left)
        .saturating_add(world.account.worked());
    let mut ended = classify(result, &world);
    if used > request.limits.fuel && !ended.by_the_host() {
        ended = Ended::by(Stop::OutOfFuel);
    }
    let outputs = collect(&mut ended, &mut world, &request.outputs);
    Ok(Outcome {
        status: ended.status,
        exit_code: ended.exit_code,
        stdout: world.stdout,
        stderr: world.stderr,
        outputs,
        fuel_used: used.min(request.limits.fuel),
        wall_ms,
        error: ended.error,
    })
}

/// The outcome of a run that was cancelled before it began.
pub fn cancelled() -> Outcome {
    let ended = Ended::by(Stop::Cancelled);
    Outcome {
        status: ended.status,
        exit_code: None,
        stdout: Vec::new(),
        stderr: Vec::new(),
        outputs: Vec::new(),
        fuel_used: 0,
        wall_ms: 0,
        error: ended.error,
    }
}

fn prepare(
    engine: &Engine,
    world: World,
    request: &RunRequest,
    reins: &Reins,
) -> Result<Store<World>> {
    let mut store = Store::new(engine.wasmtime(), world);
    store.limiter(|world| &mut world.meter);
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    store.set_max_component_handles(MAX_HANDLES);
    store.set_epoch_deadline(1);
    let reins = reins.clone();
    store.epoch_deadline_callback(move |_| match reins.look() {
        Err(stop) => Err(stop.into()),
        Ok(()) => Ok(UpdateDeadline::Continue(1)),
    });
    store.set_fuel(request.limits.fuel).map_err(|error| {
        Fault::wc(
            WcCode::Internal,
            format!("the engine counts no fuel: {error:#}"),
        )
    })?;
    Ok(store)
}

fn classify(result: wasmtime::Result<i32>, world: &World) -> Ended {
    let error = match result {
        Ok(code) => return Ended::by(Stop::Exit(code)),
        Err(error) => error,
    };
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return Ended::by(*stop);
    }
    if let Some(Trap::OutOfFuel) = error.downcast_ref::<Trap>() {
        return Ended::by(Stop::OutOfFuel);
    }
    let (status, why) = match world.meter.starved() {
        true => (Status::OutOfMemory, "growing its memory was refused"),
        false => (Status::Trapped, "it trapped"),
    };
    Ended {
        status,
        exit_code: None,
        error: Some(format!("{why}: {}", brief(&error.root_cause()))),
    }
}

impl Ended {
    fn by(stop: Stop) -> Self {
        let status = match stop {
            Stop::Exit(0) => Status::Succeeded,
            Stop::Exit(_) => Status::Failed,
            Stop::OutputLimit => Status::OutputLimit,
            Stop::OutOfFuel => Status::OutOfFuel,
            Stop::TimedOut => Status::TimedOut,
            Stop::Cancelled => Status::Cancelled,
            Stop::HostMemory => Status::OutOfMemory,
        };
        let exit_code = match stop {
            Stop::Exit(code) => Some(code),
            _ => None,
        };
        let error = (status != Status::Succeeded).then(|| stop.to_string());
        Self {
            status,
            exit_code,
            error,
        }
    }

    /// Ended for a reason that lies outside the guest, and so may differ from machine to machine.
    const fn by_the_host(&self) -> bool {
        matches!(self.status, Status::TimedOut | Status::Cancelled)
    }

    fn fail(&mut self, status: Status, error: String) {
        self.status = status;
        self.error = Some(error);
    }
}

/// The declared outputs of a guest that succeeded, which it did not if one is missing or too large.
fn collect(ended: &mut Ended, world: &mut World, specs: &[OutputSpec]) -> Vec<Output> {
    let mut outputs = Vec::new();
    if ended.status != Status::Succeeded {
        return outputs;
    }
    for spec in specs {
        match take(world, spec) {
            Ok(bytes) => outputs.push(Output {
                name: spec.name.clone(),
                bytes,
            }),
            Err((status, error)) => {
                ended.fail(status, error);
                return Vec::new();
            }
        }
    }
    outputs
}

fn take(world: &mut World, spec: &OutputSpec) -> Result<Vec<u8>, (Status, String)> {
    let OutputSpec {
        name,
        path,
        max_bytes,
    } = spec;
    let missing = |_| {
        (
            Status::Failed,
            format!("output {name}: there is no file {path}"),
        )
    };
    let relative = path.trim_start_matches('/');
    let node = world
        .files
        .lookup(NodeId::ROOT, relative)
        .map_err(missing)?;
    let size = world.files.bytes(node).map_err(missing)?.len() as u64;
    if size > *max_bytes {
        let error = format!("output {name}: {path} has {size} bytes, {max_bytes} is the most");
        return Err((Status::OutputLimit, error));
    }
    world.files.take_bytes(node).map_err(missing)
}
