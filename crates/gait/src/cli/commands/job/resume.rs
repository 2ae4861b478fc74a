//! `gait job resume`.

use std::path::Path;

use gait::job::{Resume, Revocations};
use worldcompute_fault::Result;

use super::{ACTED, Answer, POLICY, fingerprint, id, jobs, policy};
use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;

/// `gait job resume`
pub static RESUME: Command = Command {
    words: &["job", "resume"],
    help: "Let a job run again, once policy, identity, approvals and environment still hold.",
    flags: &[
        Flag::group(ACTED),
        Flag::group(POLICY),
        Flag::text("identity", ""),
        Flag::text("reason", ""),
        Flag::text("env-fingerprint", ""),
        Flag::text("identity-validation-source", ""),
        Flag::text("identity-revocations", ""),
        Flag::switch("identity-revoked"),
        Flag::switch("allow-env-mismatch"),
    ],
    positionals: Positionals::None,
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (policy_digest, policy_ref) = policy(args)?;
    let resume = Resume {
        actor: args.text("actor").to_owned(),
        reason: args.text("reason").to_owned(),
        identity: args.text("identity").to_owned(),
        environment_fingerprint: fingerprint(context, args),
        allow_environment_mismatch: args.switch("allow-env-mismatch"),
        policy_digest,
        policy_ref,
        identity_validation_source: validation_source(args).to_owned(),
        revoked: revoked(args)?,
    };
    let job = jobs(context, args).resume(&id(args)?, &resume)?;
    Answer::of("resume", job).outcome()
}

fn revoked(args: &Args) -> Result<Revocations> {
    match args.text("identity-revocations").trim() {
        _ if args.switch("identity-revoked") => Ok(Revocations::everybody()),
        "" => Ok(Revocations::default()),
        path => Revocations::load(Path::new(path)),
    }
}

fn validation_source(args: &Args) -> &str {
    let listed = !args.text("identity-revocations").trim().is_empty();
    match args.text("identity-validation-source").trim() {
        "" if listed => "revocation_list",
        given => given,
    }
}
