//! What ends a guest, and what is merely answered to it.

use wasmtime::Trap;

/// Ends the guest at once: travels out of it as a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    #[error("exit code {0}")]
    Exit(i32),
    #[error("printed or kept more than spec.resources.scratch allows")]
    OutputLimit,
    #[error("used more than spec.resources.fuel allows")]
    OutOfFuel,
    #[error("ran longer than spec.max_wall_time allows")]
    TimedOut,
    #[error("cancelled")]
    Cancelled,
    #[error("the host has no memory left for it")]
    HostMemory,
}

/// Whether [`crate::Outcome::error`] says that the machine had a part in how a guest ended: its clock, its memory,
/// whoever cancelled, or how deep its stack lets a recursion go. Another machine may come to something else then; all
/// other outcomes are the same everywhere.
pub fn is_by_host(error: &str) -> bool {
    let stops = [Stop::TimedOut, Stop::Cancelled, Stop::HostMemory];
    stops.iter().any(|stop| stop.to_string() == error)
        || error.ends_with(&Trap::StackOverflow.to_string())
}

/// Why a call failed, as far as the guest may know. The names of POSIX, without the E.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{self:?}")]
pub enum Errno {
    Badf,
    Exist,
    Fault,
    Ilseq,
    Inval,
    Isdir,
    Mfile,
    NameTooLong,
    Noent,
    Nospc,
    Notdir,
    Notempty,
    Notsock,
    Notsup,
    Overflow,
    Perm,
    Rofs,
    Spipe,
}

/// Why a call did not do what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The guest is told, and goes on.
    Errno(Errno),
    /// The guest ends.
    Stop(Stop),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Stop> for Refusal {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

pub type Result<T, E = Refusal> = std::result::Result<T, E>;
