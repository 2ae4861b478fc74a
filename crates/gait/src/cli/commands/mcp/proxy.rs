//! `gait mcp proxy` and `gait mcp bridge`.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use gait::in_file::InFile;
use gait::mcp::http::{elapsed_ms, exit_code};
use gait::mcp::stdio::Proxy;
use gait::mcp::{Adapter, Boundary, MAX_PAYLOAD, Ruling, run_id as run_id_of};
use gait::mcp_trust::Server;
use serde_json::json;
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Fault, Result};

use super::{EXPORTS, RULING, boundary, exports, path};
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::exit::Exit;
use crate::cli::flag::Flag;
use crate::cli::output;

const FLAGS: &[Flag] = &[
    Flag::group(RULING),
    Flag::text("call", ""),
    Flag::text("adapter", "mcp"),
    Flag::text("trace-out", ""),
    Flag::text("run-id", ""),
    Flag::text("runpack-out", ""),
    Flag::text("pack-out", ""),
    Flag::group(EXPORTS),
    Flag::switch("stdio"),
    Flag::text("server-id", ""),
    Flag::text("session-id", ""),
    Flag::text("job-id", ""),
    Flag::text("trace-dir", "./gait-out/mcp-proxy/traces"),
];
const POSITIONALS: Positionals = Positionals::Interleaved {
    min: 0,
    max: usize::MAX,
    expected: "",
};

/// `gait mcp proxy`
pub static PROXY: Command = Command {
    words: &["mcp", "proxy"],
    help: "Rule on one tool call and sign the decision; with --stdio, stand between an MCP client and the server behind --.",
    flags: FLAGS,
    positionals: POSITIONALS,
    run,
};

/// `gait mcp bridge`
pub static BRIDGE: Command = Command {
    words: &["mcp", "bridge"],
    help: "The same as mcp proxy.",
    flags: FLAGS,
    positionals: POSITIONALS,
    run,
};

/// What only one call at a time has a use for.
const OF_ONE_CALL: [&str; 6] = [
    "call",
    "adapter",
    "trace-out",
    "run-id",
    "runpack-out",
    "pack-out",
];
/// What only a session with a server has a use for.
const OF_A_SESSION: [&str; 4] = ["server-id", "session-id", "job-id", "trace-dir"];

const EXPECTED: &str = "expected --policy <policy.yaml> and --call <tool_call.json|->";

/// Nothing is ever executed here, and failures say so too.
fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let done = match args.switch("stdio") {
        true => stdio(context, args),
        false => once(context, args),
    };
    done.or_else(|fault| Outcome::failed(fault, &json!({ "executed": false })))
}

fn once(context: &Context, args: &Args) -> Result<Outcome> {
    let started = Instant::now();
    if let Some(flag) = OF_A_SESSION.iter().find(|flag| args.given(flag)) {
        return Err(invalid(format!("--{flag} goes with --stdio only")));
    }
    let (policy, call) = inputs(args)?;
    let adapter = Adapter::parse(args.text("adapter"))?;
    let payload = payload(call)?;
    let call = match call {
        "-" => adapter.decode(&payload)?,
        path => adapter.decode(&payload).in_file(Path::new(path))?,
    };
    let (boundary, warnings) = boundary(context, args, policy)?;
    let place = |run: &str| path(args, "trace-out").unwrap_or_else(|| default_trace(context, run));
    let run_id = args.text("run-id");
    let mut ruling = boundary.decide(&call, run_id, &context.correlation_id, place)?;
    ruling.warnings.splice(0..0, warnings);
    ruling.warnings.extend(renamed(run_id));
    let latency = elapsed_ms(started);
    let packed = packed(args, &boundary, &ruling)?;
    exports(args).append(&ruling, latency)?;
    outcome(args, &ruling, adapter, latency, packed)
}

/// Whether a run is called otherwise than was asked, beyond the `run_` that every run's name begins with.
fn renamed(asked: &str) -> Option<String> {
    let id = run_id_of(asked);
    let plain = |name: &str| name.trim().trim_start_matches("run_").to_owned();
    (plain(&id) != plain(asked))
        .then(|| format!("--run-id {asked:?} cannot name a run: it is {id:?}"))
}

