//! `gait gate serve`.

use std::path::{Path, PathBuf};

use gait::daemon::{Daemon, Face, MAX_REQUEST};
use gait::desk::Desk;
use gait::listen;
use gait::server::{self, Guard, Limits, Listener, Token};
use serde_json::json;
use worldcompute_fault::Result;

use super::output;
use super::settings::{OPERATOR, Settings};
use super::setup::setup;
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::correlation;
use crate::cli::flag::Flag;
use crate::cli::output::answer_line;

/// Where the socket is unless told otherwise: in a directory that only its owner enters.
const SOCKET: &str = "./.gait-out/run/gate.sock";

/// `gait gate serve`
pub static SERVE: Command = Command {
    words: &["gate", "serve"],
    help: "Keep policy and key in memory and answer as gate eval does, on a Unix socket or on loopback with a token.",
    flags: &[
        Flag::group(OPERATOR),
        Flag::text("socket", SOCKET),
        Flag::text("listen", ""),
        Flag::text("auth-token-env", ""),
        Flag::text("trace-dir", "./gait-out/gate-serve/traces"),
        Flag::switch("allow-simulate"),
    ],
    positionals: Positionals::None,
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let guard = guard(context, args)?;
    let daemon = daemon(context, args)?;
    server::runtime()?.block_on(async {
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
        loopback: !address.is_empty(),
        limits: Limits {
            body_bytes: MAX_REQUEST,
            ..Limits::default()
        },
        correlation_id: correlation::new_id,
    })
}

fn daemon(context: &Context, args: &Args) -> Result<Daemon> {
    let settings = Settings::load(args)?;
    if settings.text("policy").is_empty() {
        return Err(invalid("expected --policy <policy.yaml>"));
    }
    let simulates = args.switch("allow-simulate");
    settings.refuse_simulation("allow-simulate", simulates)?;
    let desk = Desk::open(setup(context, &settings)?)?;
    let dir = Some(args.text("trace-dir").trim()).filter(|dir| !dir.is_empty());
    let face = Face {
        fields: output::fields,
        line: answer_line,
        correlation_id: correlation::new_id,
    };
    let daemon = Daemon::new(desk, dir.map(PathBuf::from), face)?;
    Ok(daemon.simulating(simulates))
}
