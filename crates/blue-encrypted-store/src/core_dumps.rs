//! Keeps a process that holds keys from leaving them in a core dump.

use worldcompute_fault::{Category, Fault, Result};

/// Has this process, and those that it starts, leave no core dump, whatever the limits of its user and the kernel's
/// `core_pattern` say. Nobody but the superuser can read its memory or attach a debugger to it afterwards either. For the
/// beginning of `main` of a program that opens a store; a library does not decide that by itself.
///
/// # Errors
/// `core_dumps_not_forbidden`; on systems other than Linux, where the limit alone is set, only when that fails.
pub fn forbid_core_dumps() -> Result<()> {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).map_err(not_forbidden)?;
    undumpable().map_err(not_forbidden)
}

/// A limit of zero does not keep the kernel from handing the dump to a program.
#[cfg(target_os = "linux")]
fn undumpable() -> rustix::io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
}

#[cfg(not(target_os = "linux"))]
fn undumpable() -> rustix::io::Result<()> {
    Ok(())
}

fn not_forbidden(errno: rustix::io::Errno) -> Fault {
    let message = format!("core dumps of this process cannot be forbidden: {errno}");
    Fault::new(
        Category::DependencyMissing,
        "core_dumps_not_forbidden",
        message,
    )
    .hint("start it where it may set its own limits")
}
