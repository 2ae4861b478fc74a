//! `gait run replay`.

use gait::runpack::{self, RealTools};
use serde_json::json;
use worldcompute_fault::Result;

use super::super::verify::exit;
use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;
use crate::cli::output::without_empty;
use crate::cli::streamed::Streamed;

/// `gait run replay`
pub static REPLAY: Command = Command {
    words: &["run", "replay"],
    help: "Replay a runpack deterministically using recorded tool results; real tool execution requires explicit unsafe flags.",
    flags: &[
        Flag::switch("real-tools"),
        Flag::switch("unsafe-real-tools"),
        Flag::csv("allow-tools"),
        Flag::text("unsafe-real-tools-env", "GAIT_ALLOW_REAL_REPLAY"),
    ],
    positionals: Positionals::Interleaved {
        min: 1,
        max: 1,
        expected: "expected run_id or path",
    },
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (tools, variable) = (
        args.csv("allow-tools"),
        args.text("unsafe-real-tools-env").trim(),
    );
    let value = context.environment.var(variable);
    let confirmed = args.switch("unsafe-real-tools");
    let asked = args.switch("real-tools");
    let real = RealTools::permit(asked, confirmed, &tools, (variable, value.as_deref()))?;
    let reference = args.positionals().first().map_or("", String::as_str);
    let path = runpack::locate(reference, &*context.environment)?;
    let mut steps = Streamed::new(&["steps"])?;
    let replayed = runpack::replay(&path, real.as_ref(), |step| steps.push(step))?;
    let complete = replayed.missing.is_empty();
    let ran = format!("real tools ran: allow_tools={}", tools.join(","));
    let warnings: Vec<String> = real.iter().map(|_| ran.clone()).collect();
    let mut fields = without_empty(json!({
        "run_id": replayed.run_id,
        "mode": replayed.mode,
        "missing_results": replayed.missing,
        "requested_unsafe": confirmed,
        "warnings": warnings,
    }));
    fields.insert("ok".to_owned(), complete.into());
    let human = match complete {
        true => format!("replay ok: {} ({})", replayed.run_id, replayed.mode),
        false => format!(
            "replay failed: {}\nmissing results: {}",
            replayed.run_id,
            replayed.missing.join(", ")
        ),
    };
    let outcome = Outcome::with(exit(complete), &fields, human)?;
    Ok(Outcome {
        streamed: Some(steps),
        ..outcome
    })
}
