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
    let switch = switch(args);
    let (entry, state) = switch.add(entry, now)?;
    changed("add", &switch, &entry, &state)
}

fn list(context: &Context, args: &Args) -> Result<Outcome> {
    let now = context.clock.now();
    let switch = switch(args);
    let state = match args.given("state") {
        true => switch.required()?,
        false => switch.load()?.unwrap_or_else(|| State::new(now)),
    };
    let count = state.entries().len();
    let mut fields = serde_json::Map::from_iter([
        ("action".to_owned(), json!("list")),
        ("state".to_owned(), json!(state)),
    ]);
    if count > 0 {
        fields.insert("entries".to_owned(), json!(state.entries()));
    }
    let mut human = format!("list: {count} entries in {}", switch.path().display());
    for entry in state.entries() {
        human.push_str(&format!("\n  {}", shown(entry, now)));
    }
    Outcome::ok(&fields, human)
}

/// An entry in a line: whether it is on, and what it stops.
fn shown(entry: &Entry, now: Timestamp) -> String {
    let state = match (entry.enabled, entry.is_over(now)) {
        (false, _) => "disabled",
        (true, true) => "expired",
        (true, false) => "on",
    };
    let Ok(serde_json::Value::Object(members)) = serde_json::to_value(entry) else {
        return format!("{} {state}", entry.entry_id);
    };
    let plain = ["entry_id", "enabled", "created_at"];
    let said = members
        .iter()
        .filter(|(name, _)| !plain.contains(&name.as_str()))
        .map(|(name, value)| format!(" {name}={value}"));
    format!("{} {state}{}", entry.entry_id, said.collect::<String>())
}

fn disable(context: &Context, args: &Args) -> Result<Outcome> {
    let switch = switch(args);
    let (entry, state) = switch.disable(entry_id(args)?, context.clock.now())?;
    changed("disable", &switch, &entry, &state)
}

fn expire(context: &Context, args: &Args) -> Result<Outcome> {
    let now = context.clock.now();
    let end = end(args)?.unwrap_or(now);
    let switch = switch(args);
    let (entry, state) = switch.expire(entry_id(args)?, end, now)?;
    changed("expire", &switch, &entry, &state)
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

fn changed(action: &str, switch: &KillSwitch<'_>, entry: &Entry, state: &State) -> Result<Outcome> {
    let obeyed_by = obeyed_by(switch.path());
    Outcome::ok(
        &json!({ "action": action, "entry": entry, "obeyed_by": obeyed_by, "state": state }),
        format!("{action}: {}\nobeyed by {obeyed_by}", entry.entry_id),
    )
}

/// Which gates look at the state.
fn obeyed_by(path: &Path) -> String {
    match path == Path::new(DEFAULT_STATE) {
        true => format!("every gate in this folder that is not told otherwise ({DEFAULT_STATE})"),
        false => format!(
            "gates with --kill-switch-state {0}, or gate.kill_switch_state: {0} in .gait/config.yaml",
            path.display()
        ),
    }
}
