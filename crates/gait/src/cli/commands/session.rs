//! `gait session`.

use std::path::Path;

use gait::session::{SessionLog, verify as verify_log};
use serde_json::json;
use worldcompute_fault::{Category, Fault, Result};

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;
use crate::cli::keys;

/// `gait session close`
pub static CLOSE: Command = Command {
    words: &["session", "close"],
    help: "Sign how many decisions a session has, and end it.",
    flags: &[Flag::text("session", ""), Flag::group(keys::SIGNING)],
    positionals: Positionals::None,
    run: close,
};

/// `gait session verify`
pub static VERIFY: Command = Command {
    words: &["session", "verify"],
    help: "Verify that no decision of a session is missing, changed or out of place.",
    flags: &[
        Flag::text("session", ""),
        Flag::switch("require-closed"),
        Flag::group(keys::VERIFYING),
    ],
    positionals: Positionals::None,
    run: verify,
};

fn close(context: &Context, args: &Args) -> Result<Outcome> {
    let path = path(args)?;
    let signer = keys::signing(context, args)?;
    let closing = SessionLog::at(path).close(&signer.key, context.clock.now())?;
    let fields = serde_json::Map::from_iter([
        ("count".to_owned(), json!(closing.count)),
        ("closed_at".to_owned(), json!(closing.closed_at)),
        (
            "last_record_digest".to_owned(),
            json!(closing.last_record_digest),
        ),
        (
            "key_id".to_owned(),
            json!(signer.key.verifying_key().key_id()),
        ),
        ("session".to_owned(), json!(path)),
    ]);
    let human = format!(
        "session closed: {} decisions in {}",
        closing.count,
        path.display()
    );
    Outcome::ok(&fields, human)
}

fn verify(context: &Context, args: &Args) -> Result<Outcome> {
    let path = path(args)?;
    let key = keys::verifying(context, args)?.ok_or_else(|| {
        invalid("a verify key is required").because(
            "key_source_required",
            "give --public-key, --public-key-env, --private-key or --private-key-env",
        )
    })?;
    let report = verify_log(path, &key)?;
    let fields = json!({
        "closed": report.closing.is_some(),
        "decisions": report.decisions,
        "session": path,
        "signature_status": "verified",
    });
    if args.switch("require-closed") && report.closing.is_none() {
        let message = format!(
            "session {} has no signed end: records may be missing after decision {}",
            path.display(),
            report.decisions
        );
        let fault = Fault::new(Category::VerificationFailed, "session_not_closed", message)
            .hint("close the session with gait session close, or compare it with another copy");
        return Outcome::failed(fault, &fields);
    }
    let state = if report.closing.is_some() {
        "closed"
    } else {
        "open"
    };
    let human = format!("session ok: {} decisions, {state}", report.decisions);
    Outcome::ok(&fields, human)
}

fn path(args: &Args) -> Result<&Path> {
    match args.text("session").trim() {
        "" => Err(invalid("--session is required")),
        path => Ok(Path::new(path)),
    }
}
