use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use worldcompute_durable::{Mode, write_atomic};

use super::*;
use crate::limits::MAX_KILL_SWITCH_ENTRIES;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn intent(changes: Value) -> Intent {
    let mut intent = json!({
        "tool_name": "tool.exec",
        "targets": [{"kind": "path", "value": "/srv/../tmp/work/run.sh", "operation": "read"}],
        "context": {"identity": "alice", "agent_id": "a1", "environment": "Prod",
                    "workspace": "/repo/gait/../gait/sub", "risk_class": "low"}
    });
    for (name, value) in changes.as_object().unwrap() {
        intent[name] = value.clone();
    }
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn entry(selectors: Value) -> Entry {
    let mut entry = json!({"entry_id": "", "enabled": true, "created_at": NOW.to_string()});
    for (name, value) in selectors.as_object().unwrap() {
        entry[name] = value.clone();
    }
    serde_json::from_value(entry).unwrap()
}

fn decide(selectors: &[Value], intent: &Intent) -> Decision {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let switch = KillSwitch::at(&path);
    for (index, one) in selectors.iter().enumerate() {
        let mut entry = entry(one.clone());
        entry.entry_id = format!("e{index}");
        switch.add(entry, NOW).unwrap();
    }
    Decision::of(&switch.required().unwrap(), intent, NOW)
}

#[test]
fn every_selector_stops_what_fits_it_and_nothing_else() {
    for (selector, miss, code) in [
        (
            json!({"agent_id": "a1"}),
            json!({"agent_id": "a"}),
            "agent_id",
        ),
        (
            json!({"identity": " alice "}),
            json!({"identity": "Alice"}),
            "identity",
        ),
        (
            json!({"tool_name": "TOOL.exec"}),
            json!({"tool_name": "tool"}),
            "tool_name",
        ),
        (
            json!({"environment": "PROD"}),
            json!({"environment": "dev"}),
            "environment",
        ),
        (
            json!({"target_kind": "path"}),
            json!({"target_kind": "url"}),
            "target",
        ),
        (
            json!({"path_prefixes": ["/tmp/work/"]}),
            json!({"path_prefixes": ["/tmp/wo", "/srv"]}),
            "path",
        ),
        (
            json!({"workspace_prefixes": ["/repo//gait"]}),
            json!({"workspace_prefixes": ["/repo/ga"]}),
            "workspace",
        ),
    ] {
        let hit = decide(std::slice::from_ref(&selector), &intent(json!({})));
        assert_eq!(hit.status, Status::Active, "{selector}");
        assert_eq!(hit.reason_code, format!("kill_switch_{code}_active"));
        assert!(hit.reason_codes.contains(&ACTIVE.to_owned()));
        assert_eq!(hit.matched_entry_ids, ["e0"]);
        let missed = decide(std::slice::from_ref(&miss), &intent(json!({})));
        assert_eq!(missed.status, Status::Inactive, "{miss}");
        assert!(missed.reason_codes.is_empty());
    }
}

#[test]
fn all_selectors_of_an_entry_must_fit_and_one_entry_is_enough() {
    let both = json!({"identity": "alice", "tool_name": "tool.other"});
    assert_eq!(
        decide(std::slice::from_ref(&both), &intent(json!({}))).status,
        Status::Inactive
    );
    let decision = decide(&[both, json!({"identity": "alice"})], &intent(json!({})));
    assert_eq!(decision.matched_entry_ids, ["e1"]);
}

#[test]
fn a_stopped_file_is_stopped_in_any_spelling_and_under_any_kind() {
    let stop = [json!({"target_value": "/etc/passwd"})];
    let below = [json!({"path_prefixes": ["/etc"]})];
    for target in [
        json!({"kind": "path", "value": "/etc//passwd"}),
        json!({"kind": "path", "value": "/srv/%2e%2e/etc/passwd"}),
        json!({"kind": "other", "value": "/etc/./passwd", "endpoint_class": "fs.read"}),
        json!({"kind": "url", "value": "file:///etc/passwd"}),
    ] {
        let intent = intent(json!({"targets": [target.clone()]}));
        for entries in [&stop, &below] {
            let decision = decide(entries, &intent);
            assert_eq!(decision.status, Status::Active, "{target}");
        }
    }
    let elsewhere = intent(json!({"targets": [{"kind": "url", "value": "https://h/etc/passwd"}]}));
    assert_eq!(decide(&stop, &elsewhere).status, Status::Inactive);
}

#[test]
fn kind_and_value_have_to_be_those_of_one_target() {
    let two = intent(json!({"targets": [
        {"kind": "path", "value": "/a", "operation": "read"},
        {"kind": "url", "value": "https://b.example", "operation": "read"}
    ]}));
    let hit = json!({"target_kind": "path", "target_value": "/a"});
    let crossed = json!({"target_kind": "url", "target_value": "/a"});
    assert_eq!(decide(&[hit], &two).status, Status::Active);
    assert_eq!(decide(&[crossed], &two).status, Status::Inactive);
}

#[test]
fn a_script_is_stopped_by_the_tool_and_the_target_of_any_step() {
    let script = intent(json!({"script": {"steps": [
        {"tool_name": "tool.read", "args": {}},
        {"tool_name": "tool.rm", "args": {}, "targets": [{"kind": "path", "value": "/x/y", "operation": "delete"}]}
    ]}}));
    for selector in [
        json!({"tool_name": "tool.rm"}),
        json!({"tool_name": "script"}),
        json!({"path_prefixes": ["/x"]}),
        json!({"target_value": "/x/y"}),
    ] {
        assert_eq!(
            decide(std::slice::from_ref(&selector), &script).status,
            Status::Active,
            "{selector}"
        );
    }
}

#[test]
fn an_entry_ends_exactly_at_its_expiry_and_when_it_is_disabled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/dir/state.json");
    let switch = KillSwitch::at(&path);
    let (added, _) = switch
        .add(entry(json!({"identity": "alice"})), NOW)
        .unwrap();
    let status = |at| Decision::of(&switch.required().unwrap(), &intent(json!({})), at).status;
    let end = NOW + SignedDuration::from_hours(1);
    switch.expire(&added.entry_id, end, NOW).unwrap();
    assert_eq!(status(end - SignedDuration::from_nanos(1)), Status::Active);
    assert_eq!(status(end), Status::Inactive);
    switch.disable(&added.entry_id, NOW).unwrap();
    assert_eq!(status(NOW), Status::Inactive);
    assert!(
        switch
            .disable("nobody", NOW)
            .unwrap_err()
            .message()
            .contains("not found")
    );
    let again = switch.add(added, NOW).unwrap_err();
    assert!(again.message().contains("exists already"));
}

