//! `gait approve`.

use std::path::{Path, PathBuf};

use gait::approval::{Mint, SINGLE_USE, Token};
use gait::artefact;
use jiff::SignedDuration;
use serde::Serialize;
use worldcompute_fault::Result;
use worldcompute_proof::Sha256;

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;
use crate::cli::keys;

/// `gait approve`
pub static APPROVE: Command = Command {
    words: &["approve"],
    help: "Mint a signed approval token with scope and TTL for gate decisions that require explicit approval.",
    flags: &[
        Flag::text("intent-digest", ""),
        Flag::text("policy-digest", ""),
        Flag::text("delegation-binding-digest", ""),
        Flag::duration("ttl", SignedDuration::ZERO),
        Flag::csv("scope"),
        Flag::switch("single-use"),
        Flag::text("approver", ""),
        Flag::text("reason-code", ""),
        Flag::int("max-targets", 0),
        Flag::int("max-ops", 0),
        Flag::text("out", ""),
        Flag::group(keys::SIGNING),
    ],
    positionals: Positionals::None,
    run,
};

#[derive(Serialize)]
struct Fields<'a> {
    description: &'static str,
    expires_at: String,
    key_id: &'a str,
    reason_code: &'a str,
    scope: Vec<String>,
    token_id: &'a str,
    token_path: &'a Path,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
}

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let mint = mint(args)?;
    let signer = keys::signing(context, args)?;
    let (token, bytes) = Token::mint(&mint, &signer.key, context.clock.now())?;
    let path = match args.text("out").trim() {
        "" => PathBuf::from(format!("approval_{}.json", token.token_id())),
        given => PathBuf::from(given),
    };
    artefact::write(&path, &bytes)?;
    let fields = Fields {
        description: "signed approval token created",
        expires_at: seconds(&token.expires_at().to_string()),
        key_id: token.key_id(),
        reason_code: token.reason_code(),
        scope: token.scope(),
        token_id: token.token_id(),
        token_path: &path,
        warnings: &signer.warnings,
    };
    Outcome::ok(
        &fields,
        format!("approval token created: {}", path.display()),
    )
}

fn mint(args: &Args) -> Result<Mint> {
    let ttl = args.duration("ttl");
    if !ttl.is_positive() {
        return Err(invalid("invalid --ttl, expected positive duration"));
    }
    let mut scope = args.csv("scope");
    if scope.is_empty() {
        return Err(invalid("scope is required"));
    }
    if args.switch("single-use") {
        scope.push(SINGLE_USE.to_owned());
    }
    Ok(Mint {
        approver_identity: args.text("approver").to_owned(),
        reason_code: args.text("reason-code").to_owned(),
        intent_digest: required(args, "intent-digest")?,
        policy_digest: required(args, "policy-digest")?,
        delegation_binding_digest: digest(args, "delegation-binding-digest")?,
        scope,
        max_targets: args.int("max-targets"),
        max_ops: args.int("max-ops"),
        ttl,
    })
}

fn required(args: &Args, flag: &str) -> Result<Sha256> {
    digest(args, flag)?.ok_or_else(|| not_a_digest(flag))
}

/// The digest that a flag gives, in either case; `None` when it gives nothing.
pub(super) fn digest(args: &Args, flag: &str) -> Result<Option<Sha256>> {
    let text = args.text(flag).trim().to_ascii_lowercase();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| not_a_digest(flag))
}

fn not_a_digest(flag: &str) -> worldcompute_fault::Fault {
    invalid(format!("{} must be sha256 hex", flag.replace('-', "_")))
}

/// An instant as outputs show it: without fractions of a second.
pub(super) fn seconds(instant: &str) -> String {
    match instant.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => instant.to_owned(),
    }
}
