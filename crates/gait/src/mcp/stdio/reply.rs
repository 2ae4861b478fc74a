//! What the proxy answers in the server's place (JSON-RPC 2.0).

use serde_json::{Value, json};
use worldcompute_fault::Fault;

use crate::mcp::boundary::Ruling;

/// JSON-RPC: the message cannot be read.
const PARSE_ERROR: i32 = -32700;

/// To a call that was not allowed: a result of the tool, so that the agent sees why.
pub(super) fn denied(id: &Value, ruling: &Ruling) -> Value {
    let decision = &ruling.decision;
    let text = format!(
        "gait: {} was not called: the policy says {} ({})",
        ruling.intent.tool_name(),
        decision.verdict(),
        decision.reason_codes().join(", ")
    );
    let gait = json!({
        "verdict": decision.verdict(),
        "reason_codes": decision.reason_codes(),
        "intent_digest": decision.intent_digest(),
        "policy_digest": decision.policy_digest(),
        "trace_id": decision.trace().trace_id(),
    });
    error_result(id, &text, &gait)
}

/// To a call on which there is no ruling.
pub(super) fn failed(id: &Value, fault: &Fault) -> Value {
    let text = format!("gait: the tool was not called: {fault}");
    let gait = json!({
        "verdict": "block",
        "error_code": fault.code(),
        "error_category": fault.category(),
        "retryable": fault.retryable(),
    });
    error_result(id, &text, &gait)
}

/// To a message that cannot be read, and so has no id.
pub(super) fn unreadable(why: &str) -> Value {
    let message = format!("gait: the message did not pass: {why}");
    json!({ "jsonrpc": "2.0", "id": null, "error": { "code": PARSE_ERROR, "message": message } })
}

fn error_result(id: &Value, text: &str, gait: &Value) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": id,
        "result": {
            "content": [{ "type": "text", "text": text }],
            "isError": true,
            "_meta": { "gait": gait },
        },
    })
}
