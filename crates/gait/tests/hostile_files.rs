//! Files that are not what they should be: pipes, directories, devices, links, and one file under two flags.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::{FileTypeExt, symlink};
use std::process::Command;

use serde_json::Value;
use support::Gait;

const POLICY: &str = "default_verdict: block\nrules:\n\
                      - {name: reads, effect: allow, match: {tool_names: [fs.read]}}\n\
                      - {name: writes, effect: require_approval, match: {tool_names: [fs.write]}}\n";
const INTENT: &str = r#"{"tool_name":"fs.read","args":{},"context":{"identity":"a","workspace":"/w","risk_class":"low"}}"#;

/// A policy, an intent, a key pair `k` and a runpack.
fn place() -> Gait {
    let gait = Gait::new();
    gait.file("policy.yaml", POLICY);
    gait.file("intent.json", INTENT);
    for words in [
        &["keys", "init", "--out-dir", ".", "--prefix", "k"][..],
        &["demo"],
    ] {
        assert_eq!(gait.run(words).code, 0);
    }
    let demo = gait.path().join("gait-out/runpack_run_demo.zip");
    std::fs::rename(demo, gait.path().join("rp.zip")).unwrap();
    gait
}

fn pipe(gait: &Gait, name: &str) {
    let made = Command::new("mkfifo").arg(gait.path().join(name)).status();
    assert!(made.unwrap().success());
}

/// Every name in the directory but those of locks, with the content of what is a file.
fn snapshot(gait: &Gait) -> Vec<(String, Option<Vec<u8>>)> {
    let entries = std::fs::read_dir(gait.path()).unwrap();
    let mut found: Vec<_> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            let is_file = entry.file_type().unwrap().is_file();
            let content = is_file.then(|| std::fs::read(entry.path()).unwrap());
            (entry.file_name().into_string().unwrap(), content)
        })
        .collect();
    found.retain(|(name, _)| !name.ends_with(".lock"));
    found.sort();
    found
}

fn refused(gait: &Gait, words: &[&str]) -> Value {
    let before = snapshot(gait);
    let (code, answer) = gait.json(words);
    assert_ne!(code, 0, "{words:?}: {answer}");
    for member in ["error", "error_code", "error_category", "hint"] {
        let text = answer
            .get(member)
            .and_then(Value::as_str)
            .unwrap_or_default();
        assert!(!text.is_empty(), "{words:?} says no {member}: {answer}");
    }
    assert_eq!(snapshot(gait), before, "{words:?}");
    answer
}

/// The words of a command line.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn a_pipe_that_nobody_writes_to_is_refused_by_every_command_that_reads_a_file() {
    let gait = place();
    pipe(&gait, "pipe");
    for line in [
        "gate eval --policy policy.yaml --intent pipe",
        "gate eval --policy policy.yaml --intent intent.json --key-mode prod --private-key pipe",
        "gate eval --policy policy.yaml --intent intent.json --approval-public-key pipe",
        "gate eval --policy policy.yaml --intent intent.json --session pipe",
        "policy test policy.yaml pipe",
        "verify ./pipe",
        "pack verify pipe",
        "guard verify pipe",
        "trace verify pipe --public-key k_public.key",
        "run record --input pipe",
        "run session status --journal pipe",
        "regress run --config pipe",
        "keys verify --private-key pipe",
        "kill-switch list --state pipe",
        "list-scripts --registry pipe",
    ] {
        refused(&gait, &words(line));
    }
    // What may be empty is taken for that, and nothing waits.
    for (line, code) in [
        ("policy test pipe intent.json", 4),
        ("session verify --session pipe --public-key k_public.key", 0),
        ("doctor adoption --from pipe", 0),
    ] {
        assert_eq!(gait.run(&words(line)).code, code, "{line}");
    }
}

#[test]
fn an_output_under_the_name_of_an_input_is_refused_and_the_input_is_kept() {
    let gait = place();
    gait.file("ok.json", "{}");
    symlink("k_private.key", gait.path().join("link.key")).unwrap();
    let eval = "gate eval --policy policy.yaml --intent intent.json --key-mode prod --private-key k_private.key";
    for more in [
        "--trace-out k_private.key",
        "--trace-out ./policy.yaml",
        "--trace-out intent.json",
        "--trace-out link.key",
        "--trace-out x/../ok.json --approval-token ok.json",
        "--trace-out t.json --approval-audit-out ./t.json",
        "--trace-out s.jsonl --session s.jsonl",
        "--trace-out ks.json --kill-switch-state ks.json",
        "--trace-out rl.json --rate-limit-state rl.json",
    ] {
        std::fs::create_dir_all(gait.path().join("x")).unwrap();
        let line = format!("{eval} {more}");
        let answer = refused(&gait, &words(&line));
        assert_eq!(answer["error_reason"], "output_clash", "{more}: {answer}");
    }
    for line in [
        "pack build --type run --from rp.zip --out rp.zip",
        "guard pack --run rp.zip --out rp.zip",
        "run reduce --from rp.zip --out rp.zip",
        "run diff rp.zip rp.zip --output rp.zip",
        "pack export rp.zip --otel-out rp.zip",
        "guard encrypt --in intent.json --out intent.json --key-env K",
        "regress run --output r --junit r",
    ] {
        let answer = refused(&gait, &words(line));
        assert_eq!(answer["error_reason"], "output_clash", "{line}: {answer}");
    }
}

