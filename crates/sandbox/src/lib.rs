//! Run it: other people's WebAssembly, with nothing of this machine in reach.
//!
//! A guest is a WebAssembly module with WASI preview 1 or a component with WASI preview 2, in binary or in text form.
//! It starts at `_start` or `wasi:cli/run`. [`Sandbox::run`] takes a
//! [`RunRequest`] and the [`gait::Permit`] for exactly that request, and returns an [`Outcome`].
//!
//! **Confinement.** The guest's files, clock, randomness and standard streams are values in this process's memory; none
//! of its calls becomes a call to the operating system. It sees one directory, `/`, with the inputs of the request laid
//! out read-only, and `/out`, which it may write to. There is no network. Whatever it makes the host keep for it is
//! bounded by [`Limits`].
//!
//! **Determinism.** Equal requests have equal outcomes on every machine, up to wall-clock time: one bit pattern for
//! NaN, no threads, deterministic relaxed SIMD, randomness and time that are functions of the request, and fuel that
//! counts the same everywhere. So anyone can check a result by running it again. Two things lie outside: a guest that
//! a wall-clock limit or a cancellation ends, and how deep a recursion is that exhausts the stack (the guest traps, and
//! never sees the depth it died at).
//!
//! **Accounts.** Every guest ends with a [`Status`] of its own for each limit, and with [`Status::Succeeded`] only if
//! it exited with 0 and left every declared output.

mod engine;
mod inspect;
mod meter;
mod outcome;
mod preview1;
mod preview2;
mod programs;
mod reins;
mod request;
mod run;
mod sandbox;
mod stop;
mod watchdog;
mod world;

pub use inspect::{
    MAX_ADAPTERS, MAX_COMPONENT_TYPES, MAX_ELEMENTS, MAX_FUNCTION, MAX_FUNCTIONS, MAX_GLOBALS,
    MAX_IMAGES, MAX_IMPORTS, MAX_INITIAL_VALUES, MAX_LOCALS, MAX_LOOP_PAIRS, MAX_MEETINGS,
    MAX_MODULES, MAX_SCATTERED_DATA, MAX_SIGNATURE_VALUES, MAX_SIGNATURES, MAX_TABLE_ELEMENTS,
    MAX_WORKLOAD, MAX_WORKLOAD_TEXT, SMALL_FUNCTION, check_workload,
};
pub use outcome::{Outcome, Output, Status};
pub use reins::Reins;
pub use request::{
    Limits, MAX_ENTRIES, MAX_MACHINE_MEMORY, MAX_MEMORY, MAX_NAME, MAX_NUMBER, MAX_OUTPUT,
    MAX_PATH, MAX_TEXT, MAX_VCPUS, MAX_WALL_MS, Mount, OutputSpec, Profile, RunRequest,
};
pub use sandbox::{Sandbox, SandboxConfig};
pub use stop::is_by_host;
/// Ends a run from outside: cancel it, and the guest stops with [`Status::Cancelled`].
pub use tokio_util::sync::CancellationToken as CancelToken;
