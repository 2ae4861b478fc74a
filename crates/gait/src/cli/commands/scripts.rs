//! `gait approve-script` and `gait list-scripts`.

use std::path::Path;

use gait::limits::{MAX_INTENT_BYTES, MAX_POLICY_BYTES};
use gait::scripts::{Entry, Mint, Registry};
use gait::{Intent, Policy};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Fault, Result};

use super::approve::seconds;
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;
use crate::cli::keys;

/// `gait approve-script`
pub static APPROVE: Command = Command {
    words: &["approve-script"],
    help: "Create a signed approved-script registry entry bound to a policy digest and script hash.",
    flags: &[
        Flag::text("policy", ""),
        Flag::text("intent", ""),
        Flag::text("registry", ""),
        Flag::text("pattern-id", ""),
        Flag::text("approver", ""),
        Flag::duration("ttl", SignedDuration::from_hours(168)),
        Flag::csv("scope"),
        Flag::group(keys::SIGNING),
    ],
    positionals: Positionals::None,
    run: approve,
};

/// `gait list-scripts`
pub static LIST: Command = Command {
    words: &["list-scripts"],
    help: "List approved-script registry entries with expiry status and deterministic ordering.",
    flags: &[Flag::text("registry", "")],
    positionals: Positionals::None,
    run: list,
};

#[derive(Serialize)]
struct Approved<'a> {
    expires_at: String,
    pattern_id: &'a str,
    policy_digest: &'a str,
    registry_path: &'a Path,
    script_hash: &'a str,
    tool_sequence: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    count: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entries: Vec<ListedEntry<'a>>,
    registry: &'a Path,
}

#[derive(Serialize)]
struct ListedEntry<'a> {
    approver_identity: &'a str,
    expired: bool,
    expires_at: String,
    pattern_id: &'a str,
    policy_digest: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scope: Vec<String>,
    script_hash: &'a str,
    tool_sequence: &'a [String],
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn approve(context: &Context, args: &Args) -> Result<Outcome> {
    let required = ["policy", "intent", "registry", "approver"];
    if required
        .iter()
        .any(|flag| args.text(flag).trim().is_empty())
    {
        let message = "--policy, --intent, --registry, and --approver are required";
        return Err(invalid(message));
    }
    if !args.duration("ttl").is_positive() {
        return Err(invalid("invalid --ttl duration"));
    }
    let policy = Policy::parse(&read(args, "policy", MAX_POLICY_BYTES)?)?;
    let intent = Intent::parse(&read(args, "intent", MAX_INTENT_BYTES)?)?;
    let signer = keys::signing(context, args)?;
    let mint = Mint {
        intent: &intent,
        policy_digest: policy.digest(),
        pattern_id: args.text("pattern-id").to_owned(),
        approver_identity: args.text("approver").to_owned(),
        scope: args.csv("scope"),
        ttl: args.duration("ttl"),
    };
    let entry = Entry::mint(&mint, &signer.key, context.clock.now())?;
    let registry = Path::new(args.text("registry").trim());
    Registry::put(registry, entry.clone())?;
    let fields = Approved {
        expires_at: entry.expires_at().to_string(),
        pattern_id: entry.pattern_id(),
        policy_digest: entry.policy_digest(),
        registry_path: registry,
        script_hash: entry.script_hash(),
        tool_sequence: entry.tool_sequence(),
        warnings: &signer.warnings,
    };
    let human = format!(
        "approve-script: pattern={} registry={}\npolicy_digest={} script_hash={}",
        entry.pattern_id(),
        registry.display(),
        entry.policy_digest(),
        entry.script_hash()
    );
    Outcome::ok(&fields, human)
}

fn read(args: &Args, flag: &str, limit: usize) -> Result<Vec<u8>> {
    read_bounded(Path::new(args.text(flag).trim()), limit as u64)
}

fn list(context: &Context, args: &Args) -> Result<Outcome> {
    let path = args.text("registry").trim();
    if path.is_empty() {
        return Err(invalid("--registry is required"));
    }
    let path = Path::new(path);
    path.symlink_metadata()
        .map_err(|error| Fault::io(format_args!("read {}", path.display()), &error))?;
    let registry = Registry::load(path)?;
    let now = context.clock.now();
    let entries = registry.entries().iter();
    let entries: Vec<_> = entries.map(|entry| ListedEntry::of(entry, now)).collect();
    let lines = entries.iter().map(|entry| {
        let state = if entry.expired { "expired" } else { "active" };
        format!("\n{} {state} until {}", entry.pattern_id, entry.expires_at)
    });
    let human = format!(
        "list-scripts: {}{}",
        entries.len(),
        lines.collect::<String>()
    );
    let count = entries.len();
    Outcome::ok(
        &Listed {
            count,
            entries,
            registry: path,
        },
        human,
    )
}

impl<'a> ListedEntry<'a> {
    fn of(entry: &'a Entry, now: Timestamp) -> Self {
        Self {
            approver_identity: entry.approver_identity(),
            expired: entry.is_expired(now),
            expires_at: seconds(&entry.expires_at().to_string()),
            pattern_id: entry.pattern_id(),
            policy_digest: entry.policy_digest(),
            scope: entry.scope(),
            script_hash: entry.script_hash(),
            tool_sequence: entry.tool_sequence(),
        }
    }
}
