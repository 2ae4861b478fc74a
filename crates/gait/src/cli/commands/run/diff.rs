//! `gait run diff`.

use std::path::Path;

use gait::artefact;
use gait::run_session::{self, Chain};
use gait::runpack::{self, Diff, Privacy, Summary};
use serde_json::json;
use worldcompute_fault::{Category, Fault, Result};

use super::super::verify::exit;
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;
use crate::cli::output::without_empty;

/// `gait run diff`
pub static DIFF: Command = Command {
    words: &["run", "diff"],
    help: "Compare two runpacks, or two session chains, deterministically and optionally write canonical diff JSON.",
    flags: &[Flag::text("privacy", "full"), Flag::text("output", "")],
    positionals: Positionals::Interleaved {
        min: 2,
        max: 2,
        expected: EXPECTED,
    },
    run,
};

const EXPECTED: &str = "expected left and right run_id|path";

/// A comparison that did not happen has an empty summary, as the format has it.
fn run(context: &Context, args: &Args) -> Result<Outcome> {
    match compared(context, args) {
        Ok(diff) => answer(args, &diff),
        Err(fault) => Outcome::failed(fault, &json!({"summary": Summary::default()})),
    }
}

fn compared(context: &Context, args: &Args) -> Result<Diff> {
    let [left, right] = args.positionals() else {
        return Err(invalid(EXPECTED));
    };
    let privacy = Privacy::parse(args.text("privacy"))?;
    let diff = match (Chain::is_named_by(left), Chain::is_named_by(right)) {
        (true, true) => run_session::diff(Path::new(left), Path::new(right), privacy)?,
        (false, false) => {
            let left = runpack::locate(left, &*context.environment)?;
            let right = runpack::locate(right, &*context.environment)?;
            runpack::diff(&left, &right, privacy)?
        }
        _ => {
            return Err(invalid(
                "a session chain is compared with a session chain, a run with a run",
            ));
        }
    };
    let output = args.text("output").trim();
    if !output.is_empty() {
        let bytes = serde_json::to_vec(&diff).map_err(|error| {
            Fault::new(
                Category::InternalFailure,
                "internal_failure",
                "write the diff",
            )
            .caused_by(error)
        })?;
        artefact::write(Path::new(output), &bytes)?;
    }
    Ok(diff)
}

fn answer(args: &Args, diff: &Diff) -> Result<Outcome> {
    let summary = &diff.summary;
    let same = summary.is_same();
    let mut fields = without_empty(json!({
        "output": args.text("output").trim(),
        "privacy": diff.privacy,
        "summary": summary,
    }));
    fields.insert("ok".to_owned(), same.into());
    let what = if same { "ok" } else { "changed" };
    let mut human = format!(
        "diff {what}: {} vs {}",
        summary.run_id_left, summary.run_id_right
    );
    if !same {
        human.push_str(&format!(
            "\nfiles changed: {}",
            summary.changed_files().join(", ")
        ));
    }
    Outcome::with(exit(same), &fields, human)
}
