//! From an intent through the gate to a permit, as the crates above use it.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use gait::gate::Request;
use gait::intent::Intent;
use gait::{Clock, Decision, Gate, Policy, SystemClock, Verdict};
use jiff::Timestamp;
use serde_json::{Value, json};
use worldcompute_fault::Category;
use worldcompute_proof::{Sha256, SigningKey};

struct Frozen;

impl Clock for Frozen {
    fn now(&self) -> Timestamp {
        "2026-02-05T00:00:00Z".parse().unwrap()
    }
}

fn gate(yaml: &str) -> Gate {
    let policy = Policy::parse(yaml.as_bytes()).unwrap();
    Gate::new(policy, SigningKey::from_seed([7; 32]), Arc::new(Frozen))
}

fn intent(changes: Value) -> Intent {
    let mut intent = json!({
        "tool_name": "tool.x",
        "context": {"identity": "alice", "workspace": "w", "risk_class": "low"}
    });
    for (name, value) in changes.as_object().unwrap() {
        intent[name] = value.clone();
    }
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn decide(yaml: &str) -> Decision {
    gate(yaml).decide(&intent(json!({}))).unwrap()
}

#[test]
fn a_clock_that_was_never_set_decides_nothing_whatever_time_is_asked_for() {
    struct Unset;
    impl Clock for Unset {
        fn now(&self) -> Timestamp {
            "1975-01-01T00:00:00Z".parse().unwrap()
        }
    }
    let policy = Policy::parse(b"default_verdict: allow").unwrap();
    let gate = Gate::new(policy, SigningKey::from_seed([7; 32]), Arc::new(Unset));
    let request = Request {
        at: Some(Frozen.now()),
        ..Request::default()
    };
    let refused = gate.decide_on(&intent(json!({})), &request).unwrap_err();
    assert_eq!(refused.code(), "clock_not_set");
}

#[test]
fn an_allowing_decision_gives_its_permit_once() {
    let asked = intent(json!({}));
    let decision = gate("default_verdict: allow").decide(&asked).unwrap();
    let redeemed = decision.permit().unwrap().redeem(&asked.digest()).unwrap();
    assert_eq!(redeemed.trace_id(), decision.trace().trace_id());
    assert_eq!(redeemed.policy_digest(), decision.policy_digest());
    let second = decision.permit().unwrap_err();
    assert_eq!(
        (second.category(), second.code()),
        (Category::PolicyBlocked, "permit_already_taken")
    );
}

#[test]
fn of_many_that_race_for_a_permit_one_gets_it() {
    let decision = decide("default_verdict: allow");
    let won = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| decision.permit().is_ok()))
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .filter(|won| *won)
            .count()
    });
    assert_eq!(won, 1);
}

#[test]
fn a_permit_is_for_the_intent_that_was_decided_and_no_other() {
    let other = intent(json!({"args": {"more": true}}));
    let permit = decide("default_verdict: allow").permit().unwrap();
    assert_eq!(
        permit.redeem(&other.digest()).unwrap_err().code(),
        "permit_mismatch"
    );
}

#[test]
fn no_other_verdict_gives_a_permit() {
    for (verdict, category, code) in [
        ("block", Category::PolicyBlocked, "policy_blocked"),
        ("dry_run", Category::PolicyBlocked, "dry_run_only"),
        (
            "require_approval",
            Category::ApprovalRequired,
            "approval_required",
        ),
    ] {
        let decision = decide(&format!("default_verdict: {verdict}"));
        let fault = decision.permit().unwrap_err();
        assert_eq!((fault.category(), fault.code()), (category, code));
        assert!(
            fault.message().contains(&format!("default_{verdict}")),
            "{fault}"
        );
        assert!(
            fault.message().contains(decision.trace().trace_id()),
            "{fault}"
        );
    }
}

#[test]
fn an_approval_that_is_not_presented_is_named() {
    let decision = decide("default_verdict: require_approval");
    assert_eq!(
        decision.reason_codes(),
        ["approval_token_missing", "default_require_approval"]
    );
    assert_eq!(decision.violations(), ["approval_not_granted"]);
    assert_eq!(decision.evaluation().required_approvals, 1);
}

#[test]
fn a_rule_that_rests_on_delegation_blocks_without_tokens() {
    let delegated = json!({"delegation": {
        "requester_identity": "b",
        "chain": [{"delegator_identity": "a", "delegate_identity": "b"}]
    }});
    let gate = gate(
        "default_verdict: block\nrules: [{name: r, effect: allow, match: {require_delegation: true}}]",
    );
    let decision = gate.decide(&intent(delegated)).unwrap();
    assert_eq!(decision.verdict(), Verdict::Block);
    assert_eq!(
        decision.reason_codes(),
        ["delegation_token_missing", "matched_rule_r"]
    );
    assert!(decision.permit().is_err());
}

