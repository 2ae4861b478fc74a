//! `gait trace verify`.

use std::path::Path;

use gait::VerifiedTrace;
use gait::in_file::InFile;
use gait::limits::MAX_TRACE_BYTES;
use gait::trace;
use serde_json::{Map, Value, json};
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Result};
use worldcompute_proof::VerifyingKey;

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;
use crate::cli::keys;
use crate::cli::output::without_empty;

/// `gait trace verify`
pub static VERIFY: Command = Command {
    words: &["trace", "verify"],
    help: "Check a recorded decision against the key of the gate that made it, offline.",
    flags: &[Flag::text("path", ""), Flag::group(keys::VERIFYING)],
    positionals: Positionals::Interleaved {
        min: 0,
        max: 1,
        expected: EXPECTED,
    },
    run,
};

const EXPECTED: &str = "expected trace path";

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let path = args.one_of("path", EXPECTED)?;
    let key = keys::verifying(context, args)?.ok_or_else(|| {
        invalid("a trace is verified with a key: none was given").because(
            "verify_key_required",
            "give --public-key <path> or --public-key-env <variable>",
        )
    })?;
    let (fields, verified) = examine(path, &key)?;
    let simulated = match verified {
        Ok(verified) => verified.simulated(),
        Err(fault) => return Outcome::failed(fault, &fields),
    };
    let note = simulated.map(|verdict| format!("\nsimulation: would have been {verdict}"));
    let note = note.unwrap_or_default();
    Outcome::ok(&fields, format!("trace verify ok: {path}{note}"))
}

/// What to show of the trace at `path`, and the trace if `key` signed it. What does not verify is shown with what it
/// claims, as what it is: a claim.
pub fn examine(
    path: &str,
    key: &VerifyingKey,
) -> Result<(Map<String, Value>, Result<VerifiedTrace>)> {
    let bytes = read_bounded(Path::new(path), MAX_TRACE_BYTES as u64)?;
    let claims = trace::claims(&bytes).in_file(Path::new(path))?;
    let verified = trace::verify(&bytes, key);
    let shown = match &verified {
        Ok(verified) => json!({
            "key_id": verified.key_id(),
            "path": path,
            "signature_status": "verified",
            "simulate_mode": verified.simulated().is_some(),
            "simulated_verdict": verified.simulated(),
            "trace_id": verified.trace_id(),
            "verdict": verified.verdict(),
        }),
        Err(fault) if fault.category() == Category::VerificationFailed => json!({
            "path": path,
            "signature_status": "failed",
            "trace_id": claims.trace_id,
            "verdict": claims.verdict,
        }),
        Err(fault) => return Err(fault.clone()),
    };
    Ok((without_empty(shown), verified))
}
