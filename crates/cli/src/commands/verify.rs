//! `worldcompute verify`: what a receipt, an evidence bundle or a file of a gate proves, with no network.

use std::process::ExitCode;

use worldcompute_fault::Result;
use worldcompute_node::evidence::{self, Pins, Report};
use worldcompute_node::re_execute;
use worldcompute_proof::VerifyingKey;

use super::Context;
use super::daemon::StopSignal;
use crate::args::VerifyArgs;

/// Verifies one file or bundle, and runs the task of a receipt again if that is asked for.
pub async fn run(context: &Context, args: &VerifyArgs) -> Result<ExitCode> {
    let pins = Pins {
        submitter: args.submitter,
        executors: args.executor.clone(),
        gates: args
            .public_key
            .iter()
            .map(|path| VerifyingKey::load(path))
            .collect::<Result<_>>()?,
        signature: args.require_signature,
    };
    let report = if args.re_execute {
        let mut stop = StopSignal::listen(false)?;
        let home = context.home()?;
        stop.unless_told(re_execute(&home, &args.file, &pins))
            .await?
    } else {
        evidence::verify(&args.file, &pins)?
    };
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
