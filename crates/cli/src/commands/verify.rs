//! `worldcompute verify`: what a receipt or an evidence bundle proves, with no network.

use std::process::ExitCode;

use worldcompute_fault::Result;
use worldcompute_node::evidence::{self, Pins, Report};

use super::Context;
use crate::args::VerifyArgs;

/// Verifies one file or bundle.
pub fn run(context: &Context, args: &VerifyArgs) -> Result<ExitCode> {
    let pins = Pins {
        submitter: args.submitter,
        executors: args.executor.clone(),
    };
    let report = evidence::verify(&args.file, &pins)?;
    context.output.data(&report, in_words)?;
    Ok(ExitCode::SUCCESS)
}

fn in_words(report: &Report) -> String {
    let proven = report
        .proven
        .iter()
        .map(|fact| format!("  proven      {fact}"));
    let open = report
        .not_proven
        .iter()
        .map(|question| format!("  not proven  {question}"));
    std::iter::once(report.summary.clone())
        .chain(proven)
        .chain(open)
        .collect::<Vec<_>>()
        .join("\n")
}
