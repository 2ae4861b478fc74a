//! `gait hook`.

use std::io::Read;
use std::path::PathBuf;

use gait::hook;
use gait::mcp::MAX_PAYLOAD;
use serde_json::Value;
use worldcompute_fault::{Fault, Result};

use super::mcp::{RULING, boundary};
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;

/// `gait hook`
pub static HOOK: Command = Command {
    words: &["hook"],
    help: "Answer a coding agent's hook before a tool call: its JSON on standard input, allow, deny or ask on standard output.",
    flags: &[
        Flag::group(RULING),
        Flag::text("trace-dir", "./gait-out/hook/traces"),
        Flag::text("job-id", ""),
    ],
    positionals: Positionals::None,
    run,
};

/// An agent takes any exit but 0 and 2 for a hook that is out of order, and goes on: every failure is an answer.
fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (ok, mut answer) = match ruled(context, args) {
        Ok(ruling) => (true, ruling),
        Err(fault) => (false, hook::denial(&fault)),
    };
    let human = answer.to_string();
    // With --json too the agent has to find the decision, and its user whether there was a ruling.
    if let Some(members) = answer.as_object_mut() {
        members.insert("ok".to_owned(), ok.into());
    }
    Outcome::ok(&answer, human)
}

/// The answer to an agent whose hook has a wrong command line.
pub fn deny(fault: &Fault) -> String {
    hook::denial(fault).to_string()
}

fn ruled(context: &Context, args: &Args) -> Result<Value> {
    if args.text("policy").is_empty() {
        return Err(invalid("expected --policy <policy.yaml>"));
    }
    let mut payload = Vec::new();
    std::io::stdin()
        .take((MAX_PAYLOAD as u64).saturating_add(1))
        .read_to_end(&mut payload)
        .map_err(|error| Fault::io("read standard input", &error))?;
    let mut call = hook::read(&payload)?;
    let job_id = args.text("job-id").trim();
    job_id.clone_into(&mut call.context.intent.job_id);
    let (boundary, _) = boundary(context, args, args.text("policy"))?;
    let name = format!("trace_{}.json", context.correlation_id);
    let place = |_: &str| PathBuf::from(args.text("trace-dir")).join(name);
    let ruling = boundary.decide(&call, "", &context.correlation_id, place)?;
    Ok(hook::answer(&ruling))
}
