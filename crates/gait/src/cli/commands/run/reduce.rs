//! `gait run reduce`.

use std::path::{Path, PathBuf};

use gait::artefact;
use gait::runpack::{self, Predicate};
use serde_json::json;
use worldcompute_fault::{Category, Fault, Result};

use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;

/// `gait run reduce`
pub static REDUCE: Command = Command {
    words: &["run", "reduce"],
    help: "Reduce a runpack to the smallest deterministic artifact that still triggers a selected failure predicate.",
    flags: &[
        Flag::text("from", ""),
        Flag::text("predicate", "missing_result"),
        Flag::text("out", ""),
        Flag::text("report-out", ""),
    ],
    positionals: Positionals::Interleaved {
        min: 0,
        max: 1,
        expected: EXPECTED,
    },
    run,
};

const EXPECTED: &str = "expected --from <run_id|path>";

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let reference = args.one_of("from", EXPECTED)?;
    let predicate = Predicate::parse(args.text("predicate"))?;
    let path = runpack::locate(reference, &*context.environment)?;
    let out = Some(args.text("out").trim()).filter(|out| !out.is_empty());
    let reduced = runpack::reduce(&path, predicate, out.map(Path::new))?;
    let report_path = match args.text("report-out").trim() {
        "" => PathBuf::from(format!("{}.reduce_report.json", reduced.path.display())),
        given => PathBuf::from(given),
    };
    let report = serde_json::to_vec(&reduced.report).map_err(|error| {
        Fault::new(
            Category::InternalFailure,
            "internal_failure",
            "write the report",
        )
        .caused_by(error)
    })?;
    artefact::write(&report_path, &report)?;
    let fields = json!({
        "input": path,
        "output": reduced.path,
        "report_path": report_path,
        "run_id": reduced.report.run_id,
        "reduced_run_id": reduced.report.reduced_run_id,
        "predicate": predicate,
        "report": reduced.report,
    });
    let human = format!(
        "run reduce ok: {} -> {}\nreport: {}",
        path.display(),
        reduced.path.display(),
        report_path.display()
    );
    Outcome::ok(&fields, human)
}
