//! `gait policy init`.

use std::path::Path;

use gait::artefact;
use gait::starter::{TEMPLATES, Template};
use serde_json::json;
use worldcompute_fault::{Fault, Result};

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;

/// `gait policy init`
pub static INIT: Command = Command {
    words: &["policy", "init"],
    help: "Write a policy to start from: for low, medium or high risk, or for a stage of trust in an agent.",
    flags: &[Flag::text("out", "gait.policy.yaml"), Flag::switch("force")],
    positionals: Positionals::Interleaved {
        min: 1,
        max: 1,
        expected: EXPECTED,
    },
    run,
};

const EXPECTED: &str = "expected <template>, one of: baseline-lowrisk, baseline-mediumrisk, baseline-highrisk, \
    trust-observe, trust-dry-run, trust-readonly, trust-approval-write, trust-brokered-write, trust-block-destructive";

fn run(_: &Context, args: &Args) -> Result<Outcome> {
    let [name] = args.positionals() else {
        return Err(invalid(EXPECTED));
    };
    let template = Template::named(name).ok_or_else(|| unknown(name))?;
    let path = args.text("out").trim();
    if path.is_empty() {
        return Err(invalid("output path must not be empty"));
    }
    let write = if args.switch("force") {
        artefact::write
    } else {
        artefact::create
    };
    write(Path::new(path), template.yaml.as_bytes()).map_err(|fault| taken(path, fault))?;
    let next_commands = next_commands(path);
    let human = format!(
        "policy init ok: template={} output={path}\nnext: {}",
        template.name,
        next_commands.join(" | ")
    );
    let fields = json!({
        "template": template.name,
        "policy_path": path,
        "next_commands": next_commands,
    });
    Outcome::ok(&fields, human)
}

fn unknown(name: &str) -> Fault {
    let names = TEMPLATES.map(|template| template.name).join(", ");
    invalid(format!("unknown template: {name}; there are {names}"))
}

/// The refusal to write where something is already.
pub fn taken(path: &str, fault: Fault) -> Fault {
    if fault.code() != "already_exists" {
        return fault;
    }
    let message = format!("output path already exists (use --force to overwrite): {path}");
    invalid(message).because("output_exists", "choose another --out, or give --force")
}

fn next_commands(path: &str) -> [String; 3] {
    [
        format!("gait policy validate {path} --json"),
        format!("gait policy fmt {path} --write --json"),
        format!("gait policy test {path} <intent.json> --json"),
    ]
}
