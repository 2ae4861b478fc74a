//! `gait policy validate`.

use std::path::Path;

use gait::Policy;
use gait::policy::{SCHEMA_ID, SCHEMA_VERSION};
use serde_json::json;
use worldcompute_fault::Result;

use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome, Positionals};

/// `gait policy validate`
pub static VALIDATE: Command = Command {
    words: &["policy", "validate"],
    help: "Read a policy strictly, bring it into normal form, and say what it is and what is odd about it.",
    flags: &[],
    positionals: Positionals::Interleaved {
        min: 1,
        max: 1,
        expected: super::EXPECTED,
    },
    run,
};

fn run(_: &Context, args: &Args) -> Result<Outcome> {
    let (policy, warnings) = Policy::load_with_warnings(Path::new(super::path(args)?))?;
    let summary = format!(
        "policy validate ok: default={} rules={} digest={}",
        policy.default_verdict(),
        policy.rule_count(),
        policy.digest()
    );
    let mut fields = json!({
        "schema_id": SCHEMA_ID,
        "schema_version": SCHEMA_VERSION,
        "policy_digest": policy.digest(),
        "default_verdict": policy.default_verdict(),
        "summary": summary,
    });
    super::set_count(&mut fields, "rule_count", policy.rule_count());
    let mut human = summary;
    for warning in &warnings {
        human += &format!("\nwarning: {warning}");
    }
    if !warnings.is_empty() {
        super::set(&mut fields, "warnings", json!(warnings));
    }
    Outcome::ok(&fields, human)
}
