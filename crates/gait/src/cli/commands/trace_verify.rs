//! `gait trace verify`.

use std::path::Path;

use gait::limits::MAX_TRACE_BYTES;
use gait::trace::{self, Claims};
use serde_json::{Map, Value, json};
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Fault, Result};

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
    let path = path(args)?;
    let key = keys::verifying(context, args)?.ok_or_else(|| {
        invalid("a trace is verified with a key: none was given").because(
            "verify_key_required",
            "give --public-key <path> or --public-key-env <variable>",
        )
    })?;
    let bytes = read_bounded(Path::new(path), MAX_TRACE_BYTES as u64)?;
    let claims = trace::claims(&bytes)?;
    let verified = match trace::verify(&bytes, &key) {
        Ok(verified) => verified,
        Err(fault) => return failed(fault, path, &claims),
    };
    let simulated = verified.simulated();
    let fields = without_empty(json!({
        "key_id": verified.key_id(),
        "path": path,
        "simulate_mode": simulated.is_some(),
        "simulated_verdict": simulated,
        "signature_status": "verified",
        "trace_id": verified.trace_id(),
        "verdict": verified.verdict(),
    }));
    let note = simulated.map(|verdict| format!("\nsimulation: would have been {verdict}"));
    let note = note.unwrap_or_default();
    Outcome::ok(&fields, format!("trace verify ok: {path}{note}"))
}

fn path(args: &Args) -> Result<&str> {
    match (args.text("path"), args.positionals()) {
        ("", [path]) if !path.is_empty() => Ok(path),
        (path, []) if !path.is_empty() => Ok(path),
        _ => Err(invalid(EXPECTED)),
    }
}

/// What does not verify is shown with what it claims, as what it is: a claim.
fn failed(fault: Fault, path: &str, claims: &Claims) -> Result<Outcome> {
    if fault.category() != Category::VerificationFailed {
        return Err(fault);
    }
    let shown = [
        ("path", path),
        ("signature_status", "failed"),
        ("trace_id", &claims.trace_id),
        ("verdict", &claims.verdict),
    ];
    let said = shown.into_iter().filter(|(_, value)| !value.is_empty());
    let fields: Map<String, Value> = said
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    Outcome::failed(fault, &fields)
}
