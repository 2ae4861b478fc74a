//! The shapes in which agents write their calls.

use serde_json::{Map, Value};
use worldcompute_fault::Result;
use worldcompute_proof::parse_json_within;

use super::MAX_PAYLOAD;
use super::call::ToolCall;
use crate::intent::Target;
use crate::limits::{invalid, member_error};

/// A shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// This program's own: `{name, args, targets, context, ..}`.
    Mcp,
    /// `{type: "function", function: {name, arguments}}`.
    OpenAi,
    /// `{type: "tool_use", name, input}`.
    Anthropic,
    /// `{tool, tool_input}`.
    LangChain,
    /// `{hook_event_name, session_id, tool_name, tool_input}`.
    ClaudeCode,
}

impl Adapter {
    /// The adapter of that name.
    pub fn parse(name: &str) -> Result<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "mcp" => Ok(Self::Mcp),
            "openai" => Ok(Self::OpenAi),
            "anthropic" => Ok(Self::Anthropic),
            "langchain" => Ok(Self::LangChain),
            "claude_code" | "claude-code" | "claudecode" => Ok(Self::ClaudeCode),
            _ => Err(invalid(format!("unsupported adapter: {name}"))),
        }
    }

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::LangChain => "langchain",
            Self::ClaudeCode => "claude_code",
        }
    }

    /// The call in `payload`, of at most [`MAX_PAYLOAD`] bytes of strict JSON.
    pub fn decode(self, payload: &[u8]) -> Result<ToolCall> {
        let value = parse_json_within(payload, MAX_PAYLOAD)
            .map_err(|fault| self.malformed(fault.message()))?;
        self.read(value)
    }

    /// The call in a value that was read already.
    pub fn read(self, value: Value) -> Result<ToolCall> {
        let Value::Object(mut members) = value else {
            return Err(self.malformed("not an object"));
        };
        match self {
            Self::Mcp => {
                let value = without_nulls(Value::Object(members));
                let call = serde_path_to_error::deserialize(value);
                call.map_err(|error| self.malformed(&member_error(&error)))
            }
            Self::OpenAi => match members.remove("function") {
                Some(Value::Object(mut function)) => self.plain(&mut function, "name", "arguments"),
                _ => Err(self.malformed("function is missing")),
            },
            Self::Anthropic => self.plain(&mut members, "name", "input"),
            Self::LangChain => self.plain(&mut members, "tool", "tool_input"),
            Self::ClaudeCode => self.hook(&mut members),
        }
    }

    fn plain(self, members: &mut Map<String, Value>, name: &str, args: &str) -> Result<ToolCall> {
        let args = self.arguments(members.remove(args))?;
        Ok(ToolCall::new(self.text(members, name)?, args))
    }

    fn hook(self, members: &mut Map<String, Value>) -> Result<ToolCall> {
        let mut raw = self.text(members, "tool_name")?;
        if raw.is_empty() {
            raw = self.text(members, "name")?;
        }
        let name =
            tool_name(&raw).ok_or_else(|| invalid("claude code tool call name is required"))?;
        let input = members
            .remove("tool_input")
            .filter(|input| !input.is_null());
        let args = self.arguments(input.or_else(|| members.remove("input")))?;
        let cwd = self.text(members, "cwd")?;
        let mut targets = targets(&name, &args);
        for target in targets.iter_mut().filter(|target| target.kind == "path") {
            target.value = absolute(&cwd, &target.value);
        }
        targets.extend(searched(&raw, &args, &cwd));
        let mut call = ToolCall::new(name, args);
        call.targets = targets;
        call.is_spelt_out = true;
        call.context.intent.session_id = self.text(members, "session_id")?;
        let event = self.text(members, "hook_event_name")?;
        if !event.is_empty() {
            let told = [
                ("hook_event_name", event),
                ("adapter", self.as_str().to_owned()),
            ];
            call.context.intent.auth_context = told
                .map(|(key, value)| (key.to_owned(), value.into()))
                .into_iter()
                .collect();
        }
        Ok(call)
    }

    /// The arguments: an object, or text that is the JSON of one.
    fn arguments(self, value: Option<Value>) -> Result<Map<String, Value>> {
        match value {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(args)) => Ok(args),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(Map::new()),
            Some(Value::String(text)) => match parse_json_within(text.as_bytes(), MAX_PAYLOAD) {
                Ok(Value::Object(args)) => Ok(args),
                Ok(_) => Err(self.malformed("arguments are not an object")),
                Err(fault) => Err(self.malformed(fault.message())),
            },
            Some(_) => Err(self.malformed("arguments are not an object")),
        }
    }

    fn text(self, members: &Map<String, Value>, key: &str) -> Result<String> {
        match members.get(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.trim().to_owned()),
            Some(_) => Err(self.malformed(&format!("{key} is not text"))),
        }
    }

    fn malformed(self, why: &str) -> worldcompute_fault::Fault {
        invalid(format!("parse {} tool call: {why}", self.as_str())).because(
            "tool_call_malformed",
            "check the payload against its adapter",
        )
    }
}

