//! `gait mcp serve`.

use std::path::PathBuf;

use gait::listen;
use gait::mcp::Adapter;
use gait::mcp::http::Service;
use gait::server::{self, Guard, Listener, Token};
use serde_json::json;
use worldcompute_fault::{Category, Fault, Result};

use super::{RULING, boundary};
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::correlation;
use crate::cli::flag::Flag;
use crate::cli::output;

/// The largest `--max-request-bytes`.
const MAX_REQUEST_BYTES: i64 = 4 << 20;

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
    let service = service(context, args, guard.max_request_bytes)?;
    let adapter = service.adapter;
    runtime()?.block_on(async {
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
    let max = args.int("max-request-bytes");
    let max_request_bytes = usize::try_from(max)
        .ok()
        .filter(|_| (1..=MAX_REQUEST_BYTES).contains(&max));
    Ok(Guard {
        token,
        max_request_bytes: max_request_bytes.ok_or_else(|| {
            invalid(format!(
                "--max-request-bytes must be 1 to {MAX_REQUEST_BYTES}"
            ))
        })?,
        loopback,
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
        strict_status,
        max_request_bytes,
        correlation_id: correlation::new_id,
    })
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
