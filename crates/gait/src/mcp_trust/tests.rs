use super::*;
use serde_json::{Value, json};

fn trust(lines: &str) -> McpTrust {
    let yaml = format!("mcp_trust: {{snapshot: s.json, {lines}}}");
    let policy = crate::policy::Policy::parse(yaml.as_bytes()).unwrap();
    policy.mcp_trust().unwrap().clone()
}

fn server(id: &str) -> Server {
    Server {
        server_id: id.to_owned(),
        ..Server::default()
    }
}

fn snapshot(changes: Value) -> Snapshot {
    let mut entry = json!({
        "server_id": "GitHub", "publisher": "Acme", "status": "trusted", "score": 0.9,
        "updated_at": "2026-02-05T00:00:00Z"
    });
    for (name, value) in changes.as_object().unwrap() {
        entry[name] = value.clone();
    }
    Snapshot::parse(json!({ "entries": [entry] }).to_string().as_bytes()).unwrap()
}

fn now() -> Timestamp {
    "2026-02-06T00:00:00Z".parse().unwrap()
}

#[test]
fn each_doubt_about_a_server_has_its_status_and_code() {
    for (clause, change, status, code) in [
        ("min_score: 0.9", json!({}), "trusted", "mcp_trust_verified"),
        (
            "min_score: 0.91",
            json!({}),
            "below_threshold",
            "mcp_trust_below_threshold",
        ),
        (
            "min_score: 0.1",
            json!({"status": "revoked"}),
            "untrusted",
            "mcp_trust_status_untrusted",
        ),
        (
            "publisher_allowlist: [ACME]",
            json!({}),
            "trusted",
            "mcp_trust_verified",
        ),
        (
            "publisher_allowlist: [b]",
            json!({}),
            "untrusted",
            "mcp_trust_publisher_untrusted",
        ),
        (
            "require_registry: true",
            json!({}),
            "invalid",
            "mcp_trust_registry_unverified",
        ),
        (
            "require_registry: true",
            json!({"registry_verification": {"signature_verified": true, "publisher_allowed": true, "pin_present": true}}),
            "invalid",
            "mcp_trust_registry_unverified",
        ),
        (
            "require_registry: true",
            json!({"registry_verification": {"signature_verified": true, "publisher_allowed": true}}),
            "trusted",
            "mcp_trust_verified",
        ),
        ("max_age: 24h", json!({}), "trusted", "mcp_trust_verified"),
        ("max_age: 23h59m59s", json!({}), "stale", "mcp_trust_stale"),
        (
            "max_age: 24h",
            json!({"updated_at": "2036-01-01T00:00:00Z"}),
            "stale",
            "mcp_trust_stale",
        ),
    ] {
        let decision = trust(clause).judge(
            Some(&server(" github ")),
            "HIGH",
            Some(&snapshot(change.clone())),
            now(),
        );
        assert_eq!(decision.status, status, "{clause} {change}");
        assert_eq!(decision.reason_codes, [code]);
        assert_eq!(decision.enforced, status != "trusted");
    }
}

#[test]
fn what_is_dated_in_the_future_is_fresh_only_as_far_as_clocks_differ() {
    for (ahead, status) in [(299, "trusted"), (301, "stale")] {
        let updated = now() + SignedDuration::from_secs(ahead);
        let trust = trust("max_age: 720h");
        let known = snapshot(json!({"updated_at": updated.to_string()}));
        let decision = trust.judge(Some(&server("github")), "high", Some(&known), now());
        assert_eq!(decision.status, status, "{ahead} s");
    }
}

#[test]
fn a_server_that_cannot_be_looked_up_is_not_trusted() {
    let trust = trust("min_score: 0.5");
    let known = snapshot(json!({}));
    for (server, snapshot, code) in [
        (None, Some(&known), "mcp_trust_identifier_missing"),
        (
            Some(server("")),
            Some(&known),
            "mcp_trust_identifier_missing",
        ),
        (
            Some(server("github")),
            None,
            "mcp_trust_snapshot_unavailable",
        ),
        (
            Some(server("gitlab")),
            Some(&known),
            "mcp_trust_server_unknown",
        ),
    ] {
        let decision = trust.judge(server.as_ref(), "critical", snapshot, now());
        assert_eq!(decision.reason_codes, [code]);
        assert!(decision.enforced);
    }
}

#[test]
fn doubts_are_noted_for_every_risk_and_enforced_for_the_required_ones() {
    let trust = trust("action: require_approval");
    let mild = trust.judge(None, "low", None, now());
    assert!(!mild.enforced && !mild.required);
    let mut evaluation = Evaluation::of(Verdict::DryRun);
    trust.apply(&mild, &mut evaluation);
    assert_eq!(evaluation.verdict, Verdict::DryRun);
    trust.apply(&trust.judge(None, "high", None, now()), &mut evaluation);
    assert_eq!(evaluation.verdict, Verdict::RequireApproval);
    assert_eq!(evaluation.violations, ["mcp_trust_policy"]);
    assert_eq!(evaluation.reason_codes, ["mcp_trust_identifier_missing"]);
}

#[test]
fn what_is_no_snapshot_or_contradicts_itself_is_refused() {
    for text in [
        "",
        "[]",
        r#"{"schema_id": "x"}"#,
        r#"{"schema_version": "9"}"#,
        r#"{"entries": [{"publisher": "a"}]}"#,
        r#"{"entries": [{"server_id": "a"}, {"server_name": "A"}]}"#,
        r#"{"entries": [{"server_id": "a", "score": "high"}]}"#,
    ] {
        assert!(Snapshot::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_clause_that_cannot_be_enforced_is_refused() {
    for clause in [
        "enabled: true",
        "snapshot: s, min_score: .nan",
        "snapshot: s, min_score: -.inf",
        "snapshot: s, min_score: 1.01",
        "snapshot: s, min_score: -0.01",
        "snapshot: s, max_age: 0s",
        "snapshot: s, max_age: -1h",
        "snapshot: s, max_age: tomorrow",
        "snapshot: s, action: allow",
        "min_score: 0.5",
    ] {
        let yaml = format!("mcp_trust: {{{clause}}}");
        let fault = crate::policy::Policy::parse(yaml.as_bytes()).unwrap_err();
        assert_eq!(fault.code(), "invalid_input", "{clause}");
    }
}
