//! The exit codes, which are part of the contract.

use std::process::ExitCode;

use worldcompute_fault::Fault;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; of a verdict: allow, dry run, or simulated.
    Ok,
    /// The machine, the network or this program failed.
    Failure,
    /// A digest or signature does not hold, or two things differ.
    VerificationFailed,
    /// The policy says no.
    PolicyBlocked,
    /// The policy waits for an approval.
    ApprovalRequired,
    /// A regression failed.
    RegressFailed,
    /// The input or the command line is wrong.
    InvalidInput,
    /// Something needed is missing.
    DependencyMissing,
    /// An unsafe operation was refused.
    Unsafe,
    /// As another program did.
    Child(u8),
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

    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::VerificationFailed => 2,
            Self::PolicyBlocked => 3,
            Self::ApprovalRequired => 4,
            Self::RegressFailed => 5,
            Self::InvalidInput => 6,
            Self::DependencyMissing => 7,
            Self::Unsafe => 8,
            Self::Child(code) => code,
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
        Self::from(exit.code())
    }
}
