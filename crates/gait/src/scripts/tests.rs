use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use worldcompute_durable::{Mode, write_atomic};
use worldcompute_proof::{Sha256, SigningKey};

use super::*;
use crate::intent::Intent;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

fn policy() -> Sha256 {
    Sha256::of(b"policy")
}

fn script(tools: &[&str]) -> Intent {
    let steps: Vec<_> = tools
        .iter()
        .map(|tool| {
            json!({"tool_name": tool, "args": {}, "targets": [
                {"kind": "path", "value": "/a", "operation": "write"}
            ]})
        })
        .collect();
    let intent = json!({
        "tool_name": "script",
        "script": {"steps": steps},
        "context": {"identity": "alice", "workspace": "/repo/gait/sub", "risk_class": "high"}
    });
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn mint<'a>(intent: &'a Intent, scope: &[&str]) -> Mint<'a> {
    Mint {
        intent,
        policy_digest: policy(),
        pattern_id: String::new(),
        approver_identity: "secops".to_owned(),
        scope: scope.iter().map(|scope| (*scope).to_owned()).collect(),
        ttl: SignedDuration::from_hours(1),
    }
}

fn entry(intent: &Intent, scope: &[&str]) -> Entry {
    Entry::mint(&mint(intent, scope), &key(), NOW).unwrap()
}

#[test]
fn a_script_whose_steps_are_not_in_alphabetical_order_is_found_and_keeps_its_order() {
    let tools = ["tool.write", "tool.read", "tool.write", "tool.exec"];
    let intent = script(&tools);
    let entry = entry(&intent, &[]);
    assert_eq!(entry.tool_sequence(), tools);
    assert!(entry.fits(&intent, policy()));
    assert_eq!(entry.verify(&key().verifying_key(), NOW), Ok(()));
    assert!(!entry.fits(&script(&["tool.exec", "tool.read", "tool.write"]), policy()));
    assert!(!entry.fits(&intent, Sha256::of(b"other")));
}

#[test]
fn scopes_narrow_what_an_entry_is_for_and_an_unknown_one_allows_nothing() {
    let intent = script(&["tool.read"]);
    for (scope, fits) in [
        ("risk:high", true),
        ("risk:low", false),
        ("tool:script", true),
        ("tool:other", false),
        ("workspace_prefix:/repo/gait", true),
        ("workspace_prefix:/repo/ga", false),
        ("workspace_prefix:/", true),
        ("Workspace_Prefix:/repo/gait", true),
        ("workspace_prefix:/Repo/gait", false),
        ("endpoint:fs.write", true),
        ("endpoint:net.http", false),
        ("phase:apply", false),
        ("anything", false),
    ] {
        assert_eq!(
            entry(&intent, &[scope]).fits(&intent, policy()),
            fits,
            "{scope}"
        );
    }
    assert!(!entry(&intent, &["risk:high", "risk:low"]).fits(&intent, policy()));
}

#[test]
fn an_entry_ends_with_its_time_and_with_any_change() {
    let intent = script(&["tool.read"]);
    let end = NOW + SignedDuration::from_hours(1);
    let good = entry(&intent, &[]);
    assert_eq!(
        good.verify(&key().verifying_key(), end - SignedDuration::from_nanos(1)),
        Ok(())
    );
    assert!(good.verify(&key().verifying_key(), end).is_err());
    assert!(
        good.verify(&SigningKey::from_seed([8; 32]).verifying_key(), NOW)
            .is_err()
    );
    for (name, value) in [
        ("expires_at", json!("2100-01-01T00:00:00Z")),
        ("tool_sequence", json!(["tool.rm"])),
        ("more", json!(1)),
        ("signature", Value::Null),
    ] {
        let mut changed = good.value().clone();
        changed[name] = value;
        let changed = Entry::of(changed).unwrap();
        assert!(
            changed.verify(&key().verifying_key(), NOW).is_err(),
            "{name}"
        );
    }
}

#[test]
fn an_entry_replaces_the_one_of_its_pattern_and_joins_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/registry.json");
    let (one, two) = (script(&["tool.a"]), script(&["tool.b"]));
    assert!(Registry::load(&path).unwrap().entries().is_empty());
    Registry::put(&path, entry(&one, &[])).unwrap();
    Registry::put(&path, entry(&two, &[])).unwrap();
    Registry::put(&path, entry(&one, &["risk:high"])).unwrap();
    let registry = Registry::load(&path).unwrap();
    assert_eq!(registry.entries().len(), 2);
    assert_eq!(
        registry.find(&one, policy(), NOW).unwrap().scope(),
        ["risk:high"]
    );
    assert!(registry.find(&two, policy(), NOW).is_some());
    assert!(registry.find(&script(&["tool.c"]), policy(), NOW).is_none());
    assert!(registry.verify(&key().verifying_key(), NOW).is_ok());
}

#[test]
fn one_entry_that_does_not_hold_condemns_the_registry_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.json");
    let intent = script(&["tool.a"]);
    let stranger = SigningKey::from_seed([8; 32]);
    let bad = Mint {
        pattern_id: "a".to_owned(),
        ..mint(&intent, &[])
    };
    Registry::put(&path, Entry::mint(&bad, &stranger, NOW).unwrap()).unwrap();
    Registry::put(&path, entry(&intent, &[])).unwrap();
    let fault = Registry::load(&path)
        .unwrap()
        .verify(&key().verifying_key(), NOW)
        .unwrap_err();
    assert_eq!(fault.gait_exit_code(), 3);
    assert!(
        fault
            .message()
            .contains("approved script registry verification failed at entry 0")
    );
}

#[test]
fn both_forms_of_the_file_are_read_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.json");
    let value = entry(&script(&["tool.a"]), &[]).value().clone();
    let keep = |text: String| write_atomic(&path, text.as_bytes(), Mode::Private).unwrap();
    for good in [json!([value]), json!({"entries": [value]}), json!([])] {
        keep(good.to_string());
        assert!(Registry::load(&path).is_ok(), "{good}");
    }
    for bad in [
        json!({}),
        json!(1),
        json!({"entries": {}}),
        json!({"entries": [], "more": 1}),
        json!({"entries": [1]}),
        json!({"entries": [{"pattern_id": "p"}]}),
    ] {
        keep(bad.to_string());
        let fault = Registry::load(&path).unwrap_err();
        assert_eq!(fault.code(), "approved_script_registry_corrupt", "{bad}");
        assert!(Registry::put(&path, entry(&script(&["tool.a"]), &[])).is_err());
    }
}

#[test]
fn what_is_no_script_cannot_be_approved() {
    let intent = json!({
        "tool_name": "tool.a",
        "context": {"identity": "a", "workspace": "w", "risk_class": "low"}
    });
    let intent = Intent::parse(intent.to_string().as_bytes()).unwrap();
    assert!(Entry::mint(&mint(&intent, &[]), &key(), NOW).is_err());
    assert!(!entry(&script(&["tool.a"]), &[]).fits(&intent, policy()));
}
