use super::record::Record;
use super::*;
use crate::evidence::Ask;
use crate::intent::Intent;
use crate::policy::Policy;
use serde_json::{Value, json};
use worldcompute_fault::Category;
use worldcompute_proof::{SigningKey, VerifyingKey, canonical_json};

/// A trace written by Gait 1.4.0, and the public key that it was signed for.
const PEER_TRACE: &[u8] = include_bytes!("../../tests/data/gait-1.4.0-trace.json");
const PEER_KEY: &str = include_str!("../../tests/data/gait-1.4.0-public.key");

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn everything() -> Intent {
    let intent = json!({
        "created_at": "2026-02-05T01:02:03.5+01:00",
        "tool_name": "ignored",
        "args": {"z": 1, "a": "\u{1}<é>"},
        "script": {"steps": [
            {"tool_name": "tool.read", "args": {}, "targets": [{"kind": "path", "value": "/x", "operation": "read"}]},
            {"tool_name": "tool.delete", "args": {}, "targets": [{"kind": "path", "value": "/x", "operation": "delete"}]}
        ]},
        "skill_provenance": {
            "skill_name": "s", "skill_version": "1", "source": "git", "publisher": "p",
            "digest": "d".repeat(64), "signature_key_id": "k"
        },
        "delegation": {
            "requester_identity": "c", "scope_class": "write", "token_refs": ["t2", "t1"],
            "chain": [
                {"delegator_identity": "z", "delegate_identity": "b"},
                {"delegator_identity": "b", "delegate_identity": "c"}
            ]
        },
        "context": {
            "identity": "alice\n\"\\", "workspace": "w", "risk_class": "low", "session_id": "s1",
            "agent_id": "agent", "run_id": "run", "workflow_id": "flow", "repo": "repo",
            "environment": "production", "credential_ref": "ref:1", "credential_source": "env",
            "credential_access_type": "jit", "credential_issuer": "i", "credential_subject": "s",
            "credential_owner": "o", "credential_target_binding": "t", "credential_run_binding": "r",
            "credential_job_binding": "j", "credential_ttl_seconds": 60, "approval_ref": "a",
            "wrkr_inventory_ref": "w", "agent_action_bom_ref": "b",
            "agent_identity": {
                "lifecycle_states": ["active"], "owner": "o", "manifest_digest": "e".repeat(64),
                "publisher": "p", "source": "git", "issued_at": "2026-01-01T00:00:00Z", "revoked": true
            },
            "sandbox": {"network_mode": "full", "user_mode": "root", "timeout_seconds": 5}
        }
    });
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn plain() -> Intent {
    let intent = json!({
        "tool_name": "tool.read",
        "context": {"identity": "alice", "workspace": "w", "risk_class": "low"}
    });
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn policy() -> Policy {
    let yaml = "default_verdict: block\nrules:\n- {name: a, effect: allow, violations: [v]}\n- {name: 'b,\"ü', effect: allow}";
    Policy::parse(yaml.as_bytes()).unwrap()
}

/// A policy whose clauses leave their own marks in the trace.
fn clauses() -> Policy {
    let yaml = "rules:\n- {name: a, effect: allow, sandbox: {allowed_user_modes: [root]}, freeze_window: {timezone: UTC, \
        reason: r, windows: [{start: '2026-01-01T00:00:00', end: '2027-01-01T00:00:00'}]}}";
    Policy::parse(yaml.as_bytes()).unwrap()
}

fn observed(nanos: i64) -> Observation<'static> {
    let started_at = time("2026-02-05T00:00:00Z");
    Observation {
        started_at,
        ended_at: started_at + jiff::SignedDuration::from_nanos(nanos),
        correlation_id: "c0ffee",
    }
}

fn signed(intent: &Intent) -> SignedTrace {
    let policy = policy();
    let evaluation = policy.ask(intent);
    issue(
        &policy,
        intent,
        &evaluation,
        &observed(186_341),
        &Circumstances::default(),
        &key(),
    )
    .unwrap()
}

fn refusal(bytes: &[u8], key: &VerifyingKey) -> String {
    let fault = verify(bytes, key).unwrap_err();
    format!("{} {}", fault.code(), fault.message())
}

#[test]
fn what_is_signed_is_the_canonical_form() {
    let credential = Credential {
        issued_by: "vault".to_owned(),
        source: "vault_dynamic".to_owned(),
        access_type: "jit".to_owned(),
        credential_ref: "ref".to_owned(),
        target_binding: "t".to_owned(),
        run_binding: "r".to_owned(),
        job_binding: "j".to_owned(),
        request_digest: Some(Sha256::of(b"request")),
        ..Credential::default()
    };
    let switch = crate::kill_switch::Decision::unavailable("x", time("2026-02-05T00:00:00Z"));
    let circumstances = Circumstances {
        approval_token_ref: "a,b".to_owned(),
        delegation_token_ref: "c".to_owned(),
        delegation_codes: vec!["delegation_granted"],
        kill_switch: Some(&switch),
        approved_script: Some("pattern"),
        registry_reason: "approved_script_match",
        credential: Some(&credential),
        link: Some(Link {
            sequence: 7,
            previous: Some(Sha256::of(b"previous")),
        }),
        simulated: Some(Verdict::Block),
    };
    for (policy, intent) in [
        (policy(), everything()),
        (policy(), plain()),
        (clauses(), everything()),
    ] {
        let evaluation = policy.ask(&intent);
        for nanos in [
            -5,
            0,
            1,
            9,
            10,
            99,
            999,
            186_341,
            1_000_000,
            1_500_000,
            61_000_000_000,
        ] {
            let record = Record::new(
                &policy,
                &intent,
                &evaluation,
                &observed(nanos),
                &circumstances,
            )
            .unwrap();
            let signable = record.signable().unwrap();
            let canonical =
                canonical_json(&serde_json::from_slice::<Value>(&signable).unwrap()).unwrap();
            assert_eq!(
                String::from_utf8(signable),
                String::from_utf8(canonical),
                "{nanos} ns"
            );
        }
    }
}

#[test]
fn a_signed_trace_verifies_and_tells_the_same() {
    for intent in [everything(), plain()] {
        let signed = signed(&intent);
        let verified = verify(signed.bytes(), &key().verifying_key()).unwrap();
        assert_eq!(verified.trace_id(), signed.trace_id());
        assert_eq!(verified.verdict(), signed.verdict());
        assert_eq!(verified.tool_name(), intent.tool_name());
        assert_eq!(verified.intent_digest(), intent.digest());
        assert_eq!(verified.policy_digest(), policy().digest());
        assert_eq!(verified.key_id(), key().verifying_key().key_id());
        assert_eq!(verified.bytes(), signed.bytes());
    }
}

#[test]
fn the_trace_of_a_plain_intent_reads_as_in_the_format() {
    let signed = signed(&plain());
    let mut trace: Value = serde_json::from_slice(signed.bytes()).unwrap();
    trace.as_object_mut().unwrap().remove("signature");
    let policy = policy().digest().to_string();
    let event_id = short_id(&format!(
        "{}:2026-02-05T00:00:00.000186341Z",
        signed.trace_id()
    ));
    let expected = json!({
        "schema_id": "gait.gate.trace",
        "schema_version": "1.0.0",
        "created_at": "1980-01-01T00:00:00Z",
        "observed_at": "2026-02-05T00:00:00.000186341Z",
        "producer_version": crate::VERSION,
        "trace_id": signed.trace_id(),
        "event_id": event_id,
        "correlation_id": "c0ffee",
        "tool_name": "tool.read",
        "args_digest": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "intent_digest": plain().digest(),
        "policy_digest": policy,
        "policy_id": "gait.gate.policy",
        "policy_version": "1.0.0",
        "matched_rule_ids": ["a", "b,\"ü"],
        "verdict": "allow",
        "violations": ["v"],
        "latency_ms": 0.186_341,
        "relationship": {
            "entity_refs": [
                {"kind": "agent", "id": "alice"},
                {"kind": "policy", "id": policy},
                {"kind": "tool", "id": "tool.read"},
                {"kind": "trace", "id": signed.trace_id()}
            ],
            "policy_ref": {
                "policy_id": "gait.gate.policy",
                "policy_version": "1.0.0",
                "policy_digest": policy,
                "matched_rule_ids": ["a", "b,\"ü"]
            },
            "agent_chain": [{"identity": "alice", "role": "requester"}],
            "edges": [
                {"kind": "calls", "from": {"kind": "agent", "id": "alice"}, "to": {"kind": "tool", "id": "tool.read"}},
                {"kind": "governed_by", "from": {"kind": "tool", "id": "tool.read"}, "to": {"kind": "policy", "id": policy}}
            ],
            "related_entity_ids": trace["relationship"]["related_entity_ids"]
        }
    });
    assert_eq!(trace, expected);
}

#[test]
fn a_trace_shows_digests_and_never_arguments() {
    let intent = json!({
        "tool_name": "tool.read",
        "args": {"note": "the-launch-code-is-0000"},
        "context": {"identity": "a", "workspace": "w", "risk_class": "low", "auth_context": {"x": "inner-secret"}}
    });
    let signed = signed(&Intent::parse(intent.to_string().as_bytes()).unwrap());
    let text = String::from_utf8(signed.bytes().to_vec()).unwrap();
    assert!(!text.contains("launch-code") && !text.contains("inner-secret"));
}

#[test]
fn a_trace_of_gait_1_4_verifies_and_a_changed_one_does_not() {
    let key = VerifyingKey::from_base64(PEER_KEY.trim()).unwrap();
    let verified = verify(PEER_TRACE, &key).unwrap();
    assert_eq!(verified.verdict(), Verdict::RequireApproval);
    assert_eq!(verified.trace_id(), "d8de949f40aad2a537b117f9");
    let mut extended: Value = serde_json::from_slice(PEER_TRACE).unwrap();
    extended["unknown_extra"] = json!(1);
    let extended = serde_json::to_vec(&extended).unwrap();
    assert_eq!(
        refusal(&extended, &key),
        "verification_failed signed_digest mismatch"
    );
}

#[test]
fn no_single_bit_of_a_trace_can_change() {
    let signed = signed(&everything());
    let key = key().verifying_key();
    for index in 0..signed.bytes().len() {
        let mut bytes = signed.bytes().to_vec();
        bytes[index] ^= 1 << (index % 8);
        assert!(verify(&bytes, &key).is_err(), "byte {index}");
    }
}

/// `bytes` are refused as unverified, for a reason that says `why`.
fn is_unverified(bytes: &[u8], key: &VerifyingKey, why: &str) {
    let fault = verify(bytes, key).unwrap_err();
    assert_eq!(
        (fault.category(), fault.code()),
        (Category::VerificationFailed, "verification_failed"),
        "{why}: {fault}"
    );
    assert!(fault.message().contains(why), "{why}: {fault}");
}

#[test]
fn each_defect_of_a_signature_is_refused_as_unverified() {
    let own = key().verifying_key();
    let edit = |change: &dyn Fn(&mut Value)| {
        let mut trace: Value = serde_json::from_slice(signed(&plain()).bytes()).unwrap();
        change(&mut trace);
        serde_json::to_vec(&trace).unwrap()
    };
    let within = |name: &str, value: Value| edit(&|trace| trace["signature"][name] = value.clone());
    let missing = edit(&|trace| drop(trace.as_object_mut().unwrap().remove("signature")));
    let sig = json!(own.to_base64());
    for (bytes, why) in [
        (missing, "trace signature missing"),
        (
            edit(&|trace| trace["signature"] = Value::Null),
            "trace signature missing",
        ),
        (
            edit(&|trace| trace["signature"] = json!("x")),
            "malformed trace signature",
        ),
        (within("extra", json!(1)), "malformed trace signature"),
        (within("alg", json!("none")), "unsupported signature alg"),
        (within("sig", json!("AAAA")), "malformed trace signature"),
        (within("sig", sig), "malformed trace signature"),
        (
            edit(&|trace| trace["verdict"] = json!("block")),
            "signed_digest mismatch",
        ),
        (
            edit(&|trace| trace["extra"] = json!(1)),
            "signed_digest mismatch",
        ),
    ] {
        is_unverified(&bytes, &own, why);
    }
    let other = SigningKey::from_seed([8; 32]).verifying_key();
    is_unverified(signed(&plain()).bytes(), &other, "key id mismatch");
}

/// Signs any record as if it were a trace.
fn forge(record: &Value) -> Vec<u8> {
    let signature =
        crate::signature::SignatureObject::sign(&canonical_json(record).unwrap(), &key());
    let mut record = record.clone();
    record["signature"] = serde_json::to_value(signature).unwrap();
    serde_json::to_vec(&record).unwrap()
}

#[test]
fn even_the_right_key_cannot_sign_what_is_no_trace() {
    let own = key().verifying_key();
    let mut record: Value = serde_json::from_slice(signed(&plain()).bytes()).unwrap();
    record.as_object_mut().unwrap().remove("signature");
    assert!(verify(&forge(&record), &own).is_ok());
    for (field, value, refused) in [
        (
            "schema_id",
            json!("gait.gate.approval_token"),
            "invalid_input",
        ),
        ("schema_version", json!("2.0.0"), "invalid_input"),
        ("verdict", json!("permit"), "invalid_input"),
        ("intent_digest", json!("x"), "invalid_input"),
        ("tool_name", Value::Null, "invalid_input"),
        ("verdict", json!("require_approval"), "verification_failed"),
        ("trace_id", json!("0".repeat(24)), "verification_failed"),
    ] {
        let mut changed = record.clone();
        changed[field] = value;
        assert_eq!(
            verify(&forge(&changed), &own).unwrap_err().code(),
            refused,
            "{field}"
        );
    }
}

#[test]
fn what_is_no_json_object_is_no_trace() {
    let own = key().verifying_key();
    for (bytes, refused) in [
        (&b"[]"[..], "invalid_input"),
        (b"1", "invalid_input"),
        (b"", "verification_failed"),
        (b"{", "verification_failed"),
        (b"{} x", "verification_failed"),
        (b"\xff", "verification_failed"),
    ] {
        assert_eq!(
            verify(bytes, &own).unwrap_err().code(),
            refused,
            "{bytes:?}"
        );
    }
    assert_eq!(
        verify(b"{}", &own).unwrap_err().code(),
        "verification_failed"
    );
    let big = vec![b' '; crate::limits::MAX_TRACE_BYTES + 1];
    assert_eq!(verify(&big, &own).unwrap_err().code(), "trace_too_large");
}

#[test]
fn a_trace_that_nobody_would_read_is_not_issued() {
    let name = |index: usize| format!("{index:04}{}", "n".repeat(4000));
    let rules: String = (0..200)
        .map(|index| format!("- {{name: {}, effect: allow}}\n", name(index)))
        .collect();
    let policy = Policy::parse(format!("rules:\n{rules}").as_bytes()).unwrap();
    let step = json!({"tool_name": "t", "args": {}});
    let script = json!({
        "script": {"steps": vec![step; 8]},
        "context": {"identity": "a", "workspace": "w", "risk_class": "low"}
    });
    let intent = Intent::parse(script.to_string().as_bytes()).unwrap();
    let evaluation = policy.ask(&intent);
    let fault = issue(
        &policy,
        &intent,
        &evaluation,
        &observed(1),
        &Circumstances::default(),
        &key(),
    )
    .unwrap_err();
    assert_eq!(fault.code(), "trace_too_large");
}
