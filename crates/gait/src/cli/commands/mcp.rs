//! `gait mcp`.

mod proxy;
mod serve;
mod verify;

pub use proxy::{BRIDGE, PROXY};
pub use serve::SERVE;
pub use verify::VERIFY;

use std::path::{Path, PathBuf};

use gait::gate::Profile;
use gait::mcp::{Boundary, Exports};
use gait::rate_limit::DEFAULT_STATE;
use gait::{Gate, Policy};
use std::sync::Arc;
use worldcompute_fault::Result;

use crate::cli::args::{Args, invalid};
use crate::cli::command::Context;
use crate::cli::flag::Flag;
use crate::cli::keys;

/// What rules on calls.
pub(super) const RULING: &[Flag] = &[
    Flag::text("policy", ""),
    Flag::text("profile", "standard"),
    Flag::text("kill-switch-state", ""),
    Flag::text("rate-limit-state", DEFAULT_STATE),
    Flag::text("job-root", "./gait-out/jobs"),
    Flag::group(keys::SIGNING),
];

/// Where rulings are told.
const EXPORTS: &[Flag] = &[
    Flag::text("export-log-out", ""),
    Flag::text("export-otel-out", ""),
];

/// What [`EXPORTS`] asks for.
fn exports(args: &Args) -> Exports {
    Exports {
        log: path(args, "export-log-out"),
        otel: path(args, "export-otel-out"),
    }
}

/// The boundary that [`RULING`] asks for, and what to warn of.
pub(super) fn boundary(
    context: &Context,
    args: &Args,
    policy: &str,
) -> Result<(Boundary, Vec<String>)> {
    let profile = Profile::parse(args.text("profile"))?;
    if profile == Profile::OssProd && !args.text("key-mode").trim().eq_ignore_ascii_case("prod") {
        return Err(invalid("oss-prod profile requires --key-mode prod"));
    }
    let signer = keys::signing(context, args)?;
    let policy = Policy::load_trusted(Path::new(policy))?;
    profile.check(&policy, false)?;
    let gate = Gate::new(policy, signer.key, Arc::clone(&context.clock));
    let boundary = Boundary::new(gate, Arc::clone(&context.clock), profile)
        .with_kill_switch(path(args, "kill-switch-state"))
        .with_counters(path(args, "rate-limit-state"))
        .with_jobs(path(args, "job-root"));
    Ok((boundary, signer.warnings))
}

/// The path of a flag, unless it is empty.
fn path(args: &Args, flag: &str) -> Option<PathBuf> {
    Some(args.text(flag).trim())
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}
