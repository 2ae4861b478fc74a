//! `gait kill-switch`.

use std::path::Path;

use gait::WireTime;
use gait::kill_switch::{DEFAULT_STATE, Entry, KillSwitch, State};
use jiff::Timestamp;
use serde_json::json;
use worldcompute_fault::Result;

use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;

const STATE: Flag = Flag::text("state", DEFAULT_STATE);

/// `gait kill-switch add`
pub static ADD: Command = Command {
    words: &["kill-switch", "add"],
    help: "Stop whatever fits the selectors, until the entry is disabled or expires.",
    flags: &[
        STATE,
        Flag::text("entry-id", ""),
        Flag::text("agent-id", ""),
        Flag::text("identity", ""),
        Flag::text("tool-name", ""),
        Flag::text("target-kind", ""),
        Flag::text("target-value", ""),
        Flag::text("environment", ""),
        Flag::csv("path-prefixes"),
        Flag::csv("workspace-prefixes"),
        Flag::text("reason", ""),
        Flag::text("actor", ""),
        Flag::text("expires-at", ""),
    ],
    positionals: Positionals::None,
    run: add,
};

/// `gait kill-switch list`
pub static LIST: Command = Command {
    words: &["kill-switch", "list"],
    help: "List the entries of the kill switch.",
    flags: &[STATE],
    positionals: Positionals::None,
    run: list,
};

/// `gait kill-switch disable`
pub static DISABLE: Command = Command {
    words: &["kill-switch", "disable"],
    help: "Turn an entry of the kill switch off.",
    flags: &[STATE, Flag::text("entry-id", "")],
    positionals: Positionals::None,
    run: disable,
};

/// `gait kill-switch expire`
pub static EXPIRE: Command = Command {
    words: &["kill-switch", "expire"],
    help: "Let an entry of the kill switch end, now or later.",
    flags: &[
        STATE,
        Flag::text("entry-id", ""),
        Flag::text("expires-at", ""),
    ],
    positionals: Positionals::None,
    run: expire,
};

fn add(context: &Context, args: &Args) -> Result<Outcome> {
    let now = context.clock.now();
    let text = |name: &str| args.text(name).to_owned();
    let entry = Entry {
        entry_id: text("entry-id"),
        enabled: true,
        agent_id: text("agent-id"),
        identity: text("identity"),
        tool_name: text("tool-name"),
        target_kind: text("target-kind"),
        target_value: text("target-value"),
        environment: text("environment"),
        path_prefixes: args.csv("path-prefixes"),
        workspace_prefixes: args.csv("workspace-prefixes"),
        reason: text("reason"),
        actor: text("actor"),
        created_at: WireTime::at(now),
        expires_at: end(args)?.map(WireTime::at).unwrap_or_default(),
    };
    let (entry, state) = switch(args).add(entry, now)?;
    changed("add", &entry, &state)
}

fn list(context: &Context, args: &Args) -> Result<Outcome> {
    let now = context.clock.now();
    let state = switch(args).load()?.unwrap_or_else(|| State::new(now));
    let count = state.entries().len();
    let mut fields = serde_json::Map::from_iter([
        ("action".to_owned(), json!("list")),
        ("state".to_owned(), json!(state)),
    ]);
    if count > 0 {
        fields.insert("entries".to_owned(), json!(state.entries()));
    }
    Outcome::ok(&fields, format!("list: {count} entries"))
}

fn disable(context: &Context, args: &Args) -> Result<Outcome> {
    let (entry, state) = switch(args).disable(entry_id(args)?, context.clock.now())?;
    changed("disable", &entry, &state)
}

fn expire(context: &Context, args: &Args) -> Result<Outcome> {
    let now = context.clock.now();
    let end = end(args)?.unwrap_or(now);
    let (entry, state) = switch(args).expire(entry_id(args)?, end, now)?;
    changed("expire", &entry, &state)
}

fn switch(args: &Args) -> KillSwitch<'_> {
    KillSwitch::at(Path::new(args.text("state").trim()))
}

fn entry_id(args: &Args) -> Result<&str> {
    match args.text("entry-id").trim() {
        "" => Err(invalid("--entry-id is required")),
        id => Ok(id),
    }
}

fn end(args: &Args) -> Result<Option<Timestamp>> {
    let text = args.text("expires-at").trim();
    if text.is_empty() {
        return Ok(None);
    }
    let end = WireTime::parse(text).and_then(WireTime::get);
    let wrong = || invalid(format!("invalid --expires-at: {text:?} is not RFC 3339"));
    end.map(Some).ok_or_else(wrong)
}

fn changed(action: &str, entry: &Entry, state: &State) -> Result<Outcome> {
    Outcome::ok(
        &json!({ "action": action, "entry": entry, "state": state }),
        format!("{action}: {}", entry.entry_id),
    )
}
