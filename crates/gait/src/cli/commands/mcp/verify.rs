//! `gait mcp verify`.

use std::path::Path;

use gait::Policy;
use gait::in_file::InFile;
use gait::limits::{MAX_SNAPSHOT_BYTES, from_value};
use gait::mcp::http::exit_code;
use gait::mcp::judge_server;
use gait::mcp_trust::Server;
use serde_json::{Value, json};
use worldcompute_durable::read_bounded;
use worldcompute_fault::Result;
use worldcompute_proof::parse_json_within;

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::exit::Exit;
use crate::cli::flag::Flag;
use crate::cli::output::without_empty;

/// `gait mcp verify`
pub static VERIFY: Command = Command {
    words: &["mcp", "verify"],
    help: "Say whether the policy trusts an MCP server.",
    flags: &[
        Flag::text("policy", ""),
        Flag::text("server", ""),
        Flag::text("risk-class", "high"),
    ],
    positionals: Positionals::None,
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let (policy, server) = (args.text("policy"), args.text("server"));
    if policy.is_empty() || server.is_empty() {
        return Err(invalid(
            "expected --policy <policy.yaml> and --server <server.json>",
        ));
    }
    let policy = Policy::load_trusted(Path::new(policy))?;
    let server = read_server(server).in_file(Path::new(server))?;
    let (verdict, trust) = judge_server(
        &policy,
        &server,
        args.text("risk-class"),
        context.clock.now(),
    )?;
    let human = format!(
        "mcp verify: status={} verdict={verdict} ({})",
        trust.status,
        trust.reason_codes.join(", ")
    );
    let mut fields = without_empty(json!({
        "mcp_trust": trust,
        "reason_codes": trust.reason_codes,
        "server_id": trust.server_id,
        "server_name": trust.server_name,
        "status": trust.status,
        "verdict": verdict,
    }));
    fields.insert("ok".to_owned(), true.into());
    Outcome::with(Exit::from_code(exit_code(verdict)), &fields, human)
}

fn read_server(path: &str) -> Result<Server> {
    let bytes = read_bounded(Path::new(path), MAX_SNAPSHOT_BYTES as u64)?;
    let value: Value = parse_json_within(&bytes, MAX_SNAPSHOT_BYTES)
        .map_err(|fault| invalid(format!("parse server: {}", fault.message())))?;
    from_value("parse server", value)
}
