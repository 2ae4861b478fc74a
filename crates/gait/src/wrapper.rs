//! Running a program that asks the gate itself, and summing up what it was told.
//!
//! The program says where its evidence is with lines `trace_path=<path>` and `runpack_path=<path>`. What it printed is
//! kept up to a limit; the lines are found however much it prints.

mod child;
mod evidence;

pub use child::MAX_KEPT;
pub use evidence::{MAX_REFERENCES, VerdictCount};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::VerifyingKey;

use crate::clock::Clock;
use crate::limits::invalid;
use crate::verdict::Verdict;

/// What the wrapper does with what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Shows it.
    Trace,
    /// Shows it.
    Test,
    /// Fails unless everything was allowed.
    Enforce,
}

/// What to run.
#[derive(Clone)]
pub struct Wrapped<'a> {
    /// What to do with what is found.
    pub mode: Mode,
    /// The program and its arguments.
    pub command: &'a [String],
    /// Where it runs; the paths it names are relative to that.
    pub cwd: &'a Path,
    /// How long it may run.
    pub timeout: Duration,
    /// The key that must have signed its traces; without one, somebody must have.
    pub key: Option<VerifyingKey>,
    /// Whose time its traces must have: those of this run count.
    pub clock: Arc<dyn Clock>,
}

/// How it went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The program's exit code; `None` when a signal ended it.
    pub child_exit_code: Option<i32>,
    /// Whether it took too long.
    pub timed_out: bool,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// How often each verdict was given.
    pub verdicts: Vec<VerdictCount>,
    /// The traces it named, sorted, each once.
    pub trace_paths: Vec<String>,
    /// The runpacks it named, sorted, each once.
    pub runpack_paths: Vec<String>,
    /// What it printed.
    pub stdout: String,
    /// What it printed on standard error.
    pub stderr: String,
    /// What the user should know.
    pub warnings: Vec<String>,
    invalid_traces: usize,
}

/// What follows from a report.
#[derive(Clone, Debug)]
pub enum Conclusion {
    /// This exit code: the program's own, or the one of the strictest verdict.
    Exit(i32),
    /// There is no conclusion, for this stable reason.
    Failed(&'static str, Fault),
}

impl Mode {
    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Test => "test",
            Self::Enforce => "enforce",
        }
    }
}

impl Wrapped<'_> {
    /// Runs it to its end, or to the end of its time.
    ///
    /// Errors: those of starting the program.
    pub fn run(&self) -> Result<Report> {
        let started = self.clock.now();
        let ended = child::run(self)?;
        let mut report = Report {
            child_exit_code: ended.exit_code,
            timed_out: ended.timed_out,
            duration_ms: ended.duration_ms,
            stdout: ended.stdout.text,
            stderr: ended.stderr.text,
            ..Report::default()
        };
        if ended.stdout.truncated || ended.stderr.truncated {
            report
                .warnings
                .push(format!("output past {MAX_KEPT} bytes is not shown"));
        }
        let references = ended.stdout.references.merge(ended.stderr.references);
        if references.overflowed {
            report.invalid_traces += 1;
            report
                .warnings
                .push(format!("more than {MAX_REFERENCES} references"));
        }
        evidence::examine(self, started, &references, &mut report);
        report.trace_paths = references.traces.into_iter().collect();
        report.runpack_paths = references.runpacks.into_iter().collect();
        Ok(report)
    }

    /// What follows from the report of the run.
    pub fn conclude(&self, report: &Report) -> Conclusion {
        let Some(code) = report.child_exit_code.filter(|_| !report.timed_out) else {
            return self.cut_short(report);
        };
        if report.trace_paths.is_empty() {
            let message = "child command did not emit a Gait trace reference; wrappers require an explicit Gait interception seam";
            let fault = invalid(message).because(
                "missing_trace_reference",
                "print trace_path=<path> for every decision",
            );
            return Conclusion::Failed("missing_trace_reference", fault);
        }
        if self.mode == Mode::Enforce && report.invalid_traces > 0 {
            let message =
                "child command emitted an invalid Gait trace artifact; enforce mode fails closed";
            let fault = Fault::new(Category::PolicyBlocked, "invalid_trace_artifact", message)
                .hint("see the warnings for which trace and why");
            return Conclusion::Failed("invalid_trace_artifact", fault);
        }
        match (code, self.mode) {
            (0, Mode::Enforce) => Conclusion::Exit(strictest(report)),
            _ => Conclusion::Exit(code),
        }
    }

    fn cut_short(&self, report: &Report) -> Conclusion {
        let (reason, message) = match report.timed_out {
            true => (
                "child_timed_out",
                format!("child command timed out after {:?}", self.timeout),
            ),
            false => (
                "child_killed",
                "child command was ended by a signal".to_owned(),
            ),
        };
        let fault = Fault::new(Category::InternalFailure, reason, message)
            .hint("give it more time with --timeout, or look at its output");
        Conclusion::Failed(reason, fault)
    }
}

/// The exit code of the strictest verdict.
fn strictest(report: &Report) -> i32 {
    let code = |verdict| match verdict {
        Verdict::Allow => 0,
        Verdict::RequireApproval => Category::ApprovalRequired.gait_exit(),
        Verdict::Block | Verdict::DryRun => Category::PolicyBlocked.gait_exit(),
    };
    let given = |verdict| report.verdicts.iter().any(|count| count.verdict == verdict);
    let order = [Verdict::Block, Verdict::DryRun, Verdict::RequireApproval];
    i32::from(
        order
            .into_iter()
            .find(|verdict| given(*verdict))
            .map_or(0, code),
    )
}

/// The path that the program means.
fn resolved(cwd: &Path, named: &str) -> PathBuf {
    cwd.join(named)
}

#[cfg(test)]
mod tests;
