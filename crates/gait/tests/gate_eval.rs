//! `gait gate eval`, as a caller sees it: what it answers, what it writes, and what it uses up.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use support::Gait;
use worldcompute_proof::SigningKey;

const LIMITED: &str = "default_verdict: block
rules:
  - {name: w, effect: allow, match: {tool_names: [tool.write]}, rate_limit: {requests: 2, window: hour, scope: tool}}
";
const APPROVED: &str = "default_verdict: require_approval";

/// A directory with a policy, an intent and a key that signs and approves.
fn place(policy: &str) -> Gait {
    let key = SigningKey::from_seed([7; 32]);
    let gait = Gait::new().env("GK", &key.file_text());
    gait.file("policy.yaml", policy);
    intent(&gait, json!({}));
    gait
}

fn intent(gait: &Gait, changes: Value) {
    let mut intent = json!({
        "created_at": "2026-02-05T00:00:00Z",
        "tool_name": "tool.write",
        "targets": [{"kind": "path", "value": "/tmp/x", "operation": "write"}],
        "context": {"identity": "alice", "workspace": "/w", "risk_class": "low"}
    });
    for (name, value) in changes.as_object().unwrap() {
        intent[name] = value.clone();
    }
    gait.file("intent.json", intent.to_string());
}

fn eval(gait: &Gait, more: &str) -> (i32, Value) {
    let words = format!(
        "gate eval --policy policy.yaml --intent intent.json --key-mode prod --private-key-env GK {more}"
    );
    gait.json(&words.split_whitespace().collect::<Vec<_>>())
}

