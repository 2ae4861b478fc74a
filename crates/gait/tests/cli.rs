//! The frame of the command line, as a caller sees it.

mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::json;
use support::{Gait, Run};

#[test]
fn an_argument_that_is_no_text_is_refused_in_the_form_that_was_asked_for() {
    let gait = Gait::new();
    let run = |args: &[&str]| {
        let mut command = gait.command(args);
        Run::of(command.arg(OsStr::from_bytes(b"\xff")).output().unwrap())
    };
    let json = run(&["verify", "--json"]);
    assert_eq!(
        (json.code, &json.json()["error_code"]),
        (6, &"invalid_input".into())
    );
    assert_eq!(json.json()["error"], "argument 3 is not UTF-8");
    let text = run(&["verify"]);
    assert!(text.code == 6 && text.stdout.contains("hint:"), "{text:?}");
    // To an agent a hook that fails is a hook that is not there.
    let hook = run(&["hook", "--policy"]);
    assert_eq!(hook.code, 0, "{hook:?}");
    assert!(hook.stdout.contains("deny"), "{hook:?}");
}

#[test]
fn what_is_no_longer_read_is_refused_with_what_to_write_instead() {
    let gait = Gait::new();
    let (code, json) = gait.json(&["mcp-verify", "--policy", "p.yaml"]);
    assert_eq!((code, &json["error_code"]), (6, &"invalid_input".into()));
    assert_eq!(
        json["migration"],
        json!({
            "kind": "command",
            "deprecated_command": "gait mcp-verify",
            "replacement_command": "gait mcp verify",
        })
    );
    assert_eq!(json["hint"], "use `gait mcp verify` instead");
    let text = gait.run(&["mcp-verify"]);
    assert_eq!(text.code, 6);
    assert!(text.stdout.contains("gait mcp verify"), "{}", text.stdout);

    let policy = gait.file("policy.yaml", "unknown_server: block\nname: old\n");
    let server = gait.file("server.json", r#"{"server_id": "s"}"#);
    for command in [
        &["policy", "validate", &policy][..],
        &["mcp", "verify", "--policy", &policy, "--server", &server],
    ] {
        let (code, json) = gait.json(command);
        assert_eq!((code, &json["error_reason"]), (6, &"legacy_policy".into()));
        let migration = &json["migration"];
        assert_eq!(
            (&migration["kind"], &migration["deprecated_fields"]),
            (&"policy_fields".into(), &json!(["name", "unknown_server"]))
        );
        let replacements = &migration["field_replacements"];
        assert_eq!(replacements[0]["field"], "name");
        assert_eq!(replacements[0].get("replacement_fields"), None);
        assert_eq!(
            replacements[1]["replacement_fields"],
            json!(["mcp_trust.action"])
        );
    }
    let (_, other) = gait.json(&["policy", "validate", &server]);
    assert_eq!(other.get("migration"), None, "{other}");
}

#[test]
fn gait_alone_prints_its_version() {
    let gait = Gait::new();
    for args in [&[][..], &["--version"], &["version"]] {
        let run = gait.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (0, "gait 0.0.0-dev\n"));
        assert_eq!(run.stderr, "");
    }
}

#[test]
fn version_is_one_sorted_line_of_json() {
    let run = Gait::new().run(&["version", "--json"]);
    let id = run.json()["correlation_id"].as_str().unwrap().to_owned();
    let expected =
        format!("{{\"correlation_id\":\"{id}\",\"ok\":true,\"version\":\"0.0.0-dev\"}}\n");
    assert_eq!((run.code, run.stdout), (0, expected));
}

#[test]
fn two_runs_of_the_same_command_line_have_different_correlation_ids() {
    let gait = Gait::new();
    let (_, first) = gait.json(&["version"]);
    let (_, second) = gait.json(&["version"]);
    assert_ne!(first["correlation_id"], second["correlation_id"]);
    assert_eq!(first["correlation_id"].as_str().unwrap().len(), 24);
}

