//! What the proxy answers in somebody's place (JSON-RPC 2.0).

use serde_json::{Value, json};
use worldcompute_fault::Fault;

use super::message::Id;
use crate::mcp::boundary::Ruling;
use crate::policy::why_not::in_words;

/// JSON-RPC: the message cannot be read.
const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: there is no such method.
const NO_SUCH_METHOD: i32 = -32601;
/// JSON-RPC: the answer cannot be given.
const INTERNAL_ERROR: i32 = -32603;
/// Of those that JSON-RPC leaves to programs: the policy does not allow it.
const NOT_ALLOWED: i32 = -32001;

/// To a tool call that was not allowed: a result of the tool, so that the agent sees why.
pub(super) fn denied_call(id: &Id, ruling: &Ruling) -> Value {
    error_result(id, &why(ruling, "called"), &evidence(ruling))
}

/// To a tool call on which there is no ruling.
pub(super) fn failed_call(id: &Id, fault: &Fault) -> Value {
    let text = format!("gait: the tool was not called: {fault}");
    error_result(id, &text, &failure(fault))
}

/// To anything else that was not allowed.
pub(super) fn denied(id: &Id, ruling: &Ruling) -> Value {
    error(id, NOT_ALLOWED, &why(ruling, "done"), &evidence(ruling))
}

/// To anything else on which there is no ruling.
pub(super) fn failed(id: &Id, fault: &Fault) -> Value {
    let text = format!("gait: nothing was done: {fault}");
    error(id, NOT_ALLOWED, &text, &failure(fault))
}

/// To a method that the protocol does not have.
pub(super) fn unknown(id: &Id, method: &str) -> Value {
    let text = format!("gait: {method:.64} does not pass");
    error(id, NO_SUCH_METHOD, &text, &json!({ "verdict": "block" }))
}

/// To a request for a list of what a server that is not trusted offers.
pub(super) fn untrusted(id: &Id, reason_codes: &[&str]) -> Value {
    let text = format!(
        "gait: the server is not trusted ({})",
        reason_codes.join(", ")
    );
    let gait = json!({ "verdict": "block", "reason_codes": reason_codes });
    error(id, NOT_ALLOWED, &text, &gait)
}

/// An answer with another result than the server gave.
pub(super) fn result(id: &Id, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id.value(), "result": result })
}

/// In place of an answer that does not pass.
pub(super) fn spoiled(id: &Id, why: &str) -> Value {
    let text = format!("gait: the server's answer did not pass: {why}");
    error(id, INTERNAL_ERROR, &text, &json!({ "verdict": "block" }))
}

/// To a message that cannot be read, and so has no id.
pub(super) fn unreadable(why: &str) -> Value {
    let message = format!("gait: the message did not pass: {why}");
    json!({ "jsonrpc": "2.0", "id": null, "error": { "code": PARSE_ERROR, "message": message } })
}

fn why(ruling: &Ruling, done: &str) -> String {
    format!(
        "gait: {} was not {done}: the policy says {} ({}), because {}",
        ruling.intent.tool_name(),
        ruling.decision.verdict(),
        ruling.decision.reason_codes().join(", "),
        in_words(ruling.decision.denied_by())
    )
}

fn evidence(ruling: &Ruling) -> Value {
    let decision = &ruling.decision;
    json!({
        "verdict": decision.verdict(),
        "reason_codes": decision.reason_codes(),
        "denied_by": decision.denied_by(),
        "intent_digest": decision.intent_digest(),
        "policy_digest": decision.policy_digest(),
        "trace_id": decision.trace().trace_id(),
    })
}

fn failure(fault: &Fault) -> Value {
    json!({
        "verdict": "block",
        "error_code": fault.code(),
        "error_category": fault.category(),
        "retryable": fault.retryable(),
    })
}

fn error(id: &Id, code: i32, message: &str, gait: &Value) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": id.value(),
        "error": { "code": code, "message": message, "data": { "gait": gait } },
    })
}

fn error_result(id: &Id, text: &str, gait: &Value) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": id.value(),
        "result": {
            "content": [{ "type": "text", "text": text }],
            "isError": true,
            "_meta": { "gait": gait },
        },
    })
}
