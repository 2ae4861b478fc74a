use super::*;
use crate::limits::{
    MAX_ARGS_DEPTH, MAX_ARGS_STRING, MAX_DELEGATION_CHAIN, MAX_FIELD, MAX_INTENT_LIST,
    MAX_PROVENANCE, MAX_SCRIPT_STEPS, MAX_TARGETS,
};
use serde_json::json;

/// A small valid intent with `changes` over it, member by member.
fn with(changes: Value) -> Value {
    let mut intent = json!({
        "schema_id": SCHEMA_ID,
        "schema_version": SCHEMA_VERSION,
        "created_at": "2026-02-05T00:00:00Z",
        "tool_name": "tool.write",
        "args": {"path": "/tmp/x.txt", "n": 1.5, "u": "é "},
        "targets": [{"kind": "path", "value": "/tmp/x.txt", "operation": "write"}],
        "context": {"identity": "alice", "workspace": "/repo/gait", "risk_class": "high"}
    });
    for (name, value) in changes.as_object().unwrap() {
        intent[name] = value.clone();
    }
    intent
}

fn parse(intent: &Value) -> Result<Intent> {
    Intent::parse(&serde_json::to_vec(intent).unwrap())
}

fn digest(changes: Value) -> Sha256 {
    parse(&with(changes)).unwrap().digest()
}

fn code(changes: Value) -> String {
    parse(&with(changes)).unwrap_err().code().to_owned()
}

fn target(changes: Value) -> Target {
    parse(&with(changes)).unwrap().targets()[0].clone()
}

fn context(changes: Value) -> Value {
    let mut context = with(json!({}))["context"].clone();
    for (name, value) in changes.as_object().unwrap() {
        context[name] = value.clone();
    }
    json!({ "context": context })
}

#[test]
fn digests_are_those_of_gait_1_4() {
    let digest = |changes| digest(changes).to_string();
    let plain = "95883574685f3b98f07ae3216706f4e9cd6b87ed888393429ce7497b7a5d05f4";
    assert_eq!(digest(json!({})), plain);
    let chain = json!({"delegation": {
        "requester_identity": "a2",
        "scope_class": "write",
        "chain": [
            {"delegator_identity": "a0", "delegate_identity": "a1", "scope_class": "write"},
            {"delegator_identity": "a1", "delegate_identity": "a2", "scope_class": "write"}
        ]
    }});
    let delegated = "b06a7086931b519a46794459df8818a34f077b1d36ed80ebe0c0959e8a8f3ea7";
    assert_eq!(digest(chain), delegated);
    let numbers = json!({"args": {
        "a": 1e21, "b": 0.1, "c": -0.0, "d": 123_456_789_012_345_680_f64, "e": 1e-07, "f": 100, "g": 1.0
    }});
    let numbered = "36d53a4aa5896b91e58900bb5740cb70de1ba2bc585f0d4c94bc2fbd9cf899a4";
    assert_eq!(digest(numbers), numbered);
}

#[test]
fn spellings_that_mean_the_same_have_the_same_digest() {
    let plain = digest(json!({}));
    for same in [
        json!({"tool_name": "  TOOL.Write\n"}),
        json!({"args": {" path ": " /tmp/x.txt", "n": 1.50, "u": "é"}}),
        json!({"targets": [
            {"kind": " PATH ", "value": " /tmp/x.txt ", "operation": "Write"},
            {"kind": "path", "value": "/tmp/x.txt", "operation": "write", "endpoint_class": "fs.write"}
        ]}),
        json!({"arg_provenance": [], "delegation": null, "created_at": null, "producer_version": "x"}),
        context(json!({"phase": "APPLY", "agent_id": " ", "auth_context": {}, "sandbox": {}})),
        json!({"relationship": {"parent_ref": {"kind": "run", "id": "r"}}}),
    ] {
        assert_eq!(digest(same.clone()), plain, "{same}");
    }
}

#[test]
fn every_field_that_policies_see_changes_the_digest() {
    let plain = digest(json!({}));
    for other in [
        json!({"tool_name": "tool.read"}),
        json!({"args": {"path": "/tmp/y.txt", "n": 1.5, "u": "é"}}),
        json!({"targets": []}),
        json!({"arg_provenance": [{"arg_path": "a", "source": "user"}]}),
        json!({"skill_provenance": {"skill_name": "s", "source": "s", "publisher": "p"}}),
        json!({"delegation": {"requester_identity": "a"}}),
        json!({"script": {"steps": [{"tool_name": "a", "args": {}}]}}),
        context(json!({"phase": "plan"})),
        context(json!({"environment": "production"})),
        context(json!({"agent_identity": {}})),
        context(json!({"credential_ttl_seconds": 1})),
        context(json!({"auth_context": {"a": "b"}})),
        context(json!({"sandbox": {"network_mode": "disabled"}})),
    ] {
        assert_ne!(digest(other.clone()), plain, "{other}");
    }
}

