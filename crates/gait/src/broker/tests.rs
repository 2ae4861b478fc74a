use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::intent::Intent;

const NOW: Timestamp = Timestamp::constant(1_767_225_600, 0);
const SECRET: &str = "s3cr3t-planted-in-the-broker";

fn intent() -> Intent {
    let intent = json!({
        "tool_name": "tool.write",
        "context": {"identity": "alice", "workspace": "w", "risk_class": "low", "run_id": "r1"}
    });
    Intent::parse(intent.to_string().as_bytes()).unwrap()
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn choose(choice: Choice<'_>, environment: &[(&str, &str)]) -> Result<Option<Broker>> {
    Broker::choose(choice, &variables(environment))
}

fn script(dir: &Path, body: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join("broker.sh");
    let text = format!("#!/bin/sh\n{body}\n");
    worldcompute_durable::write_atomic(&path, text.as_bytes(), worldcompute_durable::Mode::Private)
        .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

fn ask(body: &str, timeout: Duration) -> Result<Credential> {
    let dir = tempfile::tempdir().unwrap();
    let path = script(dir.path(), body);
    let environment = variables(&[(ALLOWLIST, path.to_str().unwrap())]);
    let broker = CommandBroker::allowed(path.to_str().unwrap(), &[], &environment)?;
    let intent = intent();
    let request = Request::new(&intent, "egress", &["export".to_owned()])?;
    Broker::Command(broker.within(timeout)).issue(&request, &environment)
}

#[test]
fn no_program_is_asked_that_no_allowlist_names() {
    let command = |command| Choice {
        name: "command",
        command,
        ..Choice::default()
    };
    let reason = |choice, environment: &[_]| choose(choice, environment).unwrap_err().reason();
    assert_eq!(reason(command(""), &[]), "credential_command_required");
    assert_eq!(
        reason(command("/bin/a b"), &[]),
        "credential_command_malformed"
    );
    let required = "credential_command_allowlist_required";
    assert_eq!(reason(command("/bin/echo"), &[]), required);
    assert_eq!(reason(command("/bin/echo"), &[(ALLOWLIST, " ")]), required);
    let refused = "credential_command_not_allowed";
    assert_eq!(
        reason(command("/bin/echo"), &[(ALLOWLIST, "/usr/bin/echo,cat")]),
        refused
    );
    assert_eq!(reason(command("/bin/echo"), &[(ALLOWLIST, ",")]), refused);
    assert!(
        choose(
            command("/bin/echo"),
            &[(ALLOWLIST, "cat, /bin/../bin/echo")]
        )
        .is_ok()
    );
    assert!(choose(command("echo"), &[(ALLOWLIST, "cat,echo")]).is_ok());
}

#[test]
fn a_name_on_the_allowlist_stands_for_no_path_and_a_detour_for_what_it_reads_as() {
    let allowed = |program, list| {
        let environment = variables(&[(ALLOWLIST, list)]);
        CommandBroker::allowed(program, &[], &environment).map(|broker| format!("{broker:?}"))
    };
    for (program, list) in [
        ("/tmp/evil/vault", "vault"),
        ("./vault", "vault"),
        ("vault", "./vault"),
        ("/usr/bin/../../tmp/vault", "/usr/bin/vault"),
        ("vault", "/usr/bin/vault"),
    ] {
        let refused = allowed(program, list).unwrap_err();
        assert_eq!(refused.reason(), "credential_command_not_allowed");
    }
    let runs = |program, list, what: &str| {
        let broker = allowed(program, list).unwrap();
        assert!(broker.contains(&format!("program: {what:?}")), "{broker}");
    };
    runs("/opt/link/../vault", "/opt/vault", "/opt/vault");
    runs("./bin/../vault", "./vault", "./vault");
    runs("vault", " vault ", "vault");
}

#[test]
fn unknown_brokers_are_refused_and_none_is_none() {
    let named = |name| Choice {
        name,
        ..Choice::default()
    };
    assert!(choose(named("OFF"), &[]).unwrap().is_none());
    assert!(choose(named(""), &[]).unwrap().is_none());
    assert_eq!(
        choose(named("zzz"), &[]).unwrap_err().message(),
        "unsupported credential broker: zzz"
    );
}

#[test]
fn the_environments_secret_is_referred_to_and_never_told() {
    let environment = variables(&[("GAIT_BROKER_TOKEN_E_GRESS_PROD", SECRET)]);
    let choice = Choice {
        name: "env",
        ..Choice::default()
    };
    let broker = Broker::choose(choice, &environment).unwrap().unwrap();
    let intent = intent();
    let request = Request::new(&intent, "e.gress-prod", &[]).unwrap();
    let credential = broker.issue(&request, &environment).unwrap();
    let digest = worldcompute_proof::Sha256::of(SECRET).to_string();
    assert_eq!(
        credential.credential_ref,
        format!("env:GAIT_BROKER_TOKEN_E_GRESS_PROD:{}", &digest[..16])
    );
    assert_eq!(
        (credential.issued_by.as_str(), credential.source.as_str()),
        ("env", "env")
    );
    let unset = Request::new(&intent, "", &[]).unwrap();
    let fault = broker.issue(&unset, &environment).unwrap_err();
    assert!(
        fault
            .message()
            .contains("GAIT_BROKER_TOKEN_TOOL_WRITE is not set")
    );
}

#[test]
fn variable_names_are_built_as_the_format_builds_them() {
    for (name, part) in [
        ("tool.write", "TOOL_WRITE"),
        ("a--b", "A__B"),
        ("a  /b", "A_B"),
        (" ..x.. ", "X"),
        ("", "DEFAULT"),
        ("§", "DEFAULT"),
        ("né", "N"),
    ] {
        assert_eq!(variable_part(name), part, "{name:?}");
    }
}

#[test]
fn a_program_is_asked_and_its_answer_is_completed() {
    let credential = ask(
        r#"read question; case "$question" in *'"Reference":"egress"'*) ;; *) exit 3;; esac
        echo '{"credential_ref":" ref:1 ","scope":["Export"],"issued_at":"2026-01-01T00:00:00Z","expires_at":"2026-01-01T00:01:00Z"}'"#,
        Duration::from_secs(30),
    )
    .unwrap();
    assert_eq!(credential.credential_ref, "ref:1");
    assert_eq!(
        (credential.issued_by.as_str(), credential.issuer()),
        ("command", "command")
    );
    assert_eq!(credential.ttl_seconds, 60);
    assert!(credential.request_digest.is_some());
    let intent = intent();
    let request = Request::new(&intent, "egress", &["export".to_owned()]).unwrap();
    assert!(credential.mismatches(&request, NOW).unwrap().is_empty());
    let other = Request::new(&intent, "other", &["write".to_owned()]).unwrap();
    assert_eq!(
        credential.mismatches(&other, NOW).unwrap(),
        ["broker_request_digest_mismatch", "broker_scope_mismatch"]
    );
}

#[test]
fn whatever_a_program_does_wrong_is_told_without_its_words() {
    let flood = format!("yes {SECRET} | head -c 20000");
    let long = format!("echo '{{\"credential_ref\":\"{}\"}}'", "x".repeat(300));
    for (body, why) in [
        (format!("echo {SECRET}"), "is not JSON"),
        (format!("echo {SECRET} >&2; exit 1"), "fails"),
        (
            format!("echo '{{\"credential_ref\":\"{SECRET}\"}}'; exit 7"),
            "fails",
        ),
        (flood, "says too much"),
        ("true".to_owned(), "is not JSON"),
        (
            format!("echo '{{\"credential_ref\":[\"{SECRET}\"]}}'"),
            "is not of the format",
        ),
        (
            format!("echo '{{\"token\":\"{SECRET}\"}}'"),
            "names no credential",
        ),
        (
            "printf '%s' '{\"credential_ref\":\"a\\u0007b\"}'".to_owned(),
            "credential_ref is malformed",
        ),
        (long, "credential_ref is malformed"),
    ] {
        let fault = ask(&body, Duration::from_secs(30)).unwrap_err();
        assert_eq!(fault.code(), "broker_credential_missing", "{body}");
        assert!(fault.message().contains(why), "{body}: {fault}");
        assert!(!fault.human().contains(SECRET), "{body}: {fault}");
    }
}

#[test]
fn a_program_that_does_not_end_is_ended_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    // A pipe ends when nobody is left who could write into it.
    let all_gone = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read(pipe).unwrap()
    });
    let body = format!("exec 9>{}; sleep 1000 & sleep 1000", pipe.display());
    let fault = ask(&body, Duration::from_secs(1)).unwrap_err();
    assert!(fault.message().contains("takes too long"), "{fault}");
    assert!(all_gone.join().unwrap().is_empty());
}

#[test]
fn a_program_that_is_not_there_is_told() {
    let environment = variables(&[(ALLOWLIST, "/no/such/program")]);
    let broker = CommandBroker::allowed("/no/such/program", &[], &environment).unwrap();
    let intent = intent();
    let request = Request::new(&intent, "", &[]).unwrap();
    let fault = Broker::Command(broker)
        .issue(&request, &environment)
        .unwrap_err();
    assert!(fault.message().contains("does not start"));
}

#[test]
fn rehearsals_get_the_same_reference_for_the_same_request() {
    let intent = intent();
    let issue = |reference| {
        let request = Request::new(&intent, reference, &[]).unwrap();
        Broker::Deterministic
            .issue(&request, &variables(&[]))
            .unwrap()
            .credential_ref
    };
    assert_eq!(issue("a"), issue("a"));
    assert_ne!(issue("a"), issue("b"));
}
