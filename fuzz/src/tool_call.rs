//! Tool calls in every shape that agents write them, the hook's own included: what is read becomes an intent or is
//! refused, and the intent's normal form is the same intent.

use gait::mcp::{Adapter, ToolCall};
use gait::{Intent, hook};

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    for adapter in [
        Adapter::Mcp,
        Adapter::OpenAi,
        Adapter::Anthropic,
        Adapter::LangChain,
        Adapter::ClaudeCode,
    ] {
        if let Ok(call) = adapter.decode(bytes) {
            judged(&call);
        }
    }
    match hook::read(bytes) {
        Ok(call) => judged(&call),
        Err(fault) => drop(hook::denial(&fault)),
    }
}

fn judged(call: &ToolCall) {
    for strict in [false, true] {
        let Ok(intent) = call.intent(strict) else {
            continue;
        };
        let Ok(canonical) = intent.canonical_bytes() else {
            continue;
        };
        let again = Intent::parse(&canonical).expect("the normal form is read");
        assert_eq!(again.digest(), intent.digest());
    }
}