/// In this program's own shape `null` means "left out", but in what the tool gets it is a value.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| match key.as_str() {
                "args" | "auth_context" => (key, value),
                _ => (key, without_nulls(value)),
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// A tool's name without what agents write in different ways.
fn bare(raw: &str) -> String {
    let lower = raw.trim().to_lowercase();
    lower.chars().filter(|c| !" _-".contains(*c)).collect()
}

/// The name by which policies know a tool of the agent.
fn tool_name(raw: &str) -> Option<String> {
    let lower = raw.trim().to_lowercase();
    let known = match bare(raw).as_str() {
        "" => return None,
        "read" | "grep" | "glob" | "ls" | "notebookread" | "webfetch" | "websearch" => "tool.read",
        "write" | "edit" | "multiedit" | "notebookedit" => "tool.write",
        "bash" => "tool.exec",
        "task" => "tool.delegate",
        _ if lower.contains('.') => return Some(lower),
        _ => return Some(format!("tool.{}", lower.replace([' ', '-'], "_"))),
    };
    Some(known.to_owned())
}

/// Arguments that name files.
const PATHS: [&str; 9] = [
    "path",
    "file_path",
    "filepath",
    "file",
    "notebook_path",
    "paths",
    "files",
    "source",
    "destination",
];
/// Arguments that name places on the network.
const URLS: [&str; 2] = ["url", "uri"];

/// What arguments of the usual names touch, whatever the tool does with it.
pub(super) fn named_targets(args: &Map<String, Value>) -> Vec<Target> {
    [
        targets_of(args, &PATHS, "path", ""),
        targets_of(args, &URLS, "url", ""),
    ]
    .concat()
}

/// What a call of the agent's own tools touches: every argument that names something counts, because the tool may go by
/// any of them.
fn targets(tool: &str, args: &Map<String, Value>) -> Vec<Target> {
    match tool {
        "tool.read" => [
            targets_of(args, &PATHS, "path", "read"),
            targets_of(args, &URLS, "url", "read"),
        ]
        .concat(),
        "tool.write" => targets_of(args, &PATHS, "path", "write"),
        "tool.exec" => targets_of(args, &["command", "cmd", "script"], "other", "execute"),
        "tool.delegate" => {
            let asked = targets_of(
                args,
                &["task", "prompt", "description"],
                "other",
                "delegate",
            );
            asked.into_iter().take(1).collect()
        }
        _ => named_targets(args),
    }
}

fn targets_of(
    args: &Map<String, Value>,
    keys: &[&str],
    kind: &str,
    operation: &str,
) -> Vec<Target> {
    let values = keys.iter().filter_map(|key| args.get(*key));
    let texts = values.flat_map(|value| match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().into_iter().collect::<Vec<_>>(),
    });
    let named = texts.map(str::trim).filter(|value| !value.is_empty());
    named.map(|value| target(kind, value, operation)).collect()
}

/// Where an agent's search looks: in `cwd` unless it says where else.
fn searched(raw: &str, args: &Map<String, Value>, cwd: &str) -> Option<Target> {
    let text = |key: &str| args.get(key).and_then(Value::as_str).map(str::trim);
    let base = text("path").filter(|path| !path.is_empty()).unwrap_or(cwd);
    let place = match (bare(raw).as_str(), text("pattern")) {
        ("glob", Some(pattern)) => absolute(base, pattern),
        ("glob" | "grep" | "ls", _) => base.to_owned(),
        _ => return None,
    };
    (!place.is_empty()).then(|| target("path", &place, "read"))
}

/// `path` as seen from `base`; one that may be an address (`file:..`) stays as it is.
fn absolute(base: &str, path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    match base.is_empty() || path.starts_with(['/', '~']) || first.contains(':') {
        true => path.to_owned(),
        false => format!("{base}/{path}"),
    }
}

fn target(kind: &str, value: &str, operation: &str) -> Target {
    Target {
        kind: kind.to_owned(),
        value: value.to_owned(),
        operation: operation.to_owned(),
        ..Target::default()
    }
}
