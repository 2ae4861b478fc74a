//! `gait run inspect`.

use std::fmt::Write;
use std::path::Path;

use gait::run_session::{Chain, Checkpoint};
use gait::runpack::{self, Entry, Inspection};
use serde_json::{Map, Value, json};
use worldcompute_fault::Result;

use super::{FROM, MISSING_FROM};
use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome};
use crate::cli::flag::Flag;
use crate::cli::output::without_empty;
use crate::cli::streamed::Streamed;

/// `gait run inspect`
pub static INSPECT: Command = Command {
    words: &["run", "inspect"],
    help: "Render a deterministic timeline of intents and outcomes from an existing runpack, or the checkpoints of a session chain.",
    flags: &[Flag::text("from", "")],
    positionals: FROM,
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let from = args.one_of("from", MISSING_FROM)?;
    if Chain::is_named_by(from) {
        return session(from.trim());
    }
    let path = runpack::locate(from, &*context.environment)?;
    let mut entries = Streamed::new(&["entries"])?;
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

fn session(path: &str) -> Result<Outcome> {
    let chain = Chain::linked(Path::new(path))?;
    let mut human = format!(
        "run inspect: artifact=session_chain session_id={} run_id={} checkpoints={}\npath: {path}",
        chain.session_id,
        chain.run_id,
        chain.checkpoints.len()
    );
    for checkpoint in &chain.checkpoints {
        human.push_str(&format!(
            "\n{}. runpack={} seq={}..{}",
            checkpoint.checkpoint_index,
            checkpoint.runpack_path,
            checkpoint.sequence_start,
            checkpoint.sequence_end
        ));
    }
    let checkpoints: Vec<_> = chain.checkpoints.iter().map(shown).collect();
    let fields = json!({
        "artifact_type": "session_chain",
        "run_id": chain.run_id,
        "session_id": chain.session_id,
        "path": path,
        "checkpoint_count": checkpoints.len(),
        "checkpoints": checkpoints,
    });
    Outcome::ok(&fields, human)
}

fn shown(checkpoint: &Checkpoint) -> Map<String, Value> {
    without_empty(json!({
        "checkpoint_index": checkpoint.checkpoint_index,
        "runpack_path": checkpoint.runpack_path,
        "sequence_start": checkpoint.sequence_start,
        "sequence_end": checkpoint.sequence_end,
        "checkpoint_digest": checkpoint.checkpoint_digest,
        "prev_checkpoint_digest": checkpoint.prev_checkpoint_digest,
    }))
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
