//! `gait policy simulate`.

use std::path::Path;

use gait::policy::simulate::{Simulation, Trial, fixture_paths};
use gait::{Policy, Verdict};
use worldcompute_fault::{Fault, Result};

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
    if simulation.fixtures_total == 0 {
        return Outcome::failed(nothing_replayed(&simulation), &simulation);
    }
    Outcome::ok(&simulation, lines(&simulation).join("\n"))
}

fn nothing_replayed(simulation: &Simulation) -> Fault {
    let count = simulation.unmatched_traces;
    invalid(format!(
        "nothing was replayed: --fixtures has {count} recorded decisions and none of their intents"
    ))
    .because(
        "intents_missing",
        "add the intents of the decisions to --fixtures: a trace has only the digest of its intent",
    )
}

/// What the change does, decision by decision.
fn lines(simulation: &Simulation) -> Vec<String> {
    let mut lines = vec![simulation.summary.clone()];
    lines.extend(simulation.changed.iter().map(|change| {
        let before = ruled(change.baseline_verdict, &change.baseline_matched_rule);
        let after = ruled(change.candidate_verdict, &change.candidate_matched_rule);
        format!("  {}: {before} becomes {after}", change.fixture_path)
    }));
    let replays = simulation.would_allow.iter().chain(&simulation.would_deny);
    lines.extend(replays.map(|replay| {
        let after = ruled(replay.candidate_verdict, &replay.candidate_matched_rule);
        let (path, was) = (&replay.fixture_path, replay.recorded_verdict);
        format!("  {path}: recorded {was} becomes {after}")
    }));
    let unmatched = simulation.unmatched.iter();
    lines.extend(unmatched.map(|path| format!("  {path}: not replayed, its intent is missing")));
    let warnings = simulation.warnings.iter();
    lines.extend(warnings.map(|warning| format!("warning: {warning}")));
    lines
}

fn ruled(verdict: Verdict, rules: &str) -> String {
    match rules {
        "" => format!("{verdict} (default)"),
        rules => format!("{verdict} (rule {rules})"),
    }
}

fn required<'a>(args: &'a Args, flag: &str, what: &str) -> Result<&'a str> {
    match args.text(flag).trim() {
        "" => Err(invalid(format!("missing required --{flag} {what}"))),
        path => Ok(path),
    }
}
