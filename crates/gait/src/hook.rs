//! The hook of a coding agent: it asks before every tool call, and whatever goes wrong denies.

use serde::Deserialize;
use serde_json::{Value, json};
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::parse_json_within;

use crate::limits::{invalid, member_error};
use crate::mcp::{Adapter, MAX_PAYLOAD, Ruling, ToolCall};
use crate::policy::why_not::in_words;
use crate::verdict::Verdict;

/// The only event that is answered: the agent is about to call a tool.
const EVENT: &str = "PreToolUse";

/// What the agent writes; what else it may write is left alone.
#[derive(Deserialize)]
struct Event {
    hook_event_name: String,
    session_id: String,
    cwd: String,
    tool_name: String,
    tool_input: Value,
}

/// The call that the agent is about to make, from where it works.
///
/// `invalid_input` for anything but a whole event of that kind.
pub fn read(payload: &[u8]) -> Result<ToolCall> {
    let value =
        parse_json_within(payload, MAX_PAYLOAD).map_err(|fault| malformed(fault.message()))?;
    let event: Event = serde_path_to_error::deserialize(&value)
        .map_err(|error| malformed(&member_error(&error)))?;
    if event.hook_event_name != EVENT {
        return Err(malformed(&format!("the event is not {EVENT}")));
    }
    if event.session_id.trim().is_empty() || event.cwd.trim().is_empty() {
        return Err(malformed("session_id and cwd must not be empty"));
    }
    if event.tool_name.trim().is_empty() || !event.tool_input.is_object() {
        return Err(malformed("tool_name and tool_input must say which call"));
    }
    let mut call = Adapter::ClaudeCode.read(value)?;
    call.context.intent.workspace = event.cwd;
    Ok(call)
}

/// What the agent is told of a ruling.
pub fn answer(ruling: &Ruling) -> Value {
    let decision = match ruling.decision.verdict() {
        Verdict::Allow => "allow",
        Verdict::RequireApproval => "ask",
        Verdict::Block | Verdict::DryRun => "deny",
    };
    let mut reason = format!(
        "gait: {} {} ({})",
        ruling.intent.tool_name(),
        ruling.decision.verdict(),
        ruling.decision.reason_codes().join(", ")
    );
    if !ruling.is_allowed() {
        reason += &format!("; because {}", in_words(ruling.decision.denied_by()));
    }
    shaped(decision, &reason)
}

/// What the agent is told when there is no ruling.
pub fn denial(fault: &Fault) -> Value {
    shaped("deny", &format!("gait: {fault}; {}", fault.hint_text()))
}

fn shaped(decision: &str, reason: &str) -> Value {
    json!({
        "hookSpecificOutput": {
            "hookEventName": EVENT,
            "permissionDecision": decision,
            "permissionDecisionReason": reason,
        },
    })
}

fn malformed(why: &str) -> Fault {
    invalid(format!("hook input: {why}")).because(
        "hook_input_malformed",
        "let the agent call this hook with its own JSON",
    )
}
