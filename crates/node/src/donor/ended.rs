//! How a run ended, whatever it ran in: what receipt and reply are made of.

use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_ledger::receipt::{Machine, Status};
use worldcompute_microvm::{self as microvm, Collected};
use worldcompute_sandbox::{Outcome, Output, RunRequest};

use crate::receipts;

/// Everything a run left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub status: Status,
    /// Where it got as far as exiting.
    pub exit_code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// None unless it succeeded.
    pub outputs: Vec<Output>,
    pub fuel_used: u64,
    pub wall_ms: u64,
    /// Why it did not succeed, in words.
    pub error: Option<String>,
    /// What it ran in, if not in the sandbox of modules.
    pub machine: Option<Machine>,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        Self {
            status: receipts::status(outcome.status),
            exit_code: outcome.exit_code,
            stdout: outcome.stdout,
            stderr: outcome.stderr,
            outputs: outcome.outputs,
            fuel_used: outcome.fuel_used,
            wall_ms: outcome.wall_ms,
            error: outcome.error,
            machine: None,
        }
    }
}

impl Ended {
    /// What an image did in its machine.
    ///
    /// # Errors
    /// WC-007 where the machine is to blame: that says nothing of the program.
    pub fn in_machine(
        outcome: microvm::Outcome,
        collected: Collected,
        request: &RunRequest,
        machine: Machine,
    ) -> Result<Self> {
        let status = status(outcome.status).ok_or_else(|| given_up(&outcome))?;
        let error = (status != Status::Succeeded).then(|| why(&outcome));
        Ok(Self {
            status,
            exit_code: exit_code(&outcome, status),
            outputs: match status {
                Status::Succeeded => outputs(collected.files, request),
                _ => Vec::new(),
            },
            stdout: collected.stdout,
            stderr: collected.stderr,
            fuel_used: 0,
            wall_ms: u64::try_from(outcome.wall.as_millis()).unwrap_or(u64::MAX),
            error,
            machine: Some(machine),
        })
    }
}

/// `None` where the machine is to blame.
const fn status(status: microvm::Status) -> Option<Status> {
    use microvm::Status as Of;
    Some(match status {
        Of::Succeeded => Status::Succeeded,
        Of::Failed | Of::OutputMissing => Status::Failed,
        Of::Killed => Status::Killed,
        Of::NotStarted => Status::NotStarted,
        Of::OutOfMemory => Status::OutOfMemory,
        Of::ProcessLimit => Status::ProcessLimit,
        Of::DiskLimit => Status::DiskLimit,
        Of::OutputLimit => Status::OutputLimit,
        Of::TimedOut => Status::TimedOut,
        Of::Cancelled => Status::Cancelled,
        Of::Silent | Of::PoweredOff | Of::Rebooted | Of::Misconduct(_) => Status::BrokeOff,
        Of::NeverBooted | Of::HypervisorStopped | Of::HypervisorDied => return None,
    })
}

/// A program may have exited before its machine broke off or ran out of time with its files: that is no end of a run.
fn exit_code(outcome: &microvm::Outcome, status: Status) -> Option<i32> {
    match status {
        Status::TimedOut | Status::BrokeOff => None,
        _ => outcome.exit_code().map(i32::from),
    }
}

/// In words, which may be the guest's.
fn why(outcome: &microvm::Outcome) -> String {
    let what = match (outcome.status, outcome.exit_code(), outcome.signal()) {
        (microvm::Status::Failed, Some(code), _) => format!("exit code {code}"),
        (microvm::Status::Killed, _, Some(signal)) => format!("signal {signal}"),
        (status, ..) => status.as_str().replace('_', " "),
    };
    match outcome.reason.as_str() {
        "" => what,
        reason => format!("{what}: {reason}"),
    }
}

fn outputs(files: Vec<Option<Vec<u8>>>, request: &RunRequest) -> Vec<Output> {
    let files = files.into_iter().flatten().zip(&request.outputs);
    let named = files.map(|(bytes, output)| Output {
        name: output.name.clone(),
        bytes,
    });
    named.collect()
}

fn given_up(outcome: &microvm::Outcome) -> Fault {
    let message = format!("the machine of the task was given up: {}", why(outcome));
    Fault::wc(WcCode::SandboxUnavailable, message)
        .hint("see `worldcompute doctor` on the donor, and ask another meanwhile")
}
