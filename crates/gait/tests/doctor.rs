//! `gait doctor`, as a caller sees it.

mod support;

use support::Gait;

#[test]
fn the_exit_agrees_with_the_status() {
    let gait = Gait::new().env("TMPDIR", "/nonexistent");
    let (code, json) = gait.json(&["doctor"]);
    assert_eq!(
        (code, &json["ok"], &json["status"]),
        (2, &false.into(), &"fail".into())
    );
    assert_eq!(json.get("error"), None);
    let gait = Gait::new();
    let (code, json) = gait.json(&["doctor"]);
    assert_eq!(
        (code, &json["ok"], &json["status"]),
        (0, &true.into(), &"warn".into())
    );
    assert_eq!(json["schema_id"], "gait.doctor.result");
}

#[test]
fn an_ambiguous_key_fails() {
    let args = [
        "doctor",
        "--key-mode",
        "prod",
        "--private-key",
        "k",
        "--private-key-env",
        "K",
    ];
    let (code, json) = Gait::new().json(&args);
    assert_eq!((code, &json["ok"]), (2, &false.into()));
    let (code, json) = Gait::new().json(&["doctor", "--production-readiness"]);
    assert_eq!(
        (code, &json["ok"], &json["status"]),
        (2, &false.into(), &"fail".into())
    );
}

#[test]
fn every_repair_is_a_command_that_runs() {
    let gait = Gait::new().env("PATH", "/usr/bin:/bin");
    let own = std::path::Path::new(env!("CARGO_BIN_EXE_gait"));
    let path = format!("{}:/usr/bin:/bin", own.parent().unwrap().display());
    let mut seen = Vec::new();
    for args in [
        &["doctor"][..],
        &["doctor", "--production-readiness"],
        &["doctor", "--private-key", "a", "--private-key-env", "B"],
        &["doctor", "--key-mode", "prod", "--private-key", "none.key"],
    ] {
        let report = gait.json(args).1;
        for command in report["fix_commands"].as_array().unwrap() {
            let command = command.as_str().unwrap().to_owned();
            if seen.contains(&command) {
                continue;
            }
            let run = std::process::Command::new("sh")
                .args(["-c", &command])
                .current_dir(gait.path())
                .env_clear()
                .env("HOME", gait.path())
                .env("PATH", &path)
                .env("EDITOR", "touch")
                .output()
                .unwrap();
            assert!(run.status.success(), "{command}: {run:?}");
            seen.push(command);
        }
    }
    assert!(seen.len() >= 6, "{seen:?}");
    for made in [".local/bin/gait", ".gait/config.yaml", "gait-out/keys"] {
        assert!(gait.path().join(made).exists(), "{made} after {seen:?}");
    }
    // What is left is the program, which is not where this PATH looks for it.
    let report = gait.json(&["doctor"]).1;
    let left = report["fix_commands"].as_array().unwrap();
    assert!(
        left.iter()
            .all(|fix| fix.as_str().unwrap().contains(".local/bin/gait")),
        "{report}"
    );
}

#[test]
fn the_summary_shows_what_needs_attention() {
    let gait = Gait::new();
    let whole = gait.run(&["doctor"]).stdout;
    let summary = gait.run(&["doctor", "--summary"]).stdout;
    assert!(whole.contains("- workdir: pass") && !summary.contains("- workdir: pass"));
    assert!(summary.contains("- output_dir: warn") && summary.contains("\n  fix: mkdir -p "));
}

#[test]
fn adoption_is_summed_up_from_its_log() {
    let gait = Gait::new().env("GAIT_ADOPTION_LOG", "a.jsonl");
    assert_eq!(gait.run(&["version"]).code, 0);
    let (code, json) = gait.json(&["doctor", "adoption", "--from", "a.jsonl"]);
    assert_eq!((code, &json["report"]["total_events"]), (0, &1.into()));
    assert_eq!(json["report"]["activation_complete"], false);
    let (code, json) = gait.json(&["doctor", "adoption"]);
    assert_eq!(
        (code, &json["error"]),
        (6, &"missing required --from <path>".into())
    );
    let (code, json) = gait.json(&["doctor", "adoption", "--from", "none.jsonl"]);
    assert_eq!((code, &json["error_category"]), (1, &"io_failure".into()));
    let (code, json) = gait.json(&["doctor", "stray"]);
    assert_eq!(
        (code, &json["error"]),
        (6, &"unexpected positional arguments".into())
    );
}
