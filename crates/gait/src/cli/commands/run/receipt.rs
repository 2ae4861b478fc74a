//! `gait run receipt`.

use gait::runpack::{self, Requirements};
use serde_json::json;
use worldcompute_fault::{Category, Fault, Result};

use super::{FROM, located};
use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome};
use crate::cli::flag::Flag;

/// `gait run receipt`
pub static RECEIPT: Command = Command {
    words: &["run", "receipt"],
    help: "Extract the deterministic ticket footer from an existing runpack artifact without rerunning the original scenario.",
    flags: &[Flag::text("from", "")],
    positionals: FROM,
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let path = located(context, args)?;
    let report = runpack::verify(&path, &Requirements::default())?;
    if !report.holds() {
        return Err(Fault::new(
            Category::VerificationFailed,
            "verification_failed",
            "runpack verification failed",
        ));
    }
    let footer = runpack::ticket_footer(&report.run_id, &report.manifest_digest);
    let fields = json!({
        "run_id": report.run_id,
        "path": path,
        "manifest_digest": report.manifest_digest,
        "ticket_footer": footer,
    });
    Outcome::ok(&fields, footer)
}
