//! Builds the agent, so that it is in the program: a static executable for the inside of the VM.
//!
//! A build of its own, since it is for another target and with another profile than the program. Nothing is taken from
//! the network that the build around it would not take.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-musl";
const PROFILE: &str = "guest";

fn main() -> Result<(), Box<dyn Error>> {
    let guest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../guest");
    let root = guest.join("../..");
    for watched in [
        guest.join("src"),
        guest.join("Cargo.toml"),
        root.join("Cargo.toml"),
        root.join("Cargo.lock"),
    ] {
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    // Elsewhere there is no hypervisor to hand an agent to.
    if env::var("CARGO_CFG_TARGET_OS")? == "linux" && env::var("CARGO_CFG_TARGET_ARCH")? == "x86_64"
    {
        let out = PathBuf::from(env::var("OUT_DIR")?);
        build(&guest, &out)?;
    }
    Ok(())
}

fn build(guest: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let target_dir = out.join("target");
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo.args([
        "build",
        "--locked",
        "--quiet",
        "--profile",
        PROFILE,
        "--target",
        TARGET,
        "--target-dir",
    ]);
    cargo
        .arg(&target_dir)
        .arg("--manifest-path")
        .arg(guest.join("Cargo.toml"));
    // What is meant for the program (coverage, sanitizers, clippy) is not meant for the agent.
    for set in [
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        cargo.env_remove(set);
    }
    let built = cargo.output()?;
    if !built.status.success() {
        let said = String::from_utf8_lossy(&built.stderr);
        return Err(format!(
            "the agent of microVMs was not built for {TARGET}.\n\
             If the target is missing: rustup target add {TARGET}\n\n{said}"
        )
        .into());
    }
    fs::copy(
        target_dir
            .join(TARGET)
            .join(PROFILE)
            .join("worldcompute-guest"),
        out.join("agent"),
    )?;
    Ok(())
}
