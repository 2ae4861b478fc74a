//! `gait version`.

use serde_json::json;
use worldcompute_fault::Result;

use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome, Positionals};

/// `gait version`
pub static VERSION: Command = Command {
    words: &["version"],
    help: "Print the version of this build.",
    flags: &[],
    positionals: Positionals::None,
    run,
};

fn run(_context: &Context, _args: &Args) -> Result<Outcome> {
    let version = gait::VERSION;
    Outcome::ok(&json!({ "version": version }), format!("gait {version}"))
}