/// Writes the runpack and the pack that were asked for, and says where they are.
fn packed(
    args: &Args,
    boundary: &Boundary,
    ruling: &Ruling,
) -> Result<Vec<(&'static str, String)>> {
    let mut fields = Vec::new();
    let runpack = path(args, "runpack-out");
    if let Some(runpack) = &runpack {
        boundary.write_runpack(ruling, runpack)?;
        fields.push(("runpack_path", runpack.display().to_string()));
    }
    if let Some(pack) = path(args, "pack-out") {
        let built = boundary.write_pack(ruling, runpack.as_deref(), &pack)?;
        fields.push(("pack_path", built.path.display().to_string()));
        fields.push(("pack_id", built.manifest.pack_id));
    }
    Ok(fields)
}

/// The policy and the call, by flag or by place.
fn inputs(args: &Args) -> Result<(&str, &str)> {
    let mut places = args.positionals().iter().map(String::as_str);
    let mut named = |flag: &str| match args.text(flag) {
        "" => places.next(),
        given => Some(given),
    };
    match (named("policy"), named("call"), places.next()) {
        (Some(policy), Some(call), None) => Ok((policy, call)),
        _ => Err(invalid(EXPECTED)),
    }
}

fn payload(call: &str) -> Result<Vec<u8>> {
    if call != "-" {
        return read_bounded(Path::new(call), MAX_PAYLOAD as u64);
    }
    let mut payload = Vec::new();
    let limit = (MAX_PAYLOAD as u64).saturating_add(1);
    std::io::stdin()
        .take(limit)
        .read_to_end(&mut payload)
        .map_err(|error| Fault::io("read standard input", &error))?;
    Ok(payload)
}

fn default_trace(context: &Context, run_id: &str) -> PathBuf {
    let now = context
        .clock
        .now()
        .strftime("%Y%m%dT%H%M%S%.9f")
        .to_string();
    PathBuf::from(format!("trace_{run_id}_{now}.json"))
}

fn outcome(
    args: &Args,
    ruling: &Ruling,
    adapter: Adapter,
    latency: u64,
    packed: Vec<(&str, String)>,
) -> Result<Outcome> {
    let mut fields = ruling.to_value(adapter, latency);
    fields.extend(
        packed
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into())),
    );
    fields.extend(exports(args).fields());
    let verdict = ruling.decision.verdict();
    let mut human = format!(
        "mcp proxy: verdict={verdict}\ntrace: {}",
        ruling.trace_path.display()
    );
    for cause in ruling.decision.denied_by() {
        human += &format!("\n  because {cause}");
    }
    Outcome::with(Exit::from_code(exit_code(verdict)), &fields, human)
}

fn stdio(context: &Context, args: &Args) -> Result<Outcome> {
    if context.json {
        return Err(invalid(
            "--stdio speaks MCP on standard output and cannot print --json",
        ));
    }
    if let Some(flag) = OF_ONE_CALL.iter().find(|flag| args.given(flag)) {
        return Err(invalid(format!("--{flag} does not go with --stdio")));
    }
    if args.text("policy").is_empty() || args.positionals().is_empty() {
        return Err(invalid(
            "expected --policy <policy.yaml> and the server's command after --",
        ));
    }
    let (boundary, warnings) = boundary(context, args, args.text("policy"))?;
    for warning in warnings {
        output::warn(&format!("warning: {warning}"));
    }
    let server_id = args.text("server-id").trim();
    let session_id = match args.text("session-id").trim() {
        "" => context.correlation_id.clone(),
        given => given.to_owned(),
    };
    let proxy = Proxy {
        boundary,
        server: (!server_id.is_empty()).then(|| Server {
            server_id: server_id.to_owned(),
            ..Server::default()
        }),
        trace_dir: PathBuf::from(args.text("trace-dir")),
        exports: exports(args),
        job_id: args.text("job-id").trim().to_owned(),
        session_id,
        correlation_id: context.correlation_id.clone(),
        sequence: AtomicU64::new(1),
    };
    let client = Box::new(BufReader::new(std::io::stdin()));
    let tally = proxy.run(args.positionals(), client, Box::new(std::io::stdout()))?;
    output::warn(&format!(
        "gait: {} allowed, {} denied, {} refused, {} of the server dropped",
        tally.allowed, tally.denied, tally.refused, tally.dropped
    ));
    Outcome::ok(&json!({}), "")
}
