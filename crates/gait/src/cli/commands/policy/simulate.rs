//! `gait policy simulate`.

use std::path::Path;

use gait::Policy;
use gait::policy::simulate::{Trial, fixture_paths};
use worldcompute_fault::Result;

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;
use crate::cli::keys;

/// `gait policy simulate`
pub static SIMULATE: Command = Command {
    words: &["policy", "simulate"],
    help: "Replay intents and recorded traces: what a change of policy would allow or deny.",
    flags: &[
        Flag::text("policy", ""),
        Flag::text("baseline", ""),
        Flag::csv("fixtures"),
        Flag::group(keys::VERIFYING),
    ],
    positionals: Positionals::Interleaved {
        min: 0,
        max: 0,
        expected: "",
    },
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let candidate = required(args, "policy", "<candidate_policy.yaml>")?;
    let baseline = required(args, "baseline", "<baseline_policy.yaml>")?;
    let fixtures = args.csv("fixtures");
    if fixtures.is_empty() {
        return Err(invalid("missing required --fixtures <csv files/dirs>"));
    }
    let key = keys::verifying(context, args)?;
    let paths = fixture_paths(&fixtures)?;
    let candidate = Policy::load(Path::new(candidate))?;
    let baseline = Policy::load(Path::new(baseline))?;
    let mut trial = Trial::new(&baseline, &candidate, context.clock.now());
    for path in &paths {
        trial.add_file(path, key.as_ref())?;
    }
    let simulation = trial.finish();
    let mut human = simulation.summary.clone();
    for warning in &simulation.warnings {
        human.push_str(&format!("\nwarning: {warning}"));
    }
    Outcome::ok(&simulation, human)
}

fn required<'a>(args: &'a Args, flag: &str, what: &str) -> Result<&'a str> {
    match args.text(flag).trim() {
        "" => Err(invalid(format!("missing required --{flag} {what}"))),
        path => Ok(path),
    }
}
