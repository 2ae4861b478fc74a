//! What the kernel says of a process (proc(5)).

use std::time::Duration;

/// Length of a tick in `/proc/<pid>/stat`: USER_HZ is part of the kernel's interface and 100 wherever Rust's standard
/// library runs.
const TICK: Duration = Duration::from_millis(10);

/// One line on the machine and the build.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) {
        "unoptimised build: no promise is judged by it"
    } else {
        "optimised build"
    };
    format!("{cores} cores, {build}")
}

/// Processor time spent so far, by all threads. `None` without `/proc`.
pub fn cpu(pid: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(str::parse::<u32>)
        .sum::<Result<u32, _>>()
        .ok()?;
    Some(TICK * ticks)
}

/// Memory in use, in bytes. `None` without `/proc`.
pub fn resident(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
