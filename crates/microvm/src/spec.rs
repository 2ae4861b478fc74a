//! What to run, and what it may use.

use std::time::Duration;

use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_guest::{OutputFile, RunRequest};

/// Least memory of a VM: what its kernel, the agent and a small program take.
pub const MIN_MEMORY: u64 = 160 << 20;
/// Most memory of a VM.
pub const MAX_MEMORY: u64 = 256 << 30;
/// Most processors of a VM.
pub const MAX_VCPUS: u32 = 64;
/// Longest wall-clock limit: seven days.
pub const MAX_WALL: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Most bytes that a program may print and leave behind.
pub const MAX_OUTPUT: u64 = 1 << 30;
/// Least that a hypervisor may write to a file: with less it would not get as far as its guest.
pub const MIN_DISK: u64 = 1 << 20;
/// Most bytes that a program may write to its disk.
pub const MAX_DISK: u64 = 1 << 40;

/// What the guest's kernel and the agent keep of a VM's memory.
const KERNEL_MEMORY: u64 = 96 << 20;
/// The image's disk as the guest calls it: there is no other.
const DISK: &str = "vda";

/// One run of one program of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Every variable that it gets.
    pub env: Vec<(String, String)>,
    /// The image's user, in the words of its configuration; empty for root of the guest.
    pub user: String,
    /// Its folder, absolute; empty for `/`.
    pub cwd: String,
    /// What it reads as standard input: absolute path of a regular file on the image's disk, whoever may read that; empty
    /// for nothing to read.
    pub stdin: String,
    /// Files that it has to leave behind to succeed, at most [`MAX_OUTPUTS`](crate::MAX_OUTPUTS). The sink gets them in this
    /// order.
    pub outputs: Vec<OutputFile>,
    /// What it may use.
    pub limits: Limits,
}

/// What a run may use. Past any of these it ends with a status of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory of the VM in bytes, its kernel's included.
    pub memory_bytes: u64,
    /// Processors of the VM.
    pub vcpus: u32,
    /// What may be written to the disk, in bytes.
    pub disk_bytes: u64,
    /// From the moment that the agent is told what to run. Time in which the VM is frozen does not count.
    pub wall: Duration,
    /// From the start of the hypervisor to the agent's first word.
    pub boot: Duration,
    /// How long the agent may say nothing while the program runs.
    pub silence: Duration,
    /// Both streams and all files together, in bytes.
    pub output_bytes: u64,
    /// Processes and threads at the same time.
    pub processes: u32,
    /// Open files of one process.
    pub open_files: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            vcpus: 1,
            disk_bytes: 1 << 30,
            wall: Duration::from_secs(60 * 60),
            boot: Duration::from_secs(60),
            silence: Duration::from_secs(30),
            output_bytes: 16 << 20,
            processes: 1024,
            open_files: 1024,
        }
    }
}

impl Spec {
    /// Checks every field against its limit.
    ///
    /// # Errors
    /// WC-001, naming the field.
    pub fn check(&self) -> Result<()> {
        self.limits.check()?;
        self.request().check().map_err(invalid)?;
        let mut sizes = self.outputs.iter().map(|output| output.max_bytes);
        match sizes.all(|max_bytes| max_bytes <= MAX_OUTPUT) {
            true => Ok(()),
            false => Err(invalid("outputs.max_bytes")),
        }
    }

    /// What the agent is told.
    pub(crate) fn request(&self) -> RunRequest {
        RunRequest {
            argv: self.argv.clone(),
            env: self.env.clone(),
            user: self.user.clone(),
            cwd: self.cwd.clone(),
            stdin: self.stdin.clone(),
            outputs: self.outputs.clone(),
            root: DISK.to_owned(),
            memory_bytes: self.limits.memory_bytes.saturating_sub(KERNEL_MEMORY),
            processes: self.limits.processes,
            open_files: self.limits.open_files,
        }
    }
}