#[test]
fn names_that_a_lenient_reader_could_take_for_known_ones_are_refused() {
    for odd in [
        json!({"Delegation": {"requester_identity": "a"}}),
        json!({"ſcript": {"steps": []}}),
        json!({"targets": [{"kind": "path", "value": "/x", "operation": "read", "Destructive": true}]}),
        context(json!({"PHASE": "plan"})),
    ] {
        assert_eq!(code(odd.clone()), "invalid_input", "{odd}");
    }
    assert_eq!(digest(json!({"zzz": 1})), digest(json!({})));
    assert_ne!(
        digest(json!({"args": {"Path": 1}})),
        digest(json!({"args": {"path": 1}}))
    );
}

#[test]
fn malformed_json_is_refused() {
    for bytes in [
        &b""[..],
        b"[]",
        b"null",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b"{\"tool_name\":\"a\",\"tool_name\":\"b\"}",
        b"{\"tool_name\":\"\xff\"}",
        br#"{"tool_name":"\ud800"}"#,
        br#"{"tool_name":1}"#,
        br#"{"args":[]}"#,
        br#"{"created_at":"yesterday"}"#,
    ] {
        assert_eq!(
            Intent::parse(bytes).unwrap_err().code(),
            "invalid_input",
            "{bytes:?}"
        );
    }
}

#[test]
fn missing_and_unsupported_values_are_refused() {
    for wrong in [
        json!({"schema_id": "x"}),
        json!({"schema_version": "2.0.0"}),
        json!({"tool_name": " "}),
        json!({"targets": [{"kind": "nope", "value": "x"}]}),
        json!({"targets": [{"kind": "path", "value": " "}]}),
        json!({"targets": [{"kind": "path", "value": "x", "endpoint_class": "fs.x"}]}),
        json!({"targets": [{"kind": "path", "value": "x", "discovery_method": "x"}]}),
        json!({"arg_provenance": [{"arg_path": "a", "source": "x"}]}),
        json!({"arg_provenance": [{"arg_path": "a", "source": "user", "integrity_digest": "z"}]}),
        json!({"skill_provenance": {"skill_name": "x"}}),
        json!({"script": {"steps": []}}),
        json!({"script": {"steps": [{"tool_name": " ", "args": {}}]}}),
        json!({"args": {"a": 1, " a": 2}}),
        json!({"args": {" ": 1}}),
        context(json!({"identity": ""})),
        context(json!({"workspace": " "})),
        context(json!({"risk_class": null})),
        context(json!({"phase": "x"})),
        context(json!({"context_set_digest": "zz"})),
        context(json!({"context_evidence_mode": "x"})),
        context(json!({"credential_source": "x"})),
        context(json!({"credential_access_type": "x"})),
        context(json!({"credential_ttl_seconds": -1})),
        context(json!({"sandbox": {"network_mode": "x"}})),
        context(json!({"sandbox": {"timeout_seconds": -1}})),
        context(json!({"sandbox": {"writable_paths": ["TOKEN=abc"]}})),
        context(json!({"sandbox": {"evidence_ref": "abcdefghijkl12345"}})),
        context(json!({"agent_identity": {"manifest_digest": "z"}})),
    ] {
        assert_eq!(code(wrong.clone()), "invalid_input", "{wrong}");
    }
}

#[test]
fn broken_and_backdated_delegations_are_refused() {
    let delegation = |delegation: Value| json!({ "delegation": delegation });
    let link = |from: &str, to: &str| json!({"delegator_identity": from, "delegate_identity": to});
    for wrong in [
        delegation(json!({"requester_identity": ""})),
        delegation(json!({"requester_identity": "z", "chain": [link("a", "b")]})),
        delegation(json!({"requester_identity": "c", "chain": [link("a", "b"), link("x", "c")]})),
        delegation(json!({"requester_identity": "b", "chain": [link("", "b")]})),
        delegation(json!({
            "requester_identity": "b",
            "issued_at": "2026-01-02T00:00:00Z",
            "expires_at": "2026-01-02T00:00:00Z"
        })),
        context(json!({"agent_identity": {
            "issued_at": "2026-01-02T00:00:00Z",
            "approved_at": "2026-01-01T00:00:00Z"
        }})),
    ] {
        assert_eq!(code(wrong.clone()), "invalid_input", "{wrong}");
    }
    let whole = delegation(json!({
        "requester_identity": "c",
        "chain": [link("a", "b"), link("b", "c")]
    }));
    assert!(parse(&with(whole)).is_ok());
}

