//! From what the sandbox knows to what a receipt says.

use worldcompute_fault::Result;
use worldcompute_ledger::receipt::{Backend, Input, Limits, Path, Status};
use worldcompute_microvm as microvm;
use worldcompute_proof::{Sha256, canonical_json};
use worldcompute_sandbox::{self as sandbox, RunRequest};

/// SHA-256 of the request's canonical JSON (RFC 8785).
pub fn request_digest(run: &RunRequest) -> Result<Sha256> {
    canonical_json(run).map(|bytes| Sha256::of(&bytes))
}

/// The files that the task could read.
pub fn inputs(run: &RunRequest) -> Vec<Input> {
    run.inputs
        .iter()
        .map(|input| Input {
            path: input.path.clone(),
            cid: input.cid,
        })
        .collect()
}

/// What the task could use.
pub const fn limits(run: &RunRequest) -> Limits {
    let sandbox::Limits {
        fuel,
        memory_bytes,
        wall_ms,
        output_bytes,
    } = run.limits;
    Limits {
        fuel,
        memory_bytes,
        wall_ms,
        output_bytes,
    }
}

/// How the run ended.
pub const fn status(status: sandbox::Status) -> Status {
    match status {
        sandbox::Status::Succeeded => Status::Succeeded,
        sandbox::Status::Failed => Status::Failed,
        sandbox::Status::Trapped => Status::Trapped,
        sandbox::Status::OutOfFuel => Status::OutOfFuel,
        sandbox::Status::OutOfMemory => Status::OutOfMemory,
        sandbox::Status::TimedOut => Status::TimedOut,
        sandbox::Status::OutputLimit => Status::OutputLimit,
        sandbox::Status::Cancelled => Status::Cancelled,
    }
}

/// What the run's machine was.
pub const fn backend(backend: microvm::Backend) -> Backend {
    match backend {
        microvm::Backend::Firecracker => Backend::Firecracker,
        microvm::Backend::QemuKvm => Backend::QemuKvm,
        microvm::Backend::QemuEmulation => Backend::QemuEmulation,
    }
}

/// How the two sides reached each other.
pub const fn path(path: worldcompute_mesh::Path) -> Path {
    match path {
        worldcompute_mesh::Path::Direct => Path::Direct,
        worldcompute_mesh::Path::HolePunched => Path::HolePunched,
        worldcompute_mesh::Path::Relayed => Path::Relayed,
    }
}
