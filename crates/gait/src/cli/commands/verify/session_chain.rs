//! `gait verify session-chain`.

use std::path::Path;

use gait::run_session::{self, ChainReport};
use serde::Serialize;
use worldcompute_fault::Result;

use super::{Asked, REQUIREMENTS, exit};
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;

/// `gait verify session-chain`
pub static SESSION_CHAIN: Command = Command {
    words: &["verify", "session-chain"],
    help: "Verify session checkpoint chains, including per-checkpoint runpack integrity/signatures and prev_checkpoint_digest linkage continuity.",
    flags: &[Flag::text("chain", ""), Flag::group(REQUIREMENTS)],
    positionals: Positionals::Interleaved {
        min: 0,
        max: 1,
        expected: EXPECTED,
    },
    run,
};

const EXPECTED: &str = "expected --chain <session_chain.json>";

#[derive(Serialize)]
struct Fields<'a> {
    chain_path: &'a str,
    ok: bool,
    #[serde(flatten)]
    report: &'a ChainReport,
}

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let path = match (args.text("chain").trim(), args.positionals()) {
        ("", [path]) if !path.trim().is_empty() => path.trim(),
        (path, []) if !path.is_empty() => path,
        _ => return Err(invalid(EXPECTED)),
    };
    let asked = Asked::of(context, args)?;
    let report = run_session::verify_chain(Path::new(path), &asked.requirements())?;
    let fields = Fields {
        chain_path: path,
        ok: report.holds(),
        report: &report,
    };
    Outcome::with(exit(report.holds()), &fields, human(path, &report))
}

fn human(path: &str, report: &ChainReport) -> String {
    if report.holds() {
        return format!(
            "verify session-chain: ok ({path})\nsession={} run={} checkpoints={}",
            report.session_id, report.run_id, report.checkpoints_checked
        );
    }
    let errors = [&report.linkage_errors, &report.checkpoint_errors];
    let errors: Vec<&str> = errors.into_iter().flatten().map(String::as_str).collect();
    format!("verify session-chain failed: {path}\n{}", errors.join("\n"))
}
