//! The control group of the program and of everything that it starts (`Documentation/admin-guide/cgroup-v2.rst` of Linux).

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};

use worldcompute_guest::{RunRequest, Tally};

use super::{Result, cannot_at};

const GROUPS: &str = "/cgroup";
const JOB: &str = "/cgroup/job";
const EVENTS: &str = "/cgroup/job/cgroup.events";

/// Makes the group with its limits. Memory that runs out ends all of it at once, so that no half of a program goes on.
pub fn create(run: &RunRequest) -> Result<()> {
    write(GROUPS, "cgroup.subtree_control", "+memory +pids")?;
    fs::create_dir(JOB).map_err(cannot_at("make", JOB))?;
    write(JOB, "memory.max", &run.memory_bytes.to_string())?;
    write(JOB, "memory.oom.group", "1")?;
    write(JOB, "pids.max", &run.processes.to_string())
}

/// Moves this process into the group.
pub fn join() -> Result<()> {
    write(JOB, "cgroup.procs", "0")
}

/// Ends whatever the program left behind.
pub fn kill() -> Result<()> {
    write(JOB, "cgroup.kill", "1")
}

/// What the kernel tells of the group. Once it was read, a change makes exceptional data of it (`POLLPRI`).
pub struct Events(File);

impl Events {
    /// Of the group as it is.
    pub fn open() -> Result<Self> {
        File::open(EVENTS)
            .map(Self)
            .map_err(cannot_at("open", EVENTS))
    }

    /// Whether any process of the group can still do something.
    pub fn populated(&mut self) -> Result<bool> {
        let mut text = String::new();
        self.0.rewind().map_err(cannot_at("read", EVENTS))?;
        self.0
            .read_to_string(&mut text)
            .map_err(cannot_at("read", EVENTS))?;
        value(&text, "populated", EVENTS).map(|value| value != "0")
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How often a limit was reached.
pub fn tally() -> Result<Tally> {
    Ok(Tally {
        out_of_memory: count("memory.events", "oom_kill")?,
        refused_processes: count("pids.events", "max")?,
    })
}

fn count(file: &str, key: &str) -> Result<u32> {
    let path = format!("{JOB}/{file}");
    let text = fs::read_to_string(&path).map_err(cannot_at("read", &path))?;
    let value = value(&text, key, &path)?;
    value.parse().map_err(cannot_at("read", &path))
}

fn value<'a>(text: &'a str, key: &str, path: &str) -> Result<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let value = lines.find_map(|(name, value)| (name == key).then_some(value));
    value.ok_or_else(|| format!("{path} has no {key}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file of the kernel takes a write as it is"
)]
fn write(group: &str, file: &str, value: &str) -> Result<()> {
    let path = format!("{group}/{file}");
    fs::write(&path, value).map_err(cannot_at("write", &path))
}
