//! `gait run session`.

use std::path::{Path, PathBuf};

use gait::VERSION;
use gait::run_session::{self, Chain, LockSettings, NewEvent, Session, Status};
use gait::runpack::Stamp;
use serde::Serialize;
use serde_json::json;
use worldcompute_fault::Result;

use super::super::verify::shown;
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;
use crate::cli::keys;

/// `gait run session append`
pub static APPEND: Command = Command {
    words: &["run", "session", "append"],
    help: "Add one decision to a session journal, under the next number.",
    flags: &[
        Flag::text("journal", ""),
        Flag::text("tool", ""),
        Flag::text("verdict", ""),
        Flag::text("intent-id", ""),
        Flag::text("trace-id", ""),
        Flag::text("trace-path", ""),
        Flag::text("intent-digest", ""),
        Flag::text("policy-digest", ""),
        Flag::csv("reason-codes"),
        Flag::csv("violations"),
    ],
    positionals: Positionals::None,
    run: append,
};

/// `gait run session checkpoint`
pub static CHECKPOINT: Command = Command {
    words: &["run", "session", "checkpoint"],
    help: "Emit a verifiable runpack of the decisions since the last checkpoint, chained to it.",
    flags: &[
        Flag::text("journal", ""),
        Flag::text("out", ""),
        Flag::text("chain-out", ""),
        Flag::text("key-mode", ""),
        Flag::text("private-key", ""),
        Flag::text("private-key-env", ""),
    ],
    positionals: Positionals::None,
    run: checkpoint,
};

/// `gait run session compact`
pub static COMPACT: Command = Command {
    words: &["run", "session", "compact"],
    help: "Drop the decisions that checkpoints keep from a session journal.",
    flags: &[
        Flag::text("journal", ""),
        Flag::text("out", ""),
        Flag::switch("dry-run"),
    ],
    positionals: Positionals::None,
    run: compact,
};

/// `gait run session start`
pub static START: Command = Command {
    words: &["run", "session", "start"],
    help: "Begin an append-only session journal.",
    flags: &[
        Flag::text("journal", ""),
        Flag::text("session-id", ""),
        Flag::text("run-id", ""),
    ],
    positionals: Positionals::None,
    run: start,
};

/// `gait run session status`
pub static STATUS: Command = Command {
    words: &["run", "session", "status"],
    help: "Show how far a session is.",
    flags: &[Flag::text("journal", "")],
    positionals: Positionals::None,
    run: status,
};

fn start(context: &Context, args: &Args) -> Result<Outcome> {
    let [journal, session_id, run_id] = required(
        args,
        ["journal", "session-id", "run-id"],
        "--journal, --session-id, and --run-id are required",
    )?;
    let status = session(context, journal)?.start(session_id, run_id)?;
    shown_status("start", journal, &status)
}

fn append(context: &Context, args: &Args) -> Result<Outcome> {
    let [journal, tool_name, verdict] = required(
        args,
        ["journal", "tool", "verdict"],
        "--journal, --tool, and --verdict are required",
    )?;
    let verdict = verdict.to_ascii_lowercase();
    let (reason_codes, violations) = (args.csv("reason-codes"), args.csv("violations"));
    let event = session(context, journal)?.record(&NewEvent {
        intent_id: args.text("intent-id"),
        tool_name,
        intent_digest: args.text("intent-digest"),
        policy_digest: args.text("policy-digest"),
        trace_id: args.text("trace-id"),
        trace_path: args.text("trace-path"),
        verdict: &verdict,
        reason_codes: &reason_codes,
        violations: &violations,
    })?;
    let human = format!(
        "session append: sequence={} tool={} verdict={}",
        event.sequence, event.tool_name, event.verdict
    );
    let fields = json!({"operation": "append", "journal": journal, "event": event});
    Outcome::ok(&fields, human)
}

fn status(context: &Context, args: &Args) -> Result<Outcome> {
    let [journal] = required(args, ["journal"], "--journal is required")?;
    let status = session(context, journal)?.status()?;
    shown_status("status", journal, &status)
}

fn checkpoint(context: &Context, args: &Args) -> Result<Outcome> {
    let [journal, out] = required(args, ["journal", "out"], "--journal and --out are required")?;
    let signer = keys::signing_if_asked(context, args)?;
    let key = signer.as_ref().map(|signer| &signer.key);
    let session = session(context, journal)?;
    let chain_path = match args.text("chain-out").trim() {
        "" => Chain::beside(Path::new(journal)),
        given => PathBuf::from(given),
    };
    let checkpoint = run_session::checkpoint(&session, Path::new(out), &chain_path, key)?;
    let human = format!(
        "session checkpoint: index={} runpack={} range={}..{}\nsession chain: {}",
        checkpoint.checkpoint_index,
        checkpoint.runpack_path,
        checkpoint.sequence_start,
        checkpoint.sequence_end,
        shown(&chain_path)
    );
    let fields = json!({
        "operation": "checkpoint",
        "journal": journal,
        "chain_path": chain_path,
        "checkpoint": checkpoint,
    });
    Outcome::ok(&fields, human)
}

fn compact(context: &Context, args: &Args) -> Result<Outcome> {
    let [journal] = required(args, ["journal"], "--journal is required")?;
    let out = Some(args.text("out").trim()).filter(|out| !out.is_empty());
    let session = session(context, journal)?;
    let compaction = run_session::compact(&session, out.map(Path::new), args.switch("dry-run"))?;
    let human = format!(
        "session compact: compacted={} dry_run={} events={}->{} checkpoints={} bytes={}->{}",
        compaction.compacted,
        compaction.dry_run,
        compaction.events_before,
        compaction.events_after,
        compaction.checkpoints,
        compaction.bytes_before,
        compaction.bytes_after
    );
    let fields = json!({"operation": "compact", "journal": journal, "compaction": compaction});
    Outcome::ok(&fields, human)
}

/// The values of these flags, trimmed; none may be empty.
fn required<'a, const N: usize>(
    args: &'a Args,
    names: [&str; N],
    missing: &str,
) -> Result<[&'a str; N]> {
    let values = names.map(|name| args.text(name).trim());
    match values.iter().any(|value| value.is_empty()) {
        true => Err(invalid(missing)),
        false => Ok(values),
    }
}

fn session<'a>(context: &Context, journal: &'a str) -> Result<Session<'a>> {
    Ok(Session {
        journal: Path::new(journal),
        lock: LockSettings::from_environment(&*context.environment)?,
        producer_version: VERSION,
        now: Stamp::at(context.clock.now()),
    })
}

fn shown_status(operation: &str, journal: &str, status: &Status) -> Result<Outcome> {
    #[derive(Serialize)]
    struct Fields<'a> {
        operation: &'a str,
        journal: &'a str,
        status: &'a Status,
    }
    let human = format!(
        "session {operation}: session_id={} run_id={} events={} checkpoints={} last_sequence={}\njournal: {journal}",
        status.session_id,
        status.run_id,
        status.event_count,
        status.checkpoint_count,
        status.last_sequence
    );
    Outcome::ok(
        &Fields {
            operation,
            journal,
            status,
        },
        human,
    )
}
