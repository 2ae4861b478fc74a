//! How a run ended.

use serde::{Deserialize, Serialize};

/// How a run ended. Only [`Status::Succeeded`] means that the guest did what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Exit code 0, and every declared output is there.
    Succeeded,
    /// Another exit code, or a declared output is missing.
    Failed,
    /// A WebAssembly trap: unreachable, out of bounds, division by zero, stack overflow, ..
    Trapped,
    OutOfFuel,
    /// Growing a memory or a table was refused, and the guest died of it.
    OutOfMemory,
    TimedOut,
    /// More printed or kept than allowed.
    OutputLimit,
    Cancelled,
}

impl Status {
    /// The stable snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Trapped => "trapped",
            Self::OutOfFuel => "out_of_fuel",
            Self::OutOfMemory => "out_of_memory",
            Self::TimedOut => "timed_out",
            Self::OutputLimit => "output_limit",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Everything a run left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub status: Status,
    /// The guest's exit code, where it got as far as exiting: any 32 bits for a module, as preview 1 lets it choose; 0 or 1
    /// for a component that returns, 0..=255 for one that exits with a code.
    pub exit_code: Option<i32>,
    /// What was printed up to the end, whatever the status.
    #[serde(with = "serde_bytes")]
    pub stdout: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub stderr: Vec<u8>,
    /// The declared outputs in the order of the request; none unless the run succeeded.
    pub outputs: Vec<Output>,
    pub fuel_used: u64,
    pub wall_ms: u64,
    /// Why it did not succeed, in words.
    pub error: Option<String>,
}

/// One declared output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    pub name: String,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}