#[test]
fn what_nobody_counts_and_nobody_brokers_is_blocked() {
    for (clause, code) in [
        ("rate_limit: {requests: 1}", "rate_limit_state_unavailable"),
        (
            "require_broker_credential: true",
            "broker_credential_required",
        ),
    ] {
        let gate = gate(&format!("rules: [{{name: r, effect: allow, {clause}}}]"));
        let decision = gate.decide(&intent(json!({}))).unwrap();
        assert_eq!(decision.verdict(), Verdict::Block, "{clause}");
        assert_eq!(decision.reason_codes(), {
            let mut codes = [code.to_owned(), "matched_rule_r".to_owned()];
            codes.sort();
            codes
        });
        assert!(decision.permit().is_err());
    }
    let budget = gate("rules: [{name: r, effect: allow, destructive_budget: {requests: 1}}]");
    let harmless = budget.decide(&intent(json!({}))).unwrap();
    assert_eq!(harmless.verdict(), Verdict::Allow);
    let deletes = json!({"targets": [{"kind": "path", "value": "/x", "operation": "delete"}]});
    let destructive = budget.decide(&intent(deletes)).unwrap();
    assert_eq!(destructive.verdict(), Verdict::Block);
}

#[test]
fn claims_about_context_are_not_decided_on_and_not_permitted() {
    let claiming = intent(json!({"context": {
        "identity": "alice",
        "workspace": "w",
        "risk_class": "low",
        "context_set_digest": "d".repeat(64)
    }}));
    let decision = gate("default_verdict: allow").decide(&claiming).unwrap();
    assert_eq!(decision.intent_digest(), intent(json!({})).digest());
    assert!(
        decision
            .permit()
            .unwrap()
            .redeem(&claiming.digest())
            .is_err()
    );
}

#[test]
fn the_same_question_gets_the_same_bytes_under_a_frozen_clock() {
    let gate = gate("default_verdict: allow");
    let asked = intent(json!({}));
    let first = gate.decide_correlated(&asked, "c1").unwrap();
    let second = gate.decide_correlated(&asked, "c1").unwrap();
    assert_eq!(first.trace().bytes(), second.trace().bytes());
    let trace: Value = serde_json::from_slice(first.trace().bytes()).unwrap();
    assert_eq!(trace["correlation_id"], "c1");
    assert_eq!(trace["observed_at"], "2026-02-05T00:00:00Z");
    assert_eq!(trace.get("latency_ms"), None);
    let uncorrelated = gate.decide(&asked).unwrap();
    assert_ne!(uncorrelated.trace().bytes(), first.trace().bytes());
    assert_eq!(uncorrelated.trace().trace_id(), first.trace().trace_id());
}

#[test]
fn the_trace_id_names_policy_intent_and_verdict() {
    let decision = decide("default_verdict: allow");
    let text = format!(
        "{}:{}:allow",
        decision.policy_digest(),
        decision.intent_digest()
    );
    let expected = Sha256::of(text).to_string();
    assert_eq!(decision.trace().trace_id(), &expected[..24]);
}

#[test]
fn the_gate_signs_with_its_own_key() {
    let policy = Policy::parse(b"").unwrap();
    let key = SigningKey::from_seed([9; 32]);
    let gate = Gate::new(policy, key, SystemClock::shared());
    let decision = gate.decide(&intent(json!({}))).unwrap();
    let trace = decision.into_trace();
    assert!(gait::trace::verify(trace.bytes(), &gate.verifying_key()).is_ok());
    assert_eq!(trace.key_id(), gate.verifying_key().key_id());
}

#[test]
fn one_language_rules_on_jobs_tool_calls_and_keys() {
    let gate = gate(
        "default_verdict: block
rules:
  - name: run-rendering
    effect: allow
    match: {tool_name: worldcompute.task.run, target_values: ['class:rendering']}
  - name: read-inside
    effect: allow
    match: {tool_name: fs.read_file, identities: [agent-1]}
    endpoint: {path_allowlist: [/srv/**]}
  - name: release-to-receipts
    effect: require_approval
    match: {tool_name: store.key.release, target_kinds: [table], data_classes: [confidential]}
    min_approvals: 2
",
    );
    let ask = |tool: &str, target: Value| {
        let context = json!({"identity": "agent-1", "workspace": "w", "risk_class": "low"});
        let asked = json!({"tool_name": tool, "targets": [target], "context": context});
        gate.decide(&intent(asked)).unwrap().verdict()
    };
    let class = json!({"kind": "other", "value": "class:rendering", "endpoint_class": "other"});
    assert_eq!(ask("worldcompute.task.run", class), Verdict::Allow);
    let file = |path: &str| json!({"kind": "path", "value": path, "operation": "read"});
    assert_eq!(ask("fs.read_file", file("/srv/a")), Verdict::Allow);
    assert_eq!(
        ask("fs.read_file", file("/srv/../etc/shadow")),
        Verdict::Block
    );
    let key = |class: &str| json!({"kind": "table", "value": "jobs", "sensitivity": class});
    assert_eq!(
        ask("store.key.release", key("confidential")),
        Verdict::RequireApproval
    );
    assert_eq!(ask("store.key.release", key("secret")), Verdict::Block);
}