impl Limits {
    fn check(&self) -> Result<()> {
        let checks = [
            (
                "limits.memory_bytes",
                (MIN_MEMORY..=MAX_MEMORY).contains(&self.memory_bytes),
            ),
            ("limits.vcpus", (1..=MAX_VCPUS).contains(&self.vcpus)),
            (
                "limits.disk_bytes",
                (MIN_DISK..=MAX_DISK).contains(&self.disk_bytes),
            ),
            ("limits.wall", !self.wall.is_zero() && self.wall <= MAX_WALL),
            ("limits.boot", !self.boot.is_zero() && self.boot <= MAX_WALL),
            (
                "limits.silence",
                self.silence > 2 * worldcompute_guest::HEARTBEAT && self.silence <= MAX_WALL,
            ),
            ("limits.output_bytes", self.output_bytes <= MAX_OUTPUT),
            ("limits.processes", self.processes > 0),
            ("limits.open_files", self.open_files > 2),
        ];
        match checks.into_iter().find(|(_, holds)| !holds) {
            Some((field, _)) => Err(invalid(field)),
            None => Ok(()),
        }
    }
}

pub(crate) fn invalid(field: &str) -> Fault {
    Fault::wc(
        WcCode::InvalidManifest,
        format!("the run of an image is past a limit: {field}"),
    )
    .hint(format!("change {field}"))
}

#[cfg(test)]
mod tests {
    use worldcompute_guest::MAX_OUTPUTS;

    use super::*;

    fn output() -> OutputFile {
        OutputFile {
            path: "/out".into(),
            max_bytes: MAX_OUTPUT,
        }
    }

    #[test]
    fn a_run_past_any_limit_is_refused_by_the_name_of_its_field() {
        type Change = fn(&mut Spec);
        let good = Spec {
            argv: vec!["/bin/true".into()],
            env: vec![],
            user: String::new(),
            cwd: String::new(),
            stdin: "/in".into(),
            outputs: vec![output(); MAX_OUTPUTS],
            limits: Limits::default(),
        };
        good.check().unwrap();
        let cases: [(&str, Change); 19] = [
            ("argv", |spec| spec.argv.clear()),
            ("cwd", |spec| spec.cwd = "tmp".into()),
            ("stdin", |spec| spec.stdin = "in".into()),
            ("outputs", |spec| spec.outputs.push(output())),
            ("outputs", |spec| spec.outputs[0].path = "out".into()),
            ("outputs.max_bytes", |spec| {
                spec.outputs[0].max_bytes = MAX_OUTPUT + 1
            }),
            ("limits.memory_bytes", |spec| {
                spec.limits.memory_bytes = MIN_MEMORY - 1
            }),
            ("limits.memory_bytes", |spec| {
                spec.limits.memory_bytes = MAX_MEMORY + 1
            }),
            ("limits.vcpus", |spec| spec.limits.vcpus = 0),
            ("limits.vcpus", |spec| spec.limits.vcpus = MAX_VCPUS + 1),
            ("limits.disk_bytes", |spec| {
                spec.limits.disk_bytes = MIN_DISK - 1
            }),
            ("limits.disk_bytes", |spec| {
                spec.limits.disk_bytes = MAX_DISK + 1
            }),
            ("limits.wall", |spec| spec.limits.wall = Duration::ZERO),
            ("limits.wall", |spec| {
                spec.limits.wall = MAX_WALL + Duration::from_nanos(1)
            }),
            ("limits.boot", |spec| spec.limits.boot = Duration::ZERO),
            ("limits.silence", |spec| {
                spec.limits.silence = Duration::from_secs(2)
            }),
            ("limits.output_bytes", |spec| {
                spec.limits.output_bytes = MAX_OUTPUT + 1
            }),
            ("limits.processes", |spec| spec.limits.processes = 0),
            ("limits.open_files", |spec| spec.limits.open_files = 2),
        ];
        for (field, change) in cases {
            let mut spec = good.clone();
            change(&mut spec);
            let fault = spec.check().unwrap_err();
            assert_eq!(fault.number(), Some(WcCode::InvalidManifest));
            assert!(fault.message().ends_with(field), "{fault}");
        }
    }
}
