//! `gait trace`, `gait test` and `gait enforce`, each followed by `-- <command>`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gait::wrapper::{Conclusion, Mode, Report, Wrapped};
use serde_json::{Map, Value, json};
use worldcompute_fault::{Fault, Result};

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::exit::Exit;
use crate::cli::flag::Flag;
use crate::cli::keys;
use crate::cli::output::without_empty;

const FLAGS: &[Flag] = &[
    Flag::text("cwd", "."),
    Flag::duration("timeout", jiff::SignedDuration::from_secs(30)),
    Flag::text("public-key", ""),
    Flag::text("public-key-env", ""),
];
const POSITIONALS: Positionals = Positionals::AfterDashes {
    expected: "expected child command after --",
};

/// `gait trace -- <command>`
pub static TRACE: Command = Command {
    words: &["trace"],
    help: "Run a program that asks the gate itself, and sum up the traces it names.",
    flags: FLAGS,
    positionals: POSITIONALS,
    run: |context, args| run(Mode::Trace, context, args),
};

/// `gait test -- <command>`
pub static TEST: Command = Command {
    words: &["test"],
    help: "Run a program that asks the gate itself, without changing how it ends.",
    flags: FLAGS,
    positionals: POSITIONALS,
    run: |context, args| run(Mode::Test, context, args),
};

/// `gait enforce -- <command>`
pub static ENFORCE: Command = Command {
    words: &["enforce"],
    help: "Run a program that asks the gate itself, and fail unless everything was allowed.",
    flags: FLAGS,
    positionals: POSITIONALS,
    run: |context, args| run(Mode::Enforce, context, args),
};

fn run(mode: Mode, context: &Context, args: &Args) -> Result<Outcome> {
    let timeout = Duration::try_from(args.duration("timeout"))
        .ok()
        .filter(|span| !span.is_zero());
    let public = keys::source(args, "public-key")?;
    let wrapped = Wrapped {
        mode,
        command: args.positionals(),
        cwd: Path::new(args.text("cwd")),
        timeout: timeout.ok_or_else(|| invalid("--timeout must be > 0"))?,
        key: public.verifying_key(&*context.environment)?,
        clock: Arc::clone(&context.clock),
    };
    let report = match wrapped.run() {
        Ok(report) => report,
        Err(fault) => return failed(&wrapped, &Report::default(), "child_start_failed", fault),
    };
    match wrapped.conclude(&report) {
        Conclusion::Failed(reason, fault) => failed(&wrapped, &report, reason, fault),
        Conclusion::Exit(code) => ended(&wrapped, &report, code),
    }
}

fn ended(wrapped: &Wrapped<'_>, report: &Report, code: i32) -> Result<Outcome> {
    let exit = match u8::try_from(code) {
        Ok(0) => Exit::Ok,
        Ok(code) => Exit::Child(code),
        Err(_) => Exit::Failure,
    };
    let verb = if code == 0 { "ok" } else { "finished" };
    let human = format!(
        "{} {verb}: child_exit={} traces={}",
        wrapped.mode.as_str(),
        report.child_exit_code.unwrap_or_default(),
        report.trace_paths.len()
    );
    let mut fields = fields(wrapped, report);
    fields.insert("ok".to_owned(), (code == 0).into());
    Outcome::with(exit, &fields, human)
}

fn failed(wrapped: &Wrapped<'_>, report: &Report, reason: &str, fault: Fault) -> Result<Outcome> {
    let mut fields = fields(wrapped, report);
    fields.insert("failure_reason".to_owned(), reason.into());
    Outcome::failed(fault, &fields)
}

fn fields(wrapped: &Wrapped<'_>, report: &Report) -> Map<String, Value> {
    without_empty(json!({
        "boundary_contract": "explicit_trace_reference",
        "child_exit_code": report.child_exit_code,
        "command": wrapped.command,
        "cwd": wrapped.cwd,
        "duration_ms": report.duration_ms,
        "mode": wrapped.mode.as_str(),
        "runpack_paths": report.runpack_paths,
        "stderr": report.stderr,
        "stdout": report.stdout,
        "timed_out": report.timed_out,
        "trace_paths": report.trace_paths,
        "trace_reference_required": true,
        "verdict_counts": report.verdicts,
        "warnings": report.warnings,
    }))
}