#[test]
fn credentials_are_refused_in_arguments_steps_and_authentication() {
    let secret = json!({"api_key": "sk-abcdefghijklmnop1234"});
    for leak in [
        json!({ "args": secret }),
        json!({"script": {"steps": [{"tool_name": "a", "args": secret}]}}),
        context(json!({ "auth_context": secret })),
    ] {
        assert_eq!(code(leak.clone()), "invalid_input", "{leak}");
    }
}

#[test]
fn endpoint_classes_follow_from_kind_operation_and_tool() {
    for (kind, operation, tool, class) in [
        ("path", "read", "x", "fs.read"),
        ("path", "rename", "x", "fs.write"),
        ("path", "truncate", "x", "fs.delete"),
        ("path", "", "a/b/deleter", "fs.delete"),
        ("path", "", "read/x", "other"),
        ("path", "", "x", "other"),
        ("url", "post", "x", "net.http"),
        ("host", "resolve", "x", "net.dns"),
        ("other", "spawn", "x", "proc.exec"),
        ("other", "", "worldcompute.task.run", "proc.exec"),
        ("other", "", "x", "other"),
        ("bucket", "exec", "shell", "other"),
    ] {
        let changes = json!({
            "tool_name": tool,
            "targets": [{"kind": kind, "value": "v", "operation": operation}]
        });
        assert_eq!(
            target(changes).endpoint_class,
            class,
            "{kind} {operation} {tool}"
        );
    }
}

#[test]
fn destruction_follows_from_flag_hint_class_and_operation() {
    let destructive = |target_: Value| target(json!({ "targets": [target_] })).destructive;
    assert!(destructive(
        json!({"kind": "table", "value": "t", "destructive": true})
    ));
    assert!(destructive(
        json!({"kind": "table", "value": "t", "destructive_hint": true})
    ));
    assert!(destructive(
        json!({"kind": "table", "value": "t", "operation": "drop"})
    ));
    assert!(destructive(
        json!({"kind": "other", "value": "t", "endpoint_class": "proc.exec"})
    ));
    assert!(!destructive(
        json!({"kind": "table", "value": "t", "operation": "read"})
    ));
    assert!(!destructive(
        json!({"kind": "other", "value": "t", "endpoint_class": "other"})
    ));
}

#[test]
fn a_label_executes_nothing_whatever_the_tool_is_called() {
    let draft = IntentDraft {
        tool_name: "worldcompute.task.run".to_owned(),
        targets: vec![Target::label("class:general", "public")],
        context: Context {
            identity: "a".to_owned(),
            workspace: "w".to_owned(),
            risk_class: "low".to_owned(),
            ..Context::default()
        },
        ..IntentDraft::default()
    };
    let intent = draft.normalise().unwrap();
    let label = &intent.targets()[0];
    assert_eq!(
        (label.endpoint_class.as_str(), label.destructive),
        ("other", false)
    );
    assert_eq!(label.endpoint_domain, "public.class:general");
}

#[test]
fn context_claims_are_told_apart_and_stripped() {
    let plain = parse(&with(json!({}))).unwrap();
    assert!(!plain.has_context_claims());
    let digest = "d".repeat(64);
    for claim in [
        context(json!({"context_set_digest": digest})),
        context(json!({"context_evidence_mode": "required"})),
        context(json!({"context_refs": ["r"]})),
        context(json!({"auth_context": {"context_age_seconds": 1}})),
    ] {
        let claiming = parse(&with(claim.clone())).unwrap();
        assert!(claiming.has_context_claims(), "{claim}");
        assert_eq!(claiming.reclaimed(|_| {}).unwrap().digest(), plain.digest());
    }
}

#[test]
fn an_integer_that_would_be_rounded_is_refused_in_a_draft() {
    let draft = |number: Value| IntentDraft {
        tool_name: "t".to_owned(),
        args: json!({ "n": number }).as_object().unwrap().clone(),
        context: Context {
            identity: "a".to_owned(),
            workspace: "w".to_owned(),
            risk_class: "low".to_owned(),
            ..Context::default()
        },
        ..IntentDraft::default()
    };
    let last = (1_u64 << 53) - 1;
    assert!(draft(json!(last)).normalise().is_ok());
    assert!(draft(json!(-(last as i64))).normalise().is_ok());
    for inexact in [json!(last + 1), json!(u64::MAX), json!(i64::MIN)] {
        assert_eq!(
            draft(inexact).normalise().unwrap_err().code(),
            "invalid_input"
        );
    }
}

