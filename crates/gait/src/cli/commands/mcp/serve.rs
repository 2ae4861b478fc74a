//! `gait mcp serve`.

use std::path::PathBuf;
use std::sync::Mutex;

use gait::listen;
use gait::mcp::http::Service;
use gait::mcp::{Adapter, Keeping, Kind, Retention};
use gait::run_session::LockSettings;
use gait::server::{self, Guard, Limits, Listener, Token, Turns};
use jiff::SignedDuration;
use serde_json::json;
use worldcompute_fault::Result;

use super::{EXPORTS, RULING, boundary, exports, path};
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::correlation;
use crate::cli::flag::Flag;
use crate::cli::output;

/// The largest `--max-request-bytes`.
const MAX_REQUEST_BYTES: i64 = 4 << 20;

/// How much of what the service makes is kept; zero for all of it.
const RETENTION: &[Flag] = &[
    Flag::duration("trace-max-age", SignedDuration::ZERO),
    Flag::int("trace-max-count", 0),
    Flag::duration("runpack-max-age", SignedDuration::ZERO),
    Flag::int("runpack-max-count", 0),
    Flag::duration("pack-max-age", SignedDuration::ZERO),
    Flag::int("pack-max-count", 0),
    Flag::duration("session-max-age", SignedDuration::ZERO),
    Flag::int("session-max-count", 0),
];

/// `gait mcp serve`
pub static SERVE: Command = Command {
    words: &["mcp", "serve"],
    help: "Answer rulings on tool calls over HTTP, on this machine unless a token guards it.",
    flags: &[
        Flag::group(RULING),
        Flag::text("listen", listen::DEFAULT),
        Flag::text("adapter", "mcp"),
        Flag::text("auth-mode", "off"),
        Flag::text("auth-token-env", ""),
        Flag::int("max-request-bytes", 1 << 20),
        Flag::text("http-verdict-status", "compat"),
        Flag::text("trace-dir", "./gait-out/mcp-serve/traces"),
        Flag::text("session-dir", "./gait-out/mcp-serve/sessions"),
        Flag::text("runpack-dir", ""),
        Flag::text("pack-dir", ""),
        Flag::group(RETENTION),
        Flag::switch("allow-client-artifact-paths"),
        Flag::group(EXPORTS),
    ],
    positionals: Positionals::Interleaved {
        min: 0,
        max: 1,
        expected: "",
    },
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let guard = guard(context, args)?;
    let service = service(context, args, guard.limits.body_bytes)?;
    let adapter = service.adapter;
    server::runtime()?.block_on(async {
        let listener = Listener::tcp(args.text("listen")).await?;
        let address = listener.address();
        let fields = json!({
            "adapter": adapter.as_str(),
            "listen": address,
            "policy": policy(args)?,
            "profile": args.text("profile"),
        });
        context.announce(
            &fields,
            &format!(
                "mcp serve: listening={address} adapter={}",
                adapter.as_str()
            ),
        )?;
        server::serve(listener, service.router(), guard, server::asked_to_end()).await;
        Ok(Outcome::announced())
    })
}

fn policy(args: &Args) -> Result<&str> {
    match (args.text("policy"), args.positionals()) {
        ("", [only]) => Ok(only),
        ("", _) | (_, [_, ..]) => Err(invalid("expected --policy <policy.yaml>")),
        (given, []) => Ok(given),
    }
}

fn guard(context: &Context, args: &Args) -> Result<Guard> {
    let loopback = listen::is_loopback(args.text("listen"))?;
    let token = token(context, args)?;
    if !loopback && token.is_none() {
        return Err(invalid("non-loopback --listen requires --auth-mode token"));
    }
    if !loopback && args.switch("allow-client-artifact-paths") {
        return Err(invalid(
            "--allow-client-artifact-paths requires a loopback --listen",
        ));
    }
    let limits = Limits {
        body_bytes: max_request_bytes(args)?,
        ..Limits::default()
    };
    Ok(Guard {
        token,
        loopback,
        limits,
        correlation_id: correlation::new_id,
    })
}

fn max_request_bytes(args: &Args) -> Result<usize> {
    let given = args.int("max-request-bytes");
    usize::try_from(given)
        .ok()
        .filter(|_| (1..=MAX_REQUEST_BYTES).contains(&given))
        .ok_or_else(|| {
            invalid(format!(
                "--max-request-bytes must be 1 to {MAX_REQUEST_BYTES}"
            ))
        })
}

fn token(context: &Context, args: &Args) -> Result<Option<Token>> {
    let variable = args.text("auth-token-env").trim();
    match (args.text("auth-mode").trim(), variable) {
        ("off" | "", "") => Ok(None),
        ("off" | "", _) => Err(invalid("--auth-token-env requires --auth-mode token")),
        ("token", "") => Err(invalid("--auth-mode token requires --auth-token-env")),
        ("token", variable) => Token::from_variable(variable, &*context.environment).map(Some),
        _ => Err(invalid(
            "unsupported --auth-mode value (expected off or token)",
        )),
    }
}

fn service(context: &Context, args: &Args, max_request_bytes: usize) -> Result<Service> {
    let strict_status = match args.text("http-verdict-status").trim() {
        "compat" => false,
        "strict" => true,
        _ => {
            return Err(invalid(
                "unsupported --http-verdict-status value (expected compat or strict)",
            ));
        }
    };
    let adapter = Adapter::parse(args.text("adapter"))?;
    let (boundary, warnings) = boundary(context, args, policy(args)?)?;
    for warning in warnings {
        output::warn(&format!("warning: {warning}"));
    }
    Ok(Service {
        boundary,
        adapter,
        trace_dir: PathBuf::from(args.text("trace-dir")),
        keeping: keeping(context, args)?,
        retention: retention(context, args)?,
        sweeping: Mutex::default(),
        client_paths: args.switch("allow-client-artifact-paths"),
        strict_status,
        max_request_bytes,
        correlation_id: correlation::new_id,
        turns: Turns::default(),
    })
}

fn keeping(context: &Context, args: &Args) -> Result<Keeping> {
    Ok(Keeping {
        sessions: path(args, "session-dir"),
        session_lock: LockSettings::from_environment(&*context.environment)?,
        runpacks: path(args, "runpack-dir"),
        packs: path(args, "pack-dir"),
        exports: exports(args),
    })
}

/// What is kept of each kind that has a limit.
fn retention(context: &Context, args: &Args) -> Result<Vec<Retention>> {
    let mut kept = Vec::new();
    for kind in [Kind::Trace, Kind::Runpack, Kind::Pack, Kind::Session] {
        let flag = |of: &str| format!("{}-{of}", kind.name());
        let (max_age, max_count) = (
            args.duration(&flag("max-age")),
            args.int(&flag("max-count")),
        );
        let Some(max_count) = usize::try_from(max_count)
            .ok()
            .filter(|_| !max_age.is_negative())
        else {
            return Err(invalid("retention limits must not be negative"));
        };
        if max_age.is_zero() && max_count == 0 {
            continue;
        }
        let dir = path(args, &flag("dir")).ok_or_else(|| {
            let (kind, dir) = (kind.name(), flag("dir"));
            invalid(format!(
                "--{kind}-max-age and --{kind}-max-count need --{dir}"
            ))
        })?;
        kept.push(Retention {
            kind,
            dir,
            max_age,
            max_count,
            session_lock: LockSettings::from_environment(&*context.environment)?,
        });
    }
    Ok(kept)
}
