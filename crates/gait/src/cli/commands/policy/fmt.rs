//! `gait policy fmt`.

use std::path::Path;

use gait::Policy;
use gait::policy::format_file;
use serde_json::{Value, json};
use worldcompute_fault::Result;

use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;

/// `gait policy fmt`
pub static FMT: Command = Command {
    words: &["policy", "fmt"],
    help: "Write a policy in its normal form: one order, defaults written out, comments gone.",
    flags: &[Flag::switch("write")],
    positionals: Positionals::Interleaved {
        min: 1,
        max: 1,
        expected: super::EXPECTED,
    },
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let path = super::path(args)?;
    let write = args.switch("write");
    let formatted = format_file(Path::new(path), write)?;
    let fields = fields(path, write, &formatted.policy, formatted.changed);
    let mut fields = fields;
    if !write && context.json {
        super::set(&mut fields, "formatted", json!(formatted.yaml));
    }
    let human = if write {
        format!(
            "policy fmt ok: path={path} changed={changed} written={changed} rules={}",
            formatted.policy.rule_count(),
            changed = formatted.changed,
        )
    } else {
        formatted.yaml.trim_end().to_owned()
    };
    Outcome::ok(&fields, human)
}

fn fields(path: &str, write: bool, policy: &Policy, changed: bool) -> Value {
    let mut fields = json!({
        "path": path,
        "policy_digest": policy.digest(),
        "default_verdict": policy.default_verdict(),
    });
    super::set_count(&mut fields, "rule_count", policy.rule_count());
    if changed {
        super::set(&mut fields, "changed", json!(true));
    }
    if changed && write {
        super::set(&mut fields, "written", json!(true));
    }
    fields
}
