//! Whatever an agent, a registry or a user sends: it is read or refused, and nothing else happens.

use gait::hook;
use gait::listen;
use gait::mcp::{Adapter, run_id};
use gait::registry::{Manifest, Pin, Source, SourceRules};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const ADAPTERS: [Adapter; 5] = [
    Adapter::Mcp,
    Adapter::OpenAi,
    Adapter::Anthropic,
    Adapter::LangChain,
    Adapter::ClaudeCode,
];
/// The members that some adapter knows.
const MEMBERS: &str = "name|args|input|tool|tool_name|tool_input|function|arguments|context|targets|script|steps|\
                       server|session_id|hook_event_name|cwd|delegation|created_at|other";

/// Any JSON with the members of calls in it.
fn call() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("PreToolUse")),
        Just(json!("{}")),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((MEMBERS, inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Reads `bytes` as everything that they could be.
fn read(bytes: &[u8]) {
    for adapter in ADAPTERS {
        if let Ok(call) = adapter.decode(bytes) {
            let _ = (call.intent(false), call.intent(true));
        }
    }
    if let Ok(call) = hook::read(bytes) {
        assert!(!call.context.intent.workspace.trim().is_empty());
    }
    let _ = Manifest::parse(bytes);
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        read(&bytes);
    }

    #[test]
    fn no_json_makes_a_reader_panic(call in call()) {
        read(call.to_string().as_bytes());
    }

    #[test]
    fn an_intent_of_a_call_is_the_same_each_time(call in call()) {
        let bytes = call.to_string();
        for adapter in ADAPTERS {
            let digest = || adapter.decode(bytes.as_bytes()).and_then(|call| call.intent(false)).map(|intent| intent.digest());
            prop_assert_eq!(digest(), digest());
        }
    }

    #[test]
    fn only_an_allowlisted_host_is_ever_a_source(host in "[a-z0-9.@:/\\\\\\[\\]%#?-]{0,24}") {
        let rules = SourceRules { allow_hosts: vec!["r.example".to_owned()], allow_insecure_http: true };
        for scheme in ["http", "https", "HTTPS"] {
            if let Ok(Source::Remote(uri)) = Source::parse(&format!("{scheme}://{host}"), &rules) {
                prop_assert_eq!(uri.host(), Some("r.example"));
            }
        }
    }

    #[test]
    fn a_run_id_is_always_safe_in_a_file_name(name in ".{0,40}") {
        let id = run_id(&name);
        prop_assert!(id.is_empty() || id.starts_with("run_"));
        prop_assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }

    #[test]
    fn no_text_makes_a_small_parser_panic(text in ".{0,64}") {
        let _ = (Pin::parse(&text), listen::parse(&text), gait::duration::parse(&text));
    }
}
