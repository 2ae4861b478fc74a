//! A network namespace: a machine of the lab, as far as the network can tell.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::claim::Claim;
use super::tools;
use crate::shell::{Failure, Result};

/// Where `ip` keeps namespaces by their names.
pub const PATH: &str = "/run/netns";
/// Where `ip netns exec` looks for what a namespace has in place of the files in `/etc`.
pub const CONFIGURATION: &str = "/etc/netns";

/// A namespace, until it is dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes an empty one, its loopback interface up.
    pub fn make(claim: &Claim, what: &str) -> Result<Self> {
        let name = claim.name(what);
        tools::ip(&format!("netns add {name}"))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in it.
    pub fn ip(&self, line: &str) -> Result<String> {
        tools::ip(&format!("-n {} {line}", self.name))
    }

    /// Loads rules in it.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let arguments = ["netns", "exec", &self.name, "nft", "-f", "-"];
        tools::feed("ip", &arguments, rules).map(drop)
    }

    /// Sets a value below `/proc/sys/net` for it.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(key);
        let write = || {
            let file = OpenOptions::new().write(true).open(&path);
            file.and_then(|mut file| file.write_all(value.as_bytes()))
        };
        self.inside(write)?.map_err(|error| {
            Failure::new(format!(
                "cannot set {} of {}: {error}",
                path.display(),
                self.name
            ))
        })
    }

    /// A command that runs in it.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Makes a file of `/etc` for what is started in it.
    pub fn configure(&self, file: &str, text: &str) -> Result<()> {
        let path = Path::new(CONFIGURATION).join(&self.name).join(file);
        let dir = path.parent().unwrap_or(&path);
        fs::create_dir_all(dir)
            .and_then(|()| File::create(&path))
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
    }

    /// Does something in it. Sockets that are made stay in it, wherever they are used.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        inside(&self.name, work)
    }
}

/// Does something in the namespace of that name.
pub fn inside<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let path = Path::new(PATH).join(name);
    let failed = |why: String| Failure::new(format!("cannot enter {}: {why}", path.display()));
    let file = File::open(&path).map_err(|error| failed(error.to_string()))?;
    // The namespace is the thread's: a thread of its own leaves that of all others alone.
    let worker = || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map(|()| work())
    };
    let done = std::thread::scope(|scope| scope.spawn(worker).join());
    let done = done.map_err(|_| failed("the work in it panicked".to_owned()))?;
    done.map_err(|error| failed(error.to_string()))
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(failure) = remove(&self.name) {
            eprintln!("{}", failure.message);
        }
    }
}

/// Removes a namespace of the lab, with the processes in it; also one that is there in part only.
pub fn remove(name: &str) -> Result<()> {
    if Path::new(PATH).join(name).exists() {
        for pid in tools::ip(&format!("netns pids {name}"))?.lines() {
            if let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) {
                // It may have ended by itself since.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        tools::ip(&format!("netns del {name}"))?;
    }
    let configuration = Path::new(CONFIGURATION).join(name);
    match fs::remove_dir_all(&configuration) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Failure::new(format!(
            "cannot remove {}: {error}",
            configuration.display()
        ))),
        _ => Ok(()),
    }
}