#[test]
fn an_entry_that_selects_nothing_needs_a_name_and_then_stops_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let switch = KillSwitch::at(&path);
    assert!(switch.add(entry(json!({})), NOW).is_err());
    assert!(
        switch
            .add(entry(json!({"target_kind": "planet"})), NOW)
            .is_err()
    );
    let decision = decide(&[json!({})], &intent(json!({})));
    assert_eq!(
        (decision.status, decision.reason_code.as_str()),
        (Status::Active, ACTIVE)
    );
}

fn keep(path: &Path, bytes: &[u8]) {
    write_atomic(path, bytes, Mode::Private).unwrap();
}

#[test]
fn a_damaged_foreign_or_missing_state_is_an_error_that_names_the_file_and_the_repair() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let good =
        r#"{"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","entries":["#;
    for bytes in [
        String::new(),
        "{".to_owned(),
        "{}".to_owned(),
        format!("{good}]"),
        format!("{good}],\"more\":1}}"),
        format!(
            "{good}{{\"entry_id\":\"x\",\"enabled\":true,\"created_at\":\"2026-01-01T00:00:00Z\",\"team\":\"t\"}}]}}"
        ),
        format!(
            "{good}{{\"entry_id\":\"\",\"enabled\":true,\"created_at\":\"2026-01-01T00:00:00Z\"}}]}}"
        ),
    ] {
        keep(&path, bytes.as_bytes());
        let fault = KillSwitch::at(&path).required().unwrap_err();
        assert_eq!(fault.code(), "kill_switch_state_corrupt", "{bytes}");
        assert!(fault.message().contains(path.to_str().unwrap()));
        assert!(fault.hint_text().contains("mv "), "{}", fault.hint_text());
        let add = KillSwitch::at(&path).add(entry(json!({"identity": "x"})), NOW);
        assert!(add.is_err(), "a damaged state is never overwritten");
    }
    keep(&path, format!("{good}]}}").as_bytes());
    assert!(KillSwitch::at(&path).required().is_ok());
    std::fs::remove_file(&path).unwrap();
    let missing = KillSwitch::at(&path).required().unwrap_err();
    assert_eq!(missing.code(), "kill_switch_state_unavailable");
    std::fs::create_dir(&path).unwrap();
    let directory = KillSwitch::at(&path).required().unwrap_err();
    assert_eq!(directory.code(), "kill_switch_state_unavailable");
}

#[test]
fn a_state_that_is_a_symbolic_link_or_open_to_all_writers_is_not_believed() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let (path, link) = (dir.path().join("state.json"), dir.path().join("link.json"));
    let switch = KillSwitch::at(&path);
    switch.add(entry(json!({"identity": "x"})), NOW).unwrap();
    symlink(&path, &link).unwrap();
    let linked = KillSwitch::at(&link).required().unwrap_err();
    assert_eq!(linked.code(), "kill_switch_state_unavailable");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let open = switch.required().unwrap_err();
    assert!(open.hint_text().starts_with("chmod o-w"), "{open}");
}

#[test]
fn entries_are_kept_to_the_limit_and_refused_past_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let switch = KillSwitch::at(&path);
    let with = |count: usize| {
        let entries: Vec<_> = (0..count)
            .map(|n| json!({"entry_id": n.to_string(), "enabled": true, "created_at": NOW.to_string()}))
            .collect();
        let state = json!({"created_at": NOW.to_string(), "updated_at": NOW.to_string(), "entries": entries});
        keep(&path, state.to_string().as_bytes());
        switch.required()
    };
    assert!(with(MAX_KILL_SWITCH_ENTRIES).is_ok());
    assert_eq!(
        with(MAX_KILL_SWITCH_ENTRIES + 1).unwrap_err().code(),
        "kill_switch_state_corrupt"
    );
}
