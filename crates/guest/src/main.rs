//! The first process inside a microVM: loads drivers, calls the host, runs one program and tells how it ended.
//!
//! It listens on nothing and decides nothing: what it says is taken for a stranger's word by the host. It is built for
//! `x86_64-unknown-linux-musl` without any library beside it, and embedded into the program that starts the VM.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("worldcompute-guest: this is the first process of a Linux machine");
    std::process::ExitCode::FAILURE
}
