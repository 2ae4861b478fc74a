//! What the two sides of an MCP session write: a line that begins with `<` is the server's, any other the client's.
//! Whatever passes is one message of a known method, and no reading of it calls what the policy denies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::files::{Then, path};
use gait::gate::Profile;
use gait::mcp::stdio::{Proxy, State, Step};
use gait::mcp::{Boundary, Exports};
use gait::{Gate, Policy};
use serde_json::{Map, Value};
use worldcompute_proof::SigningKey;

/// Allows everything but the tool `wipe` and the prompt of that name.
pub(crate) const POLICY: &str = "default_verdict: allow\nrules:\n  - name: no-wipe\n    priority: 1\n    effect: block\n    match: {tool_names: [wipe, mcp.prompts.get]}\n";

thread_local! {
    static PROXY: Proxy = Proxy {
        boundary: boundary(),
        server: None,
        trace_dir: path("traces"),
        exports: Exports::default(),
        job_id: String::new(),
        session_id: String::new(),
        correlation_id: "fuzz".to_owned(),
        sequence: AtomicU64::new(0),
    };
}

pub(crate) fn boundary() -> Boundary {
    let policy = Policy::parse(POLICY.as_bytes()).expect("a policy");
    let clock = Arc::new(Then);
    let gate = Gate::new(policy, SigningKey::from_seed([7; 32]), clock.clone());
    Boundary::new(gate, clock, Profile::Standard)
}

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    PROXY.with(|proxy| {
        proxy.sequence.store(0, Ordering::Relaxed);
        let mut state = State::default();
        let mut lines = 0;
        for line in bytes.split(|byte| *byte == b'\n') {
            lines += 1;
            let (step, line) = match line.strip_prefix(b"<") {
                Some(line) => (state.of_server(proxy, line), line),
                None => (state.of_client(proxy, line), line),
            };
            judged(&step, line);
        }
        let tally = state.tally();
        assert!(tally.allowed + tally.denied + tally.refused + tally.dropped <= lines);
    });
}

fn judged(step: &Step, line: &[u8]) {
    match step {
        Step::Pass => passed(line),
        Step::Instead(other) | Step::Answer(other) => {
            assert_eq!(other["jsonrpc"], "2.0");
            assert!(other.get("id").is_some() && !other.to_string().contains('\n'));
        }
        Step::Drop => {}
    }
}

/// What a reader makes of the line who takes any spelling of a member for the member.
fn passed(line: &[u8]) {
    let message: Map<String, Value> =
        serde_json::from_slice(line).expect("what passes is a message");
    assert_eq!(message["jsonrpc"], "2.0");
    let says = |members: &Map<String, Value>, name: &str, value: &str| {
        let mut named = members.iter().filter(|(key, _)| is_named(key, name));
        named.any(|(_, found)| found == value)
    };
    let params = message.iter().filter(|(key, _)| is_named(key, "params"));
    let wipes = params
        .filter_map(|(_, params)| params.as_object())
        .any(|params| says(params, "name", "wipe"));
    for denied in ["tools/call", "prompts/get"] {
        assert!(!wipes || !says(&message, "method", denied));
    }
}

fn is_named(key: &str, name: &str) -> bool {
    key.trim().to_uppercase().to_lowercase() == name
}
