//! How a run ended.

use std::fmt;
use std::time::Duration;

use worldcompute_fault::{Category, Fault, Result};
use worldcompute_guest::{End, Tally};

use crate::dialogue::Misconduct;

/// How a run ended. Only [`Status::Succeeded`] means that the program did what it was asked to, by the guest's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Exit code 0.
    Succeeded,
    /// Another exit code.
    Failed,
    /// Ended by a signal.
    Killed,
    /// The image has no such program, user or folder, or its disk is none.
    NotStarted,
    /// Memory ran out in the guest.
    OutOfMemory,
    /// More processes than allowed, and the program did not succeed without them.
    ProcessLimit,
    /// More written to the disk than allowed.
    DiskLimit,
    /// More printed or left behind than allowed.
    OutputLimit,
    /// Exit code 0, and at the path of an output there is no regular file that can be read.
    OutputMissing,
    TimedOut,
    Cancelled,
    /// No word from the agent in all the time that it has for booting.
    NeverBooted,
    /// The agent stopped talking.
    Silent,
    /// The guest switched itself off before its last word.
    PoweredOff,
    /// The guest started over, which a kernel that panics does too.
    Rebooted,
    /// The hypervisor gave the guest up: an instruction or a device that it does not know.
    HypervisorStopped,
    /// The hypervisor ended without a reason of the guest's: killed from outside, or a defect.
    HypervisorDied,
    /// What came over the channel was not the agent's protocol.
    Misconduct(Misconduct),
}

impl Status {
    /// The stable snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Killed => "killed_by_signal",
            Self::NotStarted => "program_not_started",
            Self::OutOfMemory => "out_of_memory",
            Self::ProcessLimit => "process_limit",
            Self::DiskLimit => "disk_limit",
            Self::OutputLimit => "output_limit",
            Self::OutputMissing => "output_missing",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::NeverBooted => "guest_never_booted",
            Self::Silent => "guest_silent",
            Self::PoweredOff => "guest_powered_off",
            Self::Rebooted => "guest_rebooted",
            Self::HypervisorStopped => "hypervisor_stopped",
            Self::HypervisorDied => "hypervisor_died",
            Self::Misconduct(misconduct) => misconduct.as_str(),
        }
    }

    /// Whether the machine rather than the guest is to be suspected: what booted once may not boot again.
    pub const fn is_of_the_machine(self) -> bool {
        matches!(
            self,
            Self::NeverBooted | Self::HypervisorStopped | Self::HypervisorDied
        )
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Everything that is known of a run besides what it printed and left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: Status,
    /// How the program ended, where the guest got as far as saying so.
    pub end: Option<End>,
    /// How often the guest's kernel had to refuse something.
    pub tally: Tally,
    /// Why, in words, where the status leaves it open. It may be the guest's words.
    pub reason: String,
    /// From the start of the hypervisor to the agent's first word.
    pub boot: Option<Duration>,
    /// From then to the end, without the time in which the VM was frozen.
    pub wall: Duration,
    /// What was printed and left behind, in bytes.
    pub output_bytes: u64,
    /// The last that the guest's kernel and the hypervisor said, which is what there is when a guest does not boot.
    pub console: String,
}

impl Outcome {
    /// The code that the program exited with.
    pub const fn exit_code(&self) -> Option<u8> {
        match self.end {
            Some(End::Exited(code)) => Some(code),
            _ => None,
        }
    }

    /// The signal that the program was ended by.
    pub const fn signal(&self) -> Option<u8> {
        match self.end {
            Some(End::Killed(signal)) => Some(signal),
            _ => None,
        }
    }

    /// What went wrong, as a fault whose code is the status; `None` for a run that succeeded.
    pub fn fault(&self) -> Option<Fault> {
        let code = self.status.as_str();
        let (category, hint) = match self.status {
            Status::Succeeded => return None,
            Status::Failed | Status::Killed | Status::NotStarted => {
                (Category::InvalidInput, "look at what the program printed")
            }
            Status::OutputMissing => (
                Category::InvalidInput,
                "let the program write that file, or ask for another",
            ),
            Status::OutOfMemory
            | Status::ProcessLimit
            | Status::DiskLimit
            | Status::OutputLimit
            | Status::TimedOut => (
                Category::PolicyBlocked,
                "ask for a higher limit, or use less",
            ),
            Status::Cancelled => (Category::StateContention, "submit it again"),
            Status::NeverBooted | Status::HypervisorStopped | Status::HypervisorDied => (
                Category::DependencyMissing,
                "see `worldcompute doctor` for the hypervisors of this machine",
            ),
            Status::Silent | Status::PoweredOff | Status::Rebooted | Status::Misconduct(_) => (
                Category::VerificationFailed,
                "the guest broke off: look at what its program does to its machine",
            ),
        };
        let message = match self.reason.as_str() {
            "" => format!("the run ended: {code}"),
            reason => format!("the run ended: {code}: {reason}"),
        };
        Some(Fault::new(category, code, message).hint(hint))
    }
}

/// Where a piece of output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Stdout,
    Stderr,
    /// The output of this place in [`Spec::outputs`](crate::Spec::outputs).
    File(u32),
}

/// Where a program's output goes, piece by piece, within its limits. The guest waits while this is at work.
///
/// Files come when the program has exited with 0: one after another, in the order of the spec, each with a piece without
/// bytes for its end. None of them counts before the run has succeeded.
pub trait Sink {
    /// Takes the next piece.
    ///
    /// # Errors
    /// Ends the run, and is what the caller of the run gets.
    fn take(&mut self, source: Source, bytes: &[u8]) -> Result<()>;

    /// The run has not succeeded: what was taken of files is to be thrown away. Nothing comes after this.
    fn discard_files(&mut self) {}
}

/// Output that is kept in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Files by their places in the spec. One that the guest does not have is `None` or past the end, and so is every one
    /// unless the run has succeeded.
    pub files: Vec<Option<Vec<u8>>>,
}

impl Collected {
    fn take_file(&mut self, place: usize, bytes: &[u8]) {
        self.files.resize(self.files.len().max(place + 1), None);
        if let Some(file) = self.files.get_mut(place) {
            file.get_or_insert_default().extend_from_slice(bytes);
        }
    }
}

impl Sink for Collected {
    fn take(&mut self, source: Source, bytes: &[u8]) -> Result<()> {
        match source {
            Source::Stdout => self.stdout.extend_from_slice(bytes),
            Source::Stderr => self.stderr.extend_from_slice(bytes),
            Source::File(place) => self.take_file(place as usize, bytes),
        }
        Ok(())
    }

    fn discard_files(&mut self) {
        self.files.fill(None);
    }
}
