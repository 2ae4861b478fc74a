//! `gait verify chain`.

use std::path::Path;

use gait::guard;
use gait::pack::VerifyOptions;
use serde_json::{Map, Value, json};
use worldcompute_fault::Result;

use super::{Asked, REQUIREMENTS, VerifiedRun, exit};
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::commands::trace_verify;
use crate::cli::flag::Flag;
use crate::cli::output::without_empty;

/// `gait verify chain`
pub static CHAIN: Command = Command {
    words: &["verify", "chain"],
    help: "Verify runpack, trace, and evidence pack artifacts together to produce one deterministic integrity verdict.",
    flags: &[
        Flag::text("run", ""),
        Flag::text("trace", ""),
        Flag::text("pack", ""),
        Flag::group(REQUIREMENTS),
    ],
    positionals: Positionals::None,
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let reference = args.text("run").trim();
    if reference.is_empty() {
        return Err(invalid("--run is required"));
    }
    let asked = Asked::of(context, args)?;
    let path = args.text("trace").trim();
    if !path.is_empty() && asked.key.is_none() {
        return Err(invalid(
            "trace verification requires --public-key/--public-key-env or private key source",
        ));
    }
    let verified = VerifiedRun::of(reference, context, &asked)?;
    let mut holds = verified.ok;
    let mut fields = Map::new();
    let mut human = verified.human();
    fields.insert("run".to_owned(), json!(verified));
    if !path.is_empty() {
        let (ok, shown) = verify_trace(path, &asked, verified.run_id())?;
        holds &= ok;
        human.push_str(&format!(
            "\ntrace: {path} ({})",
            if ok { "verified" } else { "failed" }
        ));
        fields.insert("trace".to_owned(), shown);
    }
    let pack = args.text("pack").trim();
    if !pack.is_empty() {
        let (ok, shown) = verify_pack(pack, &asked, verified.run_id())?;
        holds &= ok;
        human.push_str(&format!(
            "\npack: {pack} ({})",
            if ok { "ok" } else { "failed" }
        ));
        fields.insert("pack".to_owned(), shown);
    }
    fields.insert("ok".to_owned(), holds.into());
    Outcome::with(exit(holds), &fields, human)
}

/// Whether the trace at `path` holds, and what to show of it.
fn verify_trace(path: &str, asked: &Asked, run_id: &str) -> Result<(bool, Value)> {
    let Some(key) = &asked.key else {
        return Err(invalid("trace verification requires a key"));
    };
    let (mut shown, verified) = trace_verify::examine(path, key)?;
    let error = match verified {
        Err(fault) => Some(fault.message().to_owned()),
        Ok(trace) => foreign(trace.run_id(), run_id).filter(|_| !trace.run_id().is_empty()),
    };
    let ok = error.is_none();
    shown.insert("ok".to_owned(), ok.into());
    shown.extend(error.map(|error| ("error".to_owned(), error.into())));
    Ok((ok, Value::Object(shown)))
}

/// Whether the guard pack at `path` holds, and what to show of it.
fn verify_pack(path: &str, asked: &Asked, run_id: &str) -> Result<(bool, Value)> {
    let options = VerifyOptions {
        key: asked.key.as_ref(),
        require_signature: asked.signature,
    };
    let report = guard::verify(Path::new(path), &options)?;
    let foreign = foreign(&report.source_ref, run_id);
    let mut shown = without_empty(json!({
        "path": path,
        "pack_id": report.pack_id,
        "run_id": report.source_ref,
        "files_checked": report.files_checked,
        "missing_files": report.missing_files,
        "undeclared_files": report.undeclared_files,
        "hash_mismatches": report.hash_mismatches,
        "signature_status": report.signature_status,
        "signature_errors": report.signature_errors,
        "signatures_total": report.signatures_total,
        "signatures_valid": report.signatures_valid,
        "error": foreign,
    }));
    let ok = report.ok() && foreign.is_none();
    shown.insert("ok".to_owned(), ok.into());
    Ok((ok, Value::Object(shown)))
}

/// Why what is about the run `of` does not belong to the run `run_id`.
fn foreign(of: &str, run_id: &str) -> Option<String> {
    (of != run_id).then(|| format!("is of run {of}, not of {run_id}"))
}