#[test]
fn an_unknown_flag_is_refused_on_standard_output_in_both_modes() {
    let gait = Gait::new();
    let (code, json) = gait.json(&["version", "--x"]);
    assert_eq!(code, 6);
    assert_eq!(json["error"], "flag provided but not defined: -x");
    assert_eq!(json["error_code"], "invalid_input");
    assert_eq!(json["hint"], "check command usage and input schema");
    let run = gait.run(&["version", "--x"]);
    assert_eq!(run.code, 6);
    assert!(run.stdout.contains("flag provided but not defined: -x"));
    assert_eq!(run.stderr, "");
}

#[test]
fn an_unknown_command_is_refused_with_the_nearest_one_in_both_modes() {
    let gait = Gait::new();
    for (words, error, hint) in [
        (
            &["verfy"][..],
            "gait verfy",
            "did you mean gait verify? gait --help lists the commands",
        ),
        (
            &["gate", "evil"],
            "gait gate evil",
            "did you mean gait gate eval? gait gate --help lists the commands",
        ),
        (
            &["frobnicate"],
            "gait frobnicate",
            "gait --help lists the commands",
        ),
    ] {
        let (code, json) = gait.json(words);
        assert_eq!((code, &json["error_code"]), (6, &"unknown_command".into()));
        assert_eq!(json["error"], format!("unknown command: {error}"));
        assert_eq!(json["hint"], hint);
        let run = gait.run(words);
        let told = format!("Error: unknown command: {error}\n  hint: {hint}\n");
        assert_eq!((run.code, run.stdout, run.stderr), (6, told, String::new()));
    }
}

#[test]
fn help_and_explanation_succeed() {
    let gait = Gait::new();
    for args in [
        &["--help"][..],
        &["help"],
        &["version", "--help"],
        &["--explain"],
        &["version", "--explain"],
    ] {
        let run = gait.run(args);
        assert_eq!(run.code, 0, "{args:?}");
        assert!(run.stdout.contains("version"), "{args:?}");
    }
}

#[test]
fn an_argument_that_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let gait = Gait::new();
    let mut command = gait.command(&["version"]);
    command.arg(std::ffi::OsStr::from_bytes(b"\xff"));
    let run = support::Run::of(command.output().unwrap());
    assert_eq!(run.code, 6);
    assert!(run.stdout.contains("argument 2 is not UTF-8"));
}

#[test]
fn an_answer_that_nobody_can_read_is_a_failure() {
    let gait = Gait::new();
    let full = std::fs::File::options().write(true).open("/dev/full");
    let Ok(full) = full else {
        println!("skipped: no /dev/full on this machine");
        return;
    };
    let mut command = gait.command(&["version"]);
    let status = command.stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_log_that_cannot_be_written_warns_and_never_changes_the_exit() {
    let gait = Gait::new().env("GAIT_OPERATIONAL_LOG", "/nonexistent/ops.jsonl");
    let run = gait.run(&["version"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "gait 0.0.0-dev\n"));
    assert!(
        run.stderr
            .contains("warning: the operational log was not written")
    );
    let run = gait.env("GAIT_TELEMETRY_WARN", "off").run(&["version"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}

#[test]
fn a_file_that_is_no_log_is_not_made_one() {
    let policy = "default_verdict: allow\n";
    let gait = Gait::new().env("GAIT_OPERATIONAL_LOG", "policy.yaml");
    gait.file("policy.yaml", policy);
    let run = gait.run(&["version"]);
    assert_eq!(run.code, 0);
    assert!(
        run.stderr.contains("does not end like a log"),
        "{}",
        run.stderr
    );
    let kept = std::fs::read_to_string(gait.path().join("policy.yaml")).unwrap();
    assert_eq!(kept, policy);
}

#[test]
fn the_log_carries_the_correlation_id_of_the_output() {
    let gait = Gait::new().env("GAIT_OPERATIONAL_LOG", "ops.jsonl");
    let (code, json) = gait.json(&["keys", "verify"]);
    assert_eq!(code, 6);
    let log = std::fs::read_to_string(gait.path().join("ops.jsonl")).unwrap();
    let end: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(end["correlation_id"], json["correlation_id"]);
    assert_eq!(end["command"], "keys verify");
    assert_eq!(end["error_category"], "invalid_input");
    assert_eq!(end["exit_code"], 6);
}
