//! The programs that the lab is built with: `ip` and `nft`.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::shell::{Failure, Result};

/// Why there can be no lab on this machine, if so.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    let programs = [("ip", "-V", "iproute2"), ("nft", "--version", "nftables")];
    let program = programs
        .into_iter()
        .find_map(|(program, version, package)| {
            let why = call(program, &[version]).err()?;
            Some(format!("{} (package {package})", why.message))
        });
    let tun = || {
        let there = Path::new("/dev/net/tun").exists();
        (!there).then(|| "there is no /dev/net/tun".to_owned())
    };
    program.or_else(not_let).or_else(tun)
}

/// Why this machine makes no namespaces with rules in them, as a container that is not let; the one that is tried is
/// gone with the program in it.
fn not_let() -> Option<String> {
    let arguments = ["--net", "--mount", "nft", "add table ip probe"];
    call("unshare", &arguments).err().map(|why| why.message)
}

/// Runs `ip` with the words of `line`.
pub fn ip(line: &str) -> Result<String> {
    call("ip", &line.split_whitespace().collect::<Vec<_>>())
}

/// Runs a program to its end, silently; what it wrote to standard output.
pub fn call(program: &str, arguments: &[&str]) -> Result<String> {
    feed(program, arguments, "")
}

/// The same, with `input` on its standard input.
pub fn feed(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let failed = |why: &str| Failure::new(format!("`{program} {}`: {why}", arguments.join(" ")));
    // In a group of its own: a Ctrl-C at the terminal must not end what builds or removes the lab half way.
    let mut child = Command::new(program)
        .args(arguments)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input says why on standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(&error.to_string()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).trim())),
    }
}
