//! `gait approve`, as a caller sees it.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::PermissionsExt;

use support::Gait;

fn arguments(digest: &str) -> Vec<&str> {
    vec![
        "approve",
        "--intent-digest",
        digest,
        "--policy-digest",
        digest,
        "--ttl",
        "72h",
        "--scope",
        "tool:a,phase:apply",
        "--approver",
        "boss",
        "--reason-code",
        "T-1",
    ]
}

#[test]
fn a_token_is_written_for_its_owner_only() {
    let gait = Gait::new();
    let digest = "AB".repeat(32);
    let (code, json) = gait.json(&arguments(&digest));
    assert_eq!(code, 0, "{json}");
    let path = gait.path().join(json["token_path"].as_str().unwrap());
    assert_eq!(
        json["token_path"],
        format!("approval_{}.json", json["token_id"].as_str().unwrap())
    );
    assert_eq!(
        path.metadata().unwrap().permissions().mode() & 0o7777,
        0o600
    );
    assert_eq!(json["scope"], serde_json::json!(["phase:apply", "tool:a"]));
    let expires_at = json["expires_at"].as_str().unwrap();
    assert_eq!(expires_at.len(), "2027-01-15T09:00:00Z".len());
    assert_eq!(json["warnings"].as_array().unwrap().len(), 1);
}

#[test]
fn a_directory_is_made_and_a_climbing_path_is_refused() {
    let gait = Gait::new();
    let digest = "ab".repeat(32);
    let with = |path| gait.json(&[arguments(&digest), vec!["--out", path]].concat());
    assert_eq!(with("new/dir/token.json").0, 0);
    assert!(gait.path().join("new/dir/token.json").is_file());
    let (code, json) = with("new/../../token.json");
    assert_eq!(
        (code, &json["error_reason"]),
        (6, &"output_path_climbs".into())
    );
}

#[test]
fn wrong_flags_and_keys_are_refused_before_anything_is_written() {
    let gait = Gait::new();
    let digest = "ab".repeat(32);
    let complete = arguments(&digest);
    let refused = |arguments: &[&str], error: &str| {
        let (code, json) = gait.json(arguments);
        assert_eq!(
            (code, &json["error_code"]),
            (6, &"invalid_input".into()),
            "{json}"
        );
        assert_eq!(json["error"], error);
    };
    refused(&["approve"], "invalid --ttl, expected positive duration");
    refused(&["approve", "--ttl", "1h"], "scope is required");
    let changed = |flag: &str, value: &'static str| {
        let place = complete.iter().position(|word| *word == flag).unwrap();
        let mut changed = complete.clone();
        changed[place + 1] = value;
        changed
    };
    refused(
        &changed("--ttl", "-1h"),
        "invalid --ttl, expected positive duration",
    );
    refused(&changed("--approver", " "), "approver identity is required");
    refused(&changed("--reason-code", ""), "reason code is required");
    refused(
        &changed("--intent-digest", "ff"),
        "intent_digest must be sha256 hex",
    );
    refused(
        &changed("--policy-digest", ""),
        "policy_digest must be sha256 hex",
    );
    let prod = [complete.clone(), vec!["--key-mode", "prod"]].concat();
    refused(&prod, "prod mode requires a private key source");
    let extra = [complete.clone(), vec!["extra"]].concat();
    refused(&extra, "unexpected positional arguments");
    assert_eq!(std::fs::read_dir(gait.path()).unwrap().count(), 0);
}