fn approve(gait: &Gait, answer: &Value, approver: &str, more: &str) -> String {
    let words = format!(
        "approve --intent-digest {} --policy-digest {} --ttl 1h --scope tool:tool.write \
         --approver {approver} --reason-code T --key-mode prod --private-key-env GK {more}",
        answer["intent_digest"].as_str().unwrap(),
        answer["policy_digest"].as_str().unwrap(),
    );
    let (code, json) = gait.json(&words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(code, 0, "{json}");
    json["token_path"].as_str().unwrap().to_owned()
}

fn file(gait: &Gait, path: &Value) -> Value {
    let bytes = std::fs::read(gait.path().join(path.as_str().unwrap())).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn names(gait: &Gait) -> Vec<String> {
    let entries = std::fs::read_dir(gait.path()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_first_run_in_an_empty_directory_counts_and_traces() {
    let gait = place(LIMITED);
    let (code, answer) = eval(&gait, "");
    assert_eq!((code, &answer["verdict"]), (0, &json!("allow")), "{answer}");
    assert_eq!(
        (&answer["rate_limit_used"], &answer["rate_limit_remaining"]),
        (&json!(1), &json!(1))
    );
    let trace = file(&gait, &answer["trace_path"]);
    assert_eq!(trace["trace_id"], answer["trace_id"]);
    assert_eq!(trace["correlation_id"], answer["correlation_id"]);
    let mode = |path: &str| {
        gait.path()
            .join(path)
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode(answer["trace_path"].as_str().unwrap()), 0o600);
    assert_eq!(mode(".gait-out/gate_rate_limits.json"), 0o600);
    assert_eq!(mode(".gait-out"), 0o750);
}

#[test]
fn neither_a_simulation_nor_a_wrong_key_nor_an_unwritable_trace_costs_a_request() {
    let gait = place(LIMITED);
    gait.file("afile", "x");
    for more in [
        "--simulate",
        "--private-key x",
        "--trace-out afile/t.json",
        "--approval-token none.json",
    ] {
        let (_, answer) = eval(&gait, more);
        assert_ne!(answer["rate_limit_used"], json!(1), "{more}: {answer}");
    }
    assert!(!gait.path().join(".gait-out/gate_rate_limits.json").exists());
    assert_eq!(eval(&gait, "").1["rate_limit_used"], 1);
}

#[test]
fn a_script_uses_up_the_limit_of_each_of_its_steps() {
    let gait = place(LIMITED);
    let step = json!({"tool_name": "tool.write", "args": {}});
    intent(&gait, json!({"script": {"steps": [step, step, step]}}));
    let (code, answer) = eval(&gait, "");
    assert_eq!((code, &answer["verdict"]), (3, &json!("block")), "{answer}");
    assert_eq!(answer["rate_limit_used"], Value::Null);
    intent(&gait, json!({"script": {"steps": [step]}}));
    let (_, answer) = eval(&gait, "");
    assert_eq!(
        (&answer["rate_limit_key"], &answer["rate_limit_used"]),
        (&json!("tool.write"), &json!(1)),
        "{answer}"
    );
    intent(&gait, json!({}));
    assert_eq!(eval(&gait, "").1["rate_limit_used"], 2);
    assert_eq!(eval(&gait, "").0, 3);
}

#[test]
fn the_trace_of_a_simulation_says_so_and_has_no_number() {
    let gait = place("default_verdict: block");
    let public = SigningKey::from_seed([7; 32]).verifying_key().to_string();
    let public = gait.file("public.key", format!("{public}\n"));
    let (code, answer) = eval(&gait, "--simulate --session s/log --trace-out t.json");
    assert_eq!((code, &answer["verdict"]), (0, &json!("allow")));
    assert_eq!(answer.get("session_sequence"), None);
    assert!(!gait.path().join("s/log").exists());
    let trace = file(&gait, &json!("t.json"));
    assert_eq!(
        trace["relationship"]["related_record_ids"],
        json!(["simulated:block"])
    );
    for verify in [&["trace", "verify", "t.json"][..], &["verify", "./t.json"]] {
        let (code, shown) = gait.json(&[verify, &["--public-key", &public]].concat());
        assert_eq!(
            (code, &shown["simulated_verdict"]),
            (0, &json!("block")),
            "{shown}"
        );
    }
    let shown = gait.run(&["trace", "verify", "t.json", "--public-key", &public]);
    assert!(shown.stdout.contains("simulation: would have been block"));
    let (code, shown) =
        gait.json_before(&["enforce"], &["/bin/sh", "-c", "echo trace_path=t.json"]);
    assert_eq!(
        (code, &shown["failure_reason"]),
        (3, &json!("invalid_trace_artifact"))
    );
}

#[test]
fn the_credential_of_a_broker_is_held_to_the_rule_and_not_only_the_claim() {
    let policy = "rules: [{name: r, effect: allow, require_broker_credential: true, require_jit_credential: true, max_credential_ttl_seconds: 900}]";
    let gait = place(policy);
    intent(
        &gait,
        json!({"context": {
            "identity": "alice", "workspace": "/w", "risk_class": "low", "credential_ref": "ref:1",
            "credential_source": "vault_dynamic", "credential_access_type": "jit", "credential_ttl_seconds": 60
        }}),
    );
    let broker = gait.path().join("broker.sh").display().to_string();
    let gait = gait
        .env("GAIT_CREDENTIAL_COMMAND_ALLOWLIST", &broker)
        .env("PATH", "/usr/bin:/bin")
        .env("GAIT_BROKER_TOKEN_TOOL_WRITE", "a-secret-that-stays");
    let command = format!("--credential-broker command --credential-command {broker}");
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(10);
    let late = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(10);
    for (stated, fault) in [
        (json!({"access_type": "jit", "ttl_seconds": 900}), None),
        (json!({"access_type": "jit", "expires_at": soon}), None),
        (
            json!({"access_type": "standing", "ttl_seconds": 900}),
            Some("credential_not_jit"),
        ),
        (
            json!({"access_type": "jit", "ttl_seconds": 901}),
            Some("credential_ttl_exceeded"),
        ),
        (
            json!({"access_type": "jit", "ttl_seconds": 9, "expires_at": late}),
            Some("credential_ttl_exceeded"),
        ),
        (
            json!({"access_type": "jit"}),
            Some("credential_evidence_missing"),
        ),
        (
            json!({"ttl_seconds": 900}),
            Some("credential_access_type_unknown"),
        ),
        (
            json!({"access_type": "jit", "ttl_seconds": 9, "expires_at": "2026-01-01T00:00:00Z"}),
            Some("broker_credential_expired"),
        ),
    ] {
        let mut credential = stated;
        credential["credential_ref"] = json!("ref:2");
        gait.file(
            "broker.sh",
            format!("#!/bin/sh\ncat >&2\necho '{credential}'\n"),
        );
        std::fs::set_permissions(&broker, std::fs::Permissions::from_mode(0o700)).unwrap();
        let (code, answer) = eval(&gait, &command);
        let codes = answer["reason_codes"].as_array().unwrap();
        match fault {
            None => assert_eq!(code, 0, "{answer}"),
            Some(fault) => {
                assert_eq!(code, 3, "{answer}");
                assert!(codes.contains(&json!(fault)), "{answer}");
            }
        }
    }
    let (code, answer) = eval(&gait, "--credential-broker env");
    assert_eq!(code, 3, "a variable says nothing of its life: {answer}");
}

#[test]
fn a_person_is_told_of_degraded_operation_too() {
    let gait = place("default_verdict: allow");
    let human = gait.run(&[
        "gate",
        "eval",
        "--policy",
        "policy.yaml",
        "--intent",
        "intent.json",
    ]);
    let (_, answer) = gait.json(&[
        "gate",
        "eval",
        "--policy",
        "policy.yaml",
        "--intent",
        "intent.json",
    ]);
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(human.stdout.contains(warning), "{}", human.stdout);
}

#[test]
fn a_reference_that_no_trace_has_room_for_costs_nothing() {
    let gait = place(LIMITED);
    let reference = |length| format!("--approval-token-ref {}", "r".repeat(length));
    assert_eq!(eval(&gait, &reference(4096)).1["rate_limit_used"], 1);
    let (code, answer) = eval(&gait, &reference(4097));
    assert_eq!(
        (code, &answer["error_code"]),
        (6, &json!("request_too_large"))
    );
    assert_eq!(eval(&gait, "").1["rate_limit_used"], 2);
}

#[test]
fn a_limit_that_is_used_up_blocks_and_says_so() {
    let gait = place(LIMITED);
    eval(&gait, "");
    eval(&gait, "");
    let (code, answer) = eval(&gait, "");
    assert_eq!((code, &answer["verdict"]), (3, &json!("block")));
    assert_eq!(
        answer["reason_codes"],
        json!(["matched_rule_w", "rate_limit_exceeded"])
    );
    assert_eq!(
        (
            &answer["rate_limit_used"],
            answer.get("rate_limit_remaining")
        ),
        (&json!(2), None)
    );
}

#[test]
fn damaged_counters_are_an_io_failure_that_names_the_file_and_the_repair() {
    let gait = place(LIMITED);
    gait.file(".gait-out/gate_rate_limits.json", "{\"counters\":[");
    let (code, answer) = eval(&gait, "");
    assert_eq!(code, 1);
    assert_eq!(answer["error_code"], "rate_limit_state_corrupt");
    assert_eq!(answer["error_category"], "io_failure");
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains(".gait-out/gate_rate_limits.json")
    );
    assert!(
        answer["hint"]
            .as_str()
            .unwrap()
            .contains("mv .gait-out/gate_rate_limits.json")
    );
    assert!(!names(&gait).iter().any(|name| name.starts_with("trace_")));
}

#[test]
fn a_held_lock_is_contention_that_may_be_retried_and_a_stale_one_is_taken_over() {
    let gait = place(LIMITED);
    let now = jiff::Timestamp::now();
    let lock = |at: jiff::Timestamp| {
        let body = json!({"schema_id": "gait.gate.rate_limit_lock", "schema_version": "1.0.0",
                          "pid": 1, "created_at": at.to_string()});
        gait.file(".gait-out/gate_rate_limits.json.lock", body.to_string());
    };
    lock(now);
    let (code, answer) = eval(&gait, "");
    assert_eq!(
        (code, &answer["error_code"]),
        (1, &json!("rate_limit_lock_timeout"))
    );
    assert_eq!(
        (&answer["error_category"], &answer["retryable"]),
        (&json!("state_contention"), &json!(true))
    );
    let told = answer["error"].as_str().unwrap();
    assert!(told.contains("is held by process 1;"), "{told}");
    lock(now - jiff::SignedDuration::from_secs(60));
    assert_eq!(eval(&gait, "").0, 0);
}

#[test]
fn words_in_a_message_do_not_choose_the_category() {
    let gait = place("default_verdict: blocked");
    let (code, answer) = eval(&gait, "--trace-out lock/timeout/t.json");
    assert_eq!(
        (code, &answer["error_category"]),
        (6, &json!("invalid_input"))
    );
}

#[test]
fn two_tokens_of_one_person_wait_and_their_audit_says_so() {
    let gait = place("rules: [{name: r, effect: require_approval, min_approvals: 2}]");
    let (code, answer) = eval(&gait, "");
    assert_eq!(
        (code, &answer["reason_codes"][0]),
        (4, &json!("approval_token_missing"))
    );
    let one = approve(&gait, &answer, "boss", "--out one.json");
    let two = approve(&gait, &answer, "boss", "--out two.json --max-ops 9");
    let (code, answer) = eval(
        &gait,
        &format!("--approval-token {one} --approval-token-chain {two}"),
    );
    assert_eq!(code, 4, "{answer}");
    assert_eq!(answer["valid_approvals"], 2);
    let audit = file(&gait, &answer["approval_audit_path"]);
    assert_eq!(
        (&audit["approved"], &audit["valid_approvals"]),
        (&json!(false), &json!(2))
    );
    let three = approve(&gait, &answer, "chief", "--out three.json");
    let (code, answer) = eval(&gait, &format!("--approval-token-chain {one},{three}"));
    assert_eq!((code, &answer["verdict"]), (0, &json!("allow")), "{answer}");
    assert_eq!(
        file(&gait, &answer["approval_audit_path"])["approved"],
        true
    );
    let trace = file(&gait, &answer["trace_path"]);
    assert_eq!(trace["approval_token_ref"], answer["approval_ref"]);
}

#[test]
fn an_approval_for_one_use_is_used_by_the_decision_that_passes_and_by_no_other() {
    let gait = place(APPROVED);
    let (_, answer) = eval(&gait, "");
    let token = approve(&gait, &answer, "boss", "--single-use");
    let with = format!("--approval-token {token}");
    assert_eq!(
        eval(&gait, &format!("{with} --simulate")).1["simulated_verdict"],
        "allow"
    );
    gait.file("afile", "x");
    assert_eq!(
        eval(&gait, &format!("{with} --trace-out afile/t.json")).0,
        1
    );
    assert_eq!(eval(&gait, &with).0, 0);
    let (code, answer) = eval(&gait, &with);
    assert_eq!(code, 4);
    assert!(
        answer["reason_codes"]
            .to_string()
            .contains("approval_token_already_redeemed")
    );
    let plain = approve(&gait, &answer, "boss", "--out plain.json");
    let forced = format!("--approval-token {plain} --approval-single-use");
    assert_eq!((eval(&gait, &forced).0, eval(&gait, &forced).0), (0, 4));
    assert_eq!(
        eval(&gait, &format!("--approval-token {plain}")).0,
        0,
        "it is the gate that remembers"
    );
}

#[test]
fn a_limit_that_is_used_up_does_not_use_up_the_approval() {
    let gait = place(
        "rules:\n- {name: r, effect: require_approval, rate_limit: {requests: 1, window: hour}}",
    );
    let (_, answer) = eval(&gait, "");
    assert_eq!(
        answer.get("rate_limit_used"),
        None,
        "what waits for approval is not counted"
    );
    let token = approve(&gait, &answer, "boss", "");
    assert_eq!(eval(&gait, &format!("--approval-token {token}")).0, 0);
    let once = approve(&gait, &answer, "boss", "--single-use --out once.json");
    let (code, answer) = eval(&gait, &format!("--approval-token {once}"));
    assert_eq!((code, &answer["verdict"]), (3, &json!("block")), "{answer}");
    assert!(
        !gait
            .path()
            .join(".gait-out/approval_redemptions.json")
            .exists()
    );
}

#[test]
fn a_kill_switch_where_gates_look_for_one_is_obeyed_without_being_named() {
    let gait = place("default_verdict: allow");
    assert_eq!(eval(&gait, "").0, 0);
    let add = ["kill-switch", "add", "--tool-name", "tool.write"];
    let (code, added) = gait.json(&add);
    let told = added["obeyed_by"].as_str().unwrap();
    assert!(
        code == 0 && told.starts_with("every gate in this folder"),
        "{added}"
    );
    let (code, answer) = eval(&gait, "");
    assert_eq!(
        (code, &answer["kill_switch"]["status"]),
        (3, &json!("active")),
        "{answer}"
    );
    // One that is named stands for it.
    gait.file(
        "intent.json",
        std::fs::read(gait.path().join("intent.json")).unwrap(),
    );
    let elsewhere = ["--state", "other.json"];
    let named = [&["kill-switch", "add", "--tool-name", "t"][..], &elsewhere].concat();
    let told = gait.run(&named).stdout;
    assert!(
        told.contains("obeyed by gates with --kill-switch-state other.json"),
        "{told}"
    );
    assert_eq!(eval(&gait, "--kill-switch-state other.json").0, 0);
    gait.file(".gait-out/kill_switch_state.json", "{");
    assert_eq!(eval(&gait, "").0, 3);
    let call = gait.file("call.json", json!({"name": "tool.write"}).to_string());
    let proxied = ["mcp", "proxy", "--policy", "policy.yaml", "--call", &call];
    let (code, answer) = gait.json(&proxied);
    assert_eq!(code, 3, "{answer}");
    assert!(
        answer.to_string().contains("kill_switch_state_unavailable"),
        "{answer}"
    );
}

#[test]
fn an_active_kill_switch_stops_the_call_is_traced_and_journalled() {
    let gait = place("default_verdict: allow");
    gait.json(&[
        "kill-switch",
        "add",
        "--identity",
        "alice",
        "--entry-id",
        "stop",
    ]);
    let switch = "--kill-switch-state .gait-out/kill_switch_state.json";
    let (code, answer) = eval(&gait, switch);
    assert_eq!(
        (code, &answer["kill_switch"]["status"]),
        (3, &json!("active")),
        "{answer}"
    );
    let codes = json!([
        "default_allow",
        "kill_switch_active",
        "kill_switch_identity_active"
    ]);
    assert_eq!(answer["reason_codes"], codes);
    assert_eq!(
        file(&gait, &answer["trace_path"])["kill_switch"]["matched_entry_ids"],
        json!(["stop"])
    );
    eval(&gait, &format!("{switch} --simulate"));
    let journal =
        std::fs::read_to_string(gait.path().join(".gait-out/kill_switch_journal.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 1, "a simulation stops nothing");
    assert!(journal.contains("\"source\":\"gate_eval\""));
}

#[test]
fn a_kill_switch_that_cannot_be_read_stops_every_risk_class() {
    let gait = place("default_verdict: allow");
    gait.file("damaged.json", "{\"entries\":");
    std::os::unix::fs::symlink("damaged.json", gait.path().join("link.json")).unwrap();
    for (state, code) in [
        ("missing.json", "kill_switch_state_unavailable"),
        ("link.json", "kill_switch_state_unavailable"),
        ("damaged.json", "kill_switch_state_corrupt"),
    ] {
        let (exit, answer) = eval(&gait, &format!("--kill-switch-state {state}"));
        assert_eq!(
            (exit, &answer["kill_switch"]["status"]),
            (3, &json!("unavailable")),
            "{state}"
        );
        let codes = answer["reason_codes"].to_string();
        assert!(
            codes.contains(code) && codes.contains("kill_switch_state_unavailable"),
            "{codes}"
        );
        let warnings = answer["warnings"].to_string();
        assert!(warnings.contains(state), "the file is named: {warnings}");
    }
}

fn script(gait: &Gait, risk: &str) {
    intent(
        gait,
        json!({
            "tool_name": "script",
            "script": {"steps": [
                {"tool_name": "tool.write", "args": {}, "targets": [{"kind": "path", "value": "/a", "operation": "write"}]},
                {"tool_name": "tool.read", "args": {}, "targets": [{"kind": "path", "value": "/a", "operation": "read"}]}
            ]},
            "context": {"identity": "alice", "workspace": "/w", "risk_class": risk, "environment": "prod"}
        }),
    );
}

const REGISTRY: &str =
    "--approved-script-registry scripts.json --approved-script-public-key public.key";

fn with_script(policy: &str) -> Gait {
    let gait = place(policy);
    let key = SigningKey::from_seed([7; 32]).verifying_key().to_base64();
    gait.file("public.key", format!("{key}\n"));
    script(&gait, "low");
    let words = "approve-script --policy policy.yaml --intent intent.json --registry scripts.json \
                 --approver secops --key-mode prod --private-key-env GK";
    let (code, json) = gait.json(&words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(code, 0, "{json}");
    gait
}

#[test]
fn an_approved_script_passes_with_its_steps_in_any_order_of_names() {
    let gait = with_script(APPROVED);
    assert_eq!(eval(&gait, "").0, 4);
    let (code, answer) = eval(&gait, REGISTRY);
    assert_eq!(
        (code, &answer["pre_approved"]),
        (0, &json!(true)),
        "{answer}"
    );
    assert_eq!(answer["reason_codes"], json!(["approved_script_match"]));
    let trace = file(&gait, &answer["trace_path"]);
    assert_eq!(
        (&trace["pre_approved"], &trace["pattern_id"]),
        (&json!(true), &answer["pattern_id"])
    );
}

#[test]
fn an_approved_script_is_still_stopped_frozen_limited_and_blocked() {
    let gait = with_script(APPROVED);
    gait.json(&["kill-switch", "add", "--tool-name", "tool.read"]);
    let switched = format!("{REGISTRY} --kill-switch-state .gait-out/kill_switch_state.json");
    assert_eq!(eval(&gait, &switched).0, 3);

    let frozen = "rules:\n- {name: r, effect: allow, freeze_window: {timezone: UTC, effect: block, windows: \
        [{start: '2026-01-01T00:00:00', end: '2027-01-01T00:00:00'}]}}";
    let gait = with_script(frozen);
    let (code, answer) = eval(
        &gait,
        &format!("{REGISTRY} --evaluation-time 2026-06-01T00:00:00Z"),
    );
    assert_eq!(
        (code, &answer["registry_reason"]),
        (3, &json!("approved_script_frozen")),
        "{answer}"
    );

    let limited =
        "rules:\n- {name: r, effect: require_approval, rate_limit: {requests: 1, window: hour}}";
    let gait = with_script(limited);
    assert_eq!((eval(&gait, REGISTRY).0, eval(&gait, REGISTRY).0), (0, 3));

    let gait = with_script("default_verdict: block");
    assert_eq!(eval(&gait, REGISTRY).0, 3);
}

#[test]
fn a_registry_that_cannot_be_trusted_stands_for_nothing_and_blocks_high_risk() {
    let gait = with_script("default_verdict: allow");
    let text = std::fs::read_to_string(gait.path().join("scripts.json")).unwrap();
    gait.file("scripts.json", text.replace("secops", "mallory"));
    let (code, answer) = eval(&gait, REGISTRY);
    assert_eq!((code, answer.get("pre_approved")), (0, None), "{answer}");
    assert!(answer["warnings"].to_string().contains("failed at entry 0"));
    script(&gait, "high");
    let (code, answer) = eval(&gait, REGISTRY);
    assert_eq!(
        (code, &answer["error_code"]),
        (3, &json!("approved_script_registry_unverified"))
    );
    let without_key = "--approved-script-registry scripts.json";
    assert_eq!(
        eval(&gait, without_key).1["error_code"],
        "approved_script_key_required"
    );
}

#[test]
fn a_brokered_credential_is_named_and_its_secret_is_nowhere() {
    const SECRET: &str = "planted-secret-8472";
    let policy = "rules: [{name: r, effect: allow, require_broker_credential: true, broker_reference: egress}]";
    let gait = place(policy).env("GAIT_BROKER_TOKEN_EGRESS", SECRET);
    let (code, answer) = eval(&gait, "");
    assert_eq!(
        (code, &answer["reason_codes"][0]),
        (3, &json!("broker_credential_required"))
    );
    let (code, answer) = eval(&gait, "--credential-broker env");
    assert_eq!(code, 0, "{answer}");
    assert!(
        answer["credential_ref"]
            .as_str()
            .unwrap()
            .starts_with("env:GAIT_BROKER_TOKEN_EGRESS:")
    );
    let evidence = file(&gait, &answer["credential_evidence_path"]);
    assert_eq!(evidence["credential_ref"], answer["credential_ref"]);
    let broker = gait.file(
        "broker.sh",
        format!("#!/bin/sh\necho {SECRET}; echo {SECRET} >&2; exit 3\n"),
    );
    std::fs::set_permissions(&broker, std::fs::Permissions::from_mode(0o700)).unwrap();
    let command = format!("--credential-broker command --credential-command {broker}");
    let (code, answer) = eval(&gait, &command);
    assert_eq!(
        (code, &answer["error_reason"]),
        (6, &json!("credential_command_allowlist_required"))
    );
    let gait = gait
        .env("GAIT_CREDENTIAL_COMMAND_ALLOWLIST", &broker)
        .env("PATH", "/usr/bin:/bin");
    let (code, answer) = eval(&gait, &command);
    assert_eq!(
        (code, &answer["reason_codes"][0]),
        (3, &json!("broker_credential_missing")),
        "{answer}"
    );
    let script = gait.path().join("broker.sh");
    gait.file(
        "broker.sh",
        "#!/bin/sh\necho '{\"credential_ref\": \"r\", \"access_type\": \"jit\"}'\n",
    );
    for (mode, expected) in [(0o700, 0), (0o777, 3), (0o702, 3)] {
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(mode)).unwrap();
        let (code, answer) = eval(&gait, &command);
        assert_eq!(code, expected, "{mode:o}: {answer}");
    }
    let human = gait.run(
        &format!("gate eval --policy policy.yaml --intent intent.json {command}")
            .split_whitespace()
            .collect::<Vec<_>>(),
    );
    assert!(!human.stdout.contains(SECRET) && !human.stderr.contains(SECRET));
    assert!(!answer.to_string().contains(SECRET));
    for name in names(&gait).iter().filter(|name| name.ends_with(".json")) {
        let text = std::fs::read_to_string(gait.path().join(name)).unwrap();
        assert!(!text.contains(SECRET), "{name}");
    }
}

#[test]
fn every_input_is_checked_before_anything_is_written() {
    let gait = place("default_verdict: allow");
    gait.file("bad.json", "{");
    let before = names(&gait);
    for (more, code) in [
        ("--approval-public-key none.key", "not_found"),
        (
            "--approval-public-key a --approval-public-key-env B",
            "invalid_input",
        ),
        ("--delegation-private-key-env UNSET", "invalid_input"),
        (
            "--approved-script-registry s.json --approved-script-public-key none.key",
            "not_found",
        ),
        ("--evaluation-time yesterday", "invalid_input"),
        ("--context-envelope bad.json", "invalid_input"),
        ("--approval-token bad.json", "invalid_input"),
        ("--delegation-token bad.json", "invalid_input"),
        ("--profile other", "invalid_input"),
        ("--credential-broker other", "invalid_input"),
        ("--config none.yaml", "not_found"),
        ("--trace-out ../trace.json", "invalid_input"),
        ("extra", "invalid_input"),
    ] {
        let (exit, answer) = eval(&gait, more);
        assert_ne!(exit, 0, "{more}");
        assert_eq!(answer["error_code"], code, "{more}: {answer}");
        assert_eq!(names(&gait), before, "{more}");
    }
}

#[test]
fn production_asks_for_real_keys_and_takes_no_default_allow() {
    let gait = place("default_verdict: allow");
    let reason = |more: &str| {
        eval(&gait, more).1["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert!(reason("--profile oss-prod").contains("rejects policy default_verdict=allow"));
    assert!(reason("--profile oss-prod --simulate").contains("does not allow --simulate"));
    gait.file("policy.yaml", APPROVED);
    assert!(reason("--profile oss-prod").contains("explicit approval verify key"));
    gait.file(
        "policy.yaml",
        "rules: [{name: r, effect: allow, match: {risk_classes: [high]}}]\ndefault_verdict: block",
    );
    assert!(reason("--profile oss-prod").contains("require_broker_credential"));
}

#[test]
fn the_projects_settings_stand_behind_the_flags() {
    let gait = place("default_verdict: allow");
    gait.file(
        ".gait/config.yaml",
        "gate: {policy: policy.yaml, trace_path: out/t.json}\n",
    );
    let (code, answer) = gait.json(&["gate", "eval", "--intent", "intent.json"]);
    assert_eq!(
        (code, &answer["trace_path"]),
        (0, &json!("out/t.json")),
        "{answer}"
    );
    let flag = [
        "gate",
        "eval",
        "--intent",
        "intent.json",
        "--trace-out",
        "mine.json",
    ];
    assert_eq!(gait.json(&flag).1["trace_path"], "mine.json");
    let without = ["gate", "eval", "--intent", "intent.json", "--no-config"];
    assert_eq!(gait.json(&without).0, 6);
    gait.file(".gait/config.yaml", "gate: {kill_switch_stat: x}\n");
    assert_eq!(
        gait.json(&["gate", "eval", "--intent", "intent.json"]).0,
        6,
        "a misspelt switch is no switch"
    );
}

#[test]
fn an_explanation_names_rules_and_what_is_missing() {
    let gait = place(
        "fail_closed: {enabled: true, risk_classes: [low], required_fields: [arg_provenance]}",
    );
    let (code, answer) = eval(&gait, "--explain");
    assert_eq!(
        (code, &answer["schema_id"]),
        (3, &json!("gait.gate.policy_explain"))
    );
    assert_eq!(answer["missing_fields"], json!(["arg_provenance"]));
    gait.file(
        "policy.yaml",
        "rules: [{name: r, priority: 3, effect: allow}]",
    );
    let (code, answer) = eval(&gait, "--explain");
    let rules = json!([{"name": "r", "priority": 3, "effect": "allow"}]);
    assert_eq!((code, &answer["matched_rules"]), (0, &rules), "{answer}");
    let text = gait.run(&["gate", "eval", "--explain"]);
    assert_eq!((text.code, text.stdout.lines().count()), (0, 1));
}

#[test]
fn a_session_is_numbered_closed_and_verified_offline() {
    let gait = place("default_verdict: allow");
    let key = SigningKey::from_seed([7; 32]).verifying_key().to_base64();
    gait.file("public.key", format!("{key}\n"));
    for number in 1..=3 {
        assert_eq!(
            eval(&gait, "--session s.jsonl").1["session_sequence"],
            number
        );
    }
    let verify = |more: &[&str]| {
        gait.json(
            &[
                &[
                    "session",
                    "verify",
                    "--session",
                    "s.jsonl",
                    "--public-key",
                    "public.key",
                ],
                more,
            ]
            .concat(),
        )
    };
    assert_eq!(verify(&[]).1["decisions"], 3);
    let (code, answer) = verify(&["--require-closed"]);
    assert_eq!(
        (code, &answer["error_code"]),
        (2, &json!("session_not_closed"))
    );
    let (code, answer) = gait.json(&["session", "close", "--session", "s.jsonl"]);
    assert_eq!(
        (code, &answer["error_code"]),
        (6, &json!("session_key_mismatch")),
        "{answer}"
    );
    assert!(
        answer["hint"].as_str().unwrap().contains("--private-key"),
        "{answer}"
    );
    let close = [
        "session",
        "close",
        "--session",
        "s.jsonl",
        "--key-mode",
        "prod",
        "--private-key-env",
        "GK",
    ];
    assert_eq!(gait.json(&close).1["count"], 3);
    assert_eq!(verify(&["--require-closed"]).0, 0);
    let text = std::fs::read_to_string(gait.path().join("s.jsonl")).unwrap();
    let without: String = text
        .lines()
        .enumerate()
        .filter(|(n, _)| *n != 1)
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    gait.file("s.jsonl", without);
    let (code, answer) = verify(&[]);
    assert_eq!(
        (code, &answer["error_code"]),
        (2, &json!("session_record_missing"))
    );
    assert_eq!(
        eval(&gait, "--session s.jsonl").1["error_code"],
        "session_closed"
    );
}

#[test]
fn a_clock_before_1980_decides_nothing() {
    let gait = place("default_verdict: allow");
    let (code, answer) = eval(&gait, "--evaluation-time 1979-12-31T23:59:59Z");
    assert_eq!((code, &answer["error_code"]), (7, &json!("clock_not_set")));
}

#[test]
fn a_denial_names_its_rule_and_clause_and_what_would_allow_it() {
    let policy = "default_verdict: block
rules:
  - {name: write, effect: allow, match: {tool_names: [tool.write]}, endpoint: {path_allowlist: [/work/**]}}
";
    let gait = place(policy);
    let (code, json) = eval(&gait, "--why-not");
    assert_eq!(code, 3);
    let why = &json["why_not"];
    assert_eq!(why["causes"][0]["rule"], "write");
    assert_eq!(why["causes"][0]["clause"], "endpoint.path_allowlist");
    assert_eq!(why["change"][0]["key"], "endpoint.path_allowlist");
    assert_eq!(why["change"][0]["value"], "/tmp/x");
    assert_eq!(json["denied_by"], why["causes"]);
    let (_, plain) = eval(&gait, "");
    assert_eq!(plain["denied_by"], why["causes"]);
    assert_eq!(plain.get("why_not"), None);
    gait.file("policy.yaml", "default_verdict: allow");
    let (_, allowed) = eval(&gait, "--why-not");
    assert_eq!(
        (allowed.get("why_not"), allowed.get("denied_by")),
        (None, None)
    );
}
