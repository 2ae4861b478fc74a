//! The control group of the program and of everything that it starts (`Documentation/admin-guide/cgroup-v2.rst` of Linux).

use std::fs;

use worldcompute_guest::{RunRequest, Tally};

use super::{Result, cannot_at};

const GROUPS: &str = "/cgroup";
const JOB: &str = "/cgroup/job";

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
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let value = lines.find_map(|(name, value)| (name == key).then_some(value));
    let value = value.ok_or_else(|| format!("{path} has no {key}"))?;
    value.parse().map_err(cannot_at("read", &path))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file of the kernel takes a write as it is"
)]
fn write(group: &str, file: &str, value: &str) -> Result<()> {
    let path = format!("{group}/{file}");
    fs::write(&path, value).map_err(cannot_at("write", &path))
}
