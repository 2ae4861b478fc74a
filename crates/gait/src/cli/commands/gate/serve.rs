//! `gait gate serve`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gait::daemon::{self, Daemon, MAX_REQUEST};
use gait::gate::Profile;
use gait::keys::{self as sources, KeyMode, KeySource};
use gait::server::{self, Guard, Listener, Token};
use gait::{approval, listen, project_config};
use serde_json::json;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::VerifyingKey;

use super::output;
use super::settings::Settings;
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::correlation;
use crate::cli::flag::Flag;
use crate::cli::keys;

/// Where the socket is unless told otherwise: in a directory that only its owner enters.
const SOCKET: &str = "./.gait-out/run/gate.sock";

/// `gait gate serve`
pub static SERVE: Command = Command {
    words: &["gate", "serve"],
    help: "Keep policy and key in memory and answer as gate eval does, on a Unix socket or on loopback with a token.",
    flags: &[
        Flag::text("policy", ""),
        Flag::text("profile", ""),
        Flag::text("key-mode", ""),
        Flag::text("private-key", ""),
        Flag::text("private-key-env", ""),
        Flag::text("approval-public-key", ""),
        Flag::text("approval-public-key-env", ""),
        Flag::text("delegation-public-key", ""),
        Flag::text("delegation-public-key-env", ""),
        Flag::text("approval-redemption-state", approval::DEFAULT_REDEMPTIONS),
        Flag::text("kill-switch-state", ""),
        Flag::text("rate-limit-state", ""),
        Flag::text("config", project_config::DEFAULT_PATH),
        Flag::switch("no-config"),
        Flag::text("socket", SOCKET),
        Flag::text("listen", ""),
        Flag::text("auth-token-env", ""),
        Flag::text("trace-dir", "./gait-out/gate-serve/traces"),
    ],
    positionals: Positionals::None,
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let guard = guard(context, args)?;
    let daemon = Daemon::new(settings(context, args)?)?;
    runtime()?.block_on(async {
        let listener = match args.text("listen").trim() {
            "" => Listener::unix(Path::new(args.text("socket")))?,
            address => Listener::tcp(address).await?,
        };
        let address = listener.address();
        context.announce(
            &json!({ "listen": address }),
            &format!("gate serve: listening={address}"),
        )?;
        server::serve(listener, daemon.router(), guard, server::asked_to_end()).await;
        Ok(Outcome::announced())
    })
}

/// Only its owner opens the socket; anybody on the machine opens a port.
fn guard(context: &Context, args: &Args) -> Result<Guard> {
    let variable = args.text("auth-token-env").trim();
    let address = args.text("listen").trim();
    if !address.is_empty() && !listen::is_loopback(address)? {
        return Err(invalid("gate serve listens on loopback only"));
    }
    if !address.is_empty() && variable.is_empty() {
        return Err(invalid("--listen requires --auth-token-env"));
    }
    let token =
        (!variable.is_empty()).then(|| Token::from_variable(variable, &*context.environment));
    Ok(Guard {
        token: token.transpose()?,
        max_request_bytes: MAX_REQUEST,
        loopback: !address.is_empty(),
    })
}

fn settings(context: &Context, args: &Args) -> Result<daemon::Settings> {
    let settings = Settings::load(args)?;
    let profile = Profile::parse(settings.text("profile"))?;
    if profile == Profile::OssProd && KeyMode::parse(settings.text("key-mode"))? != KeyMode::Prod {
        return Err(invalid("oss-prod profile requires --key-mode prod"));
    }
    let signer = keys::signing_with(context, |flag| settings.text(flag).to_owned())?;
    let approval_key = public(context, &settings, "approval-public-key")?;
    let delegation_key = public(context, &settings, "delegation-public-key")?;
    let policy = settings
        .path("policy")
        .ok_or_else(|| invalid("expected --policy <policy.yaml>"))?;
    Ok(daemon::Settings {
        policy,
        profile,
        key: signer.key,
        approval_key,
        delegation_key: delegation_key.or(approval_key),
        kill_switch: settings.path("kill-switch-state"),
        counters: PathBuf::from(settings.text("rate-limit-state")),
        redemptions: PathBuf::from(args.text("approval-redemption-state")),
        trace_dir: Some(args.text("trace-dir").trim())
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from),
        warnings: signer.warnings,
        clock: Arc::clone(&context.clock),
        render: output::shown,
        correlation_id: correlation::new_id,
    })
}

fn public(context: &Context, settings: &Settings<'_>, flag: &str) -> Result<Option<VerifyingKey>> {
    let variable = format!("{flag}-env");
    let source = KeySource::new(flag, settings.text(flag), settings.text(&variable))?;
    sources::verifying_key(&source, &KeySource::None, &*context.environment)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| {
            Fault::new(Category::InternalFailure, "no_runtime", "start the service")
                .caused_by(error)
        })
}