#[test]
fn a_graded_run_overwrites_no_fixture_and_reports_everywhere_or_nowhere() {
    let gait = place();
    assert_eq!(gait.run(&words("regress init --from rp.zip")).code, 0);
    std::fs::create_dir(gait.path().join("folder")).unwrap();
    let fixtures = gait.path().join("fixtures/run_demo");
    let read = |name: &str| std::fs::read(fixtures.join(name)).unwrap();
    let before = (read("runpack.zip"), read("fixture.json"));
    for more in [
        "--output fixtures/run_demo/runpack.zip",
        "--output r.json --junit fixtures/run_demo/fixture.json",
        "--output gait.yaml",
        "--output r.json --junit folder",
        "--output r.json --junit ../j.xml",
        "--output r.json --junit policy.yaml/j.xml",
    ] {
        refused(&gait, &words(&format!("regress run {more}")));
        assert!(
            (read("runpack.zip"), read("fixture.json")) == before,
            "{more}"
        );
    }
    let run = gait.run(&words("regress run --output r.json --junit j.xml"));
    assert_eq!(run.code, 0, "{}", run.stdout);
}

#[test]
fn an_output_takes_the_place_of_no_directory_pipe_or_device() {
    let gait = place();
    gait.file("write.json", INTENT.replace("fs.read", "fs.write"));
    std::fs::create_dir(gait.path().join("folder")).unwrap();
    pipe(&gait, "pipe");
    symlink("/dev/null", gait.path().join("null")).unwrap();
    for place in ["folder", "pipe", "null"] {
        for line in [
            "gate eval --policy policy.yaml --intent intent.json --trace-out",
            // The audit of the approvals would be written before the trace.
            "gate eval --policy policy.yaml --intent write.json --trace-out",
            "pack build --type run --from rp.zip --out",
            "guard pack --run rp.zip --out",
        ] {
            let answer = refused(&gait, &[words(line), vec![place]].concat());
            let code = if place == "folder" {
                "io_failure"
            } else {
                "not_a_file"
            };
            assert_eq!(answer["error_code"], code, "{answer}");
        }
    }
    let kind = |name: &str| {
        let found = gait.path().join(name).symlink_metadata();
        found.unwrap().file_type()
    };
    assert!(kind("pipe").is_fifo() && kind("null").is_symlink() && kind("folder").is_dir());
}

#[test]
fn a_file_that_is_no_log_loses_nothing_to_one_who_takes_it_for_a_log() {
    let gait = place();
    gait.file("note", "buy milk");
    gait.file("notes", "one\nbuy milk");
    gait.file("compact.json", r#"{"a":1}"#);
    for file in ["note", "notes", "compact.json"] {
        for line in [
            "gate eval --policy policy.yaml --intent intent.json --session",
            "session close --session",
            "run session start --session-id s --run-id r --journal",
        ] {
            refused(&gait, &[words(line), vec![file]].concat());
        }
    }
    let gait = gait.env("GAIT_OPERATIONAL_LOG", "notes");
    let run = gait.run(&["version"]);
    assert!(run.stderr.contains("log was not written"), "{}", run.stderr);
    let kept = std::fs::read(gait.path().join("notes")).unwrap();
    assert_eq!(kept, b"one\nbuy milk");
}

#[test]
fn a_torn_record_is_cut_off_and_the_session_goes_on() {
    let gait = place();
    let line = "gate eval --policy policy.yaml --intent intent.json --session s.jsonl";
    for torn in ["{\"args_di", "{"] {
        gait.file("s.jsonl", torn);
        assert_eq!(gait.run(&words(line)).code, 0, "{torn}");
        let log = std::fs::read_to_string(gait.path().join("s.jsonl")).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
    }
}

#[test]
fn half_a_pair_of_keys_is_never_added() {
    let gait = Gait::new();
    gait.file("keys/p_public.key", "mine");
    let (code, answer) = gait.json(&["keys", "init", "--out-dir", "keys", "--prefix", "p"]);
    assert_eq!((code, &answer["error_reason"]), (6, &"key_exists".into()));
    assert!(!gait.path().join("keys/p_private.key").exists());
}
