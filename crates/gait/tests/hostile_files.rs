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
fn no_command_waits_for_a_pipe_that_nobody_writes_to() {
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
        "session verify --session pipe --public-key k_public.key",
    ] {
        refused(&gait, &words(line));
    }
    // Where an empty file is a valid one, so is a pipe with nothing in it.
    for (line, code) in [
        ("policy test pipe intent.json", 4),
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
fn a_line_of_another_program_that_lacks_its_break_is_not_cut_off() {
    let gait = place();
    assert_eq!(gait.run(&["demo"]).code, 0);
    let pack = ["pack", "build", "--from", "run_demo", "--out", "p.zip"];
    assert_eq!(gait.run(&pack).code, 0);
    let export = ["pack", "export", "./p.zip", "--otel-out", "otel"];
    for foreign in ["{\"a\":1}\n{\"b\":2}", "{\"b\":2}", "one\ntwo"] {
        gait.file("otel", foreign);
        let (code, json) = gait.json(&export);
        assert_eq!((code, &json["error_code"]), (6, &"not_a_log".into()));
        let kept = std::fs::read_to_string(gait.path().join("otel")).unwrap();
        assert_eq!(kept, foreign);
    }
    gait.file("otel", "{\"a\":1}\n");
    assert_eq!(gait.json(&export).0, 0);
    let text = std::fs::read_to_string(gait.path().join("otel")).unwrap();
    assert!(
        text.starts_with("{\"a\":1}\n") && text.lines().count() == 9,
        "{text}"
    );
    // The last line as a dead writer leaves it.
    gait.file("otel", text.trim_end());
    assert_eq!(gait.json(&export).0, 0);
}

#[test]
fn a_policy_that_everybody_may_change_or_replace_decides_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let gait = place();
    gait.file("open/policy.yaml", "default_verdict: allow\n");
    let chmod = |name: &str, mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(gait.path().join(name), mode).unwrap();
    };
    let commands = [
        words("gate eval --intent intent.json --policy"),
        words("gate serve --policy"),
        words("mcp proxy --call call.json --policy"),
        words("mcp serve --policy"),
        words("mcp verify --server server.json --policy"),
    ];
    gait.file("call.json", r#"{"name": "read"}"#);
    for (file, folder) in [(0o666, 0o755), (0o644, 0o777)] {
        chmod("open/policy.yaml", file);
        chmod("open", folder);
        for command in &commands {
            let (code, json) = gait.json(&[&command[..], &["open/policy.yaml"]].concat());
            assert_eq!(
                (code, &json["error_code"]),
                (6, &"insecure_permissions".into()),
                "{command:?} {json}"
            );
            assert!(
                json["hint"].as_str().unwrap().starts_with("chmod o-w "),
                "{json}"
            );
        }
        let hook = gait.run(&["hook", "--policy", "open/policy.yaml"]);
        assert!(hook.stdout.contains("deny") && hook.code == 0, "{hook:?}");
        // To look at it is no decision.
        assert_eq!(gait.json(&["policy", "validate", "open/policy.yaml"]).0, 0);
    }
    for (file, folder) in [(0o664, 0o775), (0o444, 0o1777)] {
        chmod("open/policy.yaml", file);
        chmod("open", folder);
        let line = words("gate eval --intent intent.json --policy open/policy.yaml");
        assert_eq!(gait.run(&line).code, 0, "{file:o} {folder:o}");
    }
    chmod("open", 0o777);
    assert_eq!(gait.run(&words("keys init --out-dir keys")).code, 0);
    chmod("keys", 0o777);
    let (code, json) = gait.json(&words(
        "gate eval --intent intent.json --policy policy.yaml --key-mode prod --private-key keys/gait_private.key",
    ));
    assert_eq!(code, 6, "{json}");
    assert!(
        json.to_string().contains("can be replaced by everybody"),
        "{json}"
    );
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