fn nested(levels: usize) -> Value {
    (1..levels).fold(json!({"x": 1}), |inner, _| json!({ "x": inner }))
}

fn targets(count: usize) -> Value {
    let target = |index| json!({"kind": "path", "value": format!("/{index}"), "operation": "read"});
    (0..count).map(target).collect()
}

fn chain(links: usize) -> Value {
    let link = |i: usize| json!({"delegator_identity": format!("{i}"), "delegate_identity": format!("{}", i + 1)});
    json!({"requester_identity": format!("{links}"), "chain": (0..links).map(link).collect::<Vec<_>>()})
}

#[test]
fn every_limit_holds_at_the_limit_and_not_past_it() {
    let provenance = |count: usize| -> Value {
        (0..count)
            .map(|i| json!({"arg_path": format!("{i}"), "source": "user"}))
            .collect()
    };
    let steps = |count: usize| json!({"steps": vec![json!({"tool_name": "a", "args": {}}); count]});
    let refs = |count: usize| context(json!({"context_refs": vec!["r"; count]}));
    let field = |length: usize| context(json!({"repo": "r".repeat(length)}));
    let text = |length: usize| json!({"args": {"a": "x".repeat(length)}});
    type Shape<'a> = (&'a str, usize, &'a dyn Fn(usize) -> Value, &'a str);
    let shapes: [Shape<'_>; 8] = [
        (
            "targets",
            MAX_TARGETS,
            &|n| json!({ "targets": targets(n) }),
            "intent_too_large",
        ),
        (
            "provenance",
            MAX_PROVENANCE,
            &|n| json!({ "arg_provenance": provenance(n) }),
            "intent_too_large",
        ),
        ("list", MAX_INTENT_LIST, &refs, "intent_too_large"),
        ("field", MAX_FIELD, &field, "intent_too_large"),
        ("argument", MAX_ARGS_STRING, &text, "intent_too_large"),
        (
            "depth",
            MAX_ARGS_DEPTH,
            &|n| json!({ "args": nested(n) }),
            "intent_too_deep",
        ),
        (
            "steps",
            MAX_SCRIPT_STEPS,
            &|n| json!({ "script": steps(n) }),
            "invalid_input",
        ),
        (
            "chain",
            MAX_DELEGATION_CHAIN,
            &|n| json!({ "delegation": chain(n) }),
            "intent_too_large",
        ),
    ];
    for (what, limit, shape, refusal) in shapes {
        assert!(parse(&with(shape(limit))).is_ok(), "{what} at its limit");
        assert_eq!(code(shape(limit + 1)), refusal, "{what} past its limit");
    }
}

#[test]
fn an_intent_past_its_size_is_refused_before_it_is_read() {
    let padding = MAX_INTENT_BYTES - with(json!({})).to_string().len();
    let mut bytes = with(json!({})).to_string().into_bytes();
    bytes.extend(vec![b' '; padding]);
    assert!(Intent::parse(&bytes).is_ok());
    bytes.push(b' ');
    assert_eq!(
        Intent::parse(&bytes).unwrap_err().code(),
        "intent_too_large"
    );
}

#[test]
fn a_list_never_passes_for_an_object_without_names() {
    let sound = json!({
        "tool_name": "t",
        "targets": [{"kind": "path", "value": "/x"}],
        "context": {"identity": "a", "workspace": "w", "risk_class": "low"}
    });
    for (name, value) in [
        ("context", json!(["a", "w", "low"])),
        ("targets", json!([["path", "/x"]])),
        ("arg_provenance", json!([["a", "user"]])),
        ("script", json!([[{"tool_name": "t"}]])),
        ("skill_provenance", json!(["", "p", "", "s", "", "git"])),
        ("delegation", json!(["a", "", [], []])),
        (
            "delegation",
            json!({"requester_identity": "b", "chain": [["a", "b"]]}),
        ),
        (
            "context",
            json!({"identity": "a", "workspace": "w", "risk_class": "low", "sandbox": ["full"]}),
        ),
    ] {
        let mut changed = sound.clone();
        changed[name] = value.clone();
        let fault = Intent::parse(changed.to_string().as_bytes()).unwrap_err();
        assert_eq!(fault.code(), "invalid_input", "{name} {value}");
    }
    assert!(Intent::parse(br#"["", "", "", "t"]"#).is_err());
    let mut args = sound.clone();
    args["args"] = json!({"matrix": [[1, 2], [3, 4]], "context": [1]});
    assert!(Intent::parse(args.to_string().as_bytes()).is_ok());
}
