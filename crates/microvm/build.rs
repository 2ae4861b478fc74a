//! Builds the agent, so that it is in the program: a static executable for the inside of the VM.
//!
//! A build of its own, since it is for another target and with another profile than the program. What it takes from the
//! network is what the build around it has taken before, the agent's library being a part of that.

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
    // Cargo does not tell a build script of its option `--offline`, only of the variable.
    if env::var("CARGO_NET_OFFLINE").is_ok_and(|offline| offline == "true") {
        cargo.arg("--offline");
    }
    let built = without_choices_of_the_user(&mut cargo).output()?;
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

/// What is meant for the program (this machine's processor, coverage, sanitizers, clippy) is not meant for the agent,
/// whose processor may be an emulated one.
fn without_choices_of_the_user(cargo: &mut Command) -> &mut Command {
    // Set and empty: where they are missing Cargo asks the user's configuration.
    for name in [
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        cargo.env(name, "");
    }
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_BUILD_") || text.starts_with("CARGO_TARGET_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}
