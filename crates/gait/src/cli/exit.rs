//! The exit codes, which are part of the contract.

use std::process::ExitCode;

use worldcompute_fault::Fault;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; of a verdict: allow, dry run, or simulated.
    Ok = 0,
    /// The machine, the network or this program failed.
    Failure = 1,
    /// A digest or signature does not hold, or two things differ.
    VerificationFailed = 2,
    /// The policy says no.
    PolicyBlocked = 3,
    /// The policy waits for an approval.
    ApprovalRequired = 4,
    /// A regression failed.
    RegressFailed = 5,
    /// The input or the command line is wrong.
    InvalidInput = 6,
    /// Something needed is missing.
    DependencyMissing = 7,
    /// An unsafe operation was refused.
    Unsafe = 8,
}

impl Exit {
    /// The exit of a failed command.
    pub fn of(fault: &Fault) -> Self {
        Self::from_code(fault.gait_exit_code())
    }

    /// The exit of that number; an unknown one is [`Exit::Failure`].
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Ok,
            2 => Self::VerificationFailed,
            3 => Self::PolicyBlocked,
            4 => Self::ApprovalRequired,
            5 => Self::RegressFailed,
            6 => Self::InvalidInput,
            7 => Self::DependencyMissing,
            8 => Self::Unsafe,
            _ => Self::Failure,
        }
    }

    /// This exit unless it is [`Exit::Ok`], else `other`.
    pub fn or(self, other: Self) -> Self {
        match self {
            Self::Ok => other,
            failed => failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
