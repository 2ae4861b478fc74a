//! `gait run inspect`.

use std::fmt::Write;
use std::path::Path;

use gait::runpack::{self, Entry, Inspection};
use serde_json::{Map, Value, json};
use worldcompute_fault::Result;

use super::{FROM, located};
use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome};
use crate::cli::flag::Flag;
use crate::cli::output::without_empty;
use crate::cli::streamed::Streamed;

/// `gait run inspect`
pub static INSPECT: Command = Command {
    words: &["run", "inspect"],
    help: "Render a deterministic timeline of intents and outcomes from an existing runpack.",
    flags: &[Flag::text("from", "")],
    positionals: FROM,
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let path = located(context, args)?;
    let mut entries = Streamed::new("entries")?;
    let mut lines = String::new();
    let inspection = runpack::inspect(&path, |entry| match context.json {
        true => entries.push(entry),
        false => {
            push_line(&mut lines, entry);
            Ok(())
        }
    })?;
    let human = format!(
        "run inspect: run_id={} intents={} results={}\npath: {}\n{lines}",
        inspection.run_id,
        inspection.intents,
        inspection.results,
        path.display(),
    );
    let outcome = Outcome::ok(&fields(&inspection, &path), human)?;
    Ok(Outcome {
        streamed: Some(entries),
        ..outcome
    })
}

fn fields(inspection: &Inspection, path: &Path) -> Map<String, Value> {
    without_empty(json!({
        "artifact_type": "runpack",
        "run_id": inspection.run_id,
        "path": path,
        "capture_mode": inspection.capture_mode,
        "intents_total": inspection.intents,
        "results_total": inspection.results,
        "unmatched_results": inspection.unmatched,
        "warnings": inspection.warnings,
    }))
}

fn push_line(lines: &mut String, entry: &Entry) {
    let status = match entry.outcome.status.as_str() {
        "" => "missing_result",
        status => status,
    };
    // Writing to a string cannot fail.
    let _ = write!(
        lines,
        "{}. intent={} tool={} status={status}",
        entry.index, entry.intent_id, entry.tool_name
    );
    if !entry.outcome.verdict.is_empty() {
        let _ = write!(lines, " verdict={}", entry.outcome.verdict);
    }
    lines.push('\n');
}
