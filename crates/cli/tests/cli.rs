//! The command line's face: every help text, usage errors, the version, and what two users do at once.

mod support;

use std::process::Stdio;

use serde_json::Value;
use support::{text, worldcompute};

#[test]
fn helps_and_usage_errors_are_as_written_down() {
    trycmd::TestCases::new()
        .env("WORLDCOMPUTE_HOME", "/nonexistent")
        .case("tests/cmd/*.trycmd");
}

#[test]
fn usage_errors_go_to_standard_error_and_helps_to_standard_output() {
    let home = tempfile::tempdir().unwrap();
    let wrong = support::run(home.path(), &["job", "frobnicate"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(wrong.stdout.is_empty());
    assert!(text(&wrong.stderr).contains("Usage:"));
    let help = support::run(home.path(), &["job", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(help.stderr.is_empty());
}

#[test]
fn the_version_tells_a_production_build_from_any_other() {
    let home = tempfile::tempdir().unwrap();
    let kind = if cfg!(feature = "production") {
        "production"
    } else {
        "dev"
    };
    for flag in ["--version", "-V"] {
        let output = support::run(home.path(), &[flag]);
        assert!(output.status.success());
        let expected = format!("worldcompute {} ({kind})\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(text(&output.stdout), expected);
    }
}

#[test]
fn two_demos_at_the_same_time_both_succeed() {
    let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let demos = roots.each_ref().map(|root| {
        worldcompute(root.path())
            .args(["demo", "--json", "--tiles", "2", "--out"])
            .arg(root.path().join("out"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    for demo in demos {
        let output = demo.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["ok"], true, "{report}");
        assert_eq!(report["tiles"], 2, "{report}");
    }
}
