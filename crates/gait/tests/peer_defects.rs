//! What is known to go wrong in the peer implementation and is proved nowhere else to go right here.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Gait, Run};

const POLICY: &str = "default_verdict: block\nrules:\n\
                      - {name: w, effect: require_approval, match: {tool_names: [fs.write]}}\n";
const INTENT: &str = r#"{"tool_name":"fs.write","args":{},"context":{"identity":"a","workspace":"/w","risk_class":"low"}}"#;

/// The words of a command line.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn place() -> Gait {
    let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let gait = Gait::new().env("SEAL", key);
    gait.file("policy.yaml", POLICY);
    gait.file("intent.json", INTENT);
    assert_eq!(gait.run(&["demo"]).code, 0);
    let demo = gait.path().join("gait-out/runpack_run_demo.zip");
    std::fs::rename(demo, gait.path().join("rp.zip")).unwrap();
    let sealed = "guard encrypt --in intent.json --out sealed.json --key-env SEAL";
    assert_eq!(gait.run(&words(sealed)).code, 0);
    gait
}

/// Runs `gait` on a disk that takes no byte more.
fn on_a_full_disk(gait: &Gait, line: &str) -> Run {
    let program = gait.command(&words(line));
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(gait.path())
        .env("HOME", gait.path())
        .env("SEAL", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
    Run::of(shell.output().unwrap())
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_file_that_cannot_be_written_whole_is_still_what_it_was() {
    let gait = place();
    assert_eq!(gait.run(&words("keys init --out-dir .")).code, 0);
    let digest = "a".repeat(64);
    let approve = format!(
        "approve --intent-digest {digest} --policy-digest {digest} --ttl 1h --scope x --approver b --reason-code r --out"
    );
    for (line, out) in [
        (approve.as_str(), "old"),
        (
            "delegate mint --delegator a --delegate b --scope x --ttl 1h --out",
            "old",
        ),
        ("guard pack --run rp.zip --out", "old"),
        ("guard encrypt --in intent.json --key-env SEAL --out", "old"),
        ("guard decrypt --in sealed.json --key-env SEAL --out", "old"),
        ("guard retain --root gait-out --report-out", "old"),
        ("run diff rp.zip rp.zip --output", "old"),
        ("pack build --type run --from rp.zip --out", "old"),
        ("policy fmt --write", "policy.yaml"),
        ("policy init baseline-lowrisk --force --out", "old"),
        (
            "keys init --force --out-dir . --prefix gait",
            "gait_private.key",
        ),
    ] {
        if out == "old" {
            gait.file("old", "what it was");
        }
        let before = std::fs::read(gait.path().join(out)).unwrap();
        let there = names(gait.path());
        let line = match out.ends_with(".key") {
            true => line.to_owned(),
            false => format!("{line} {out}"),
        };
        let run = on_a_full_disk(&gait, &line);
        assert_eq!(run.code, 1, "{line}: {}", run.stdout);
        let after = std::fs::read(gait.path().join(out)).unwrap();
        assert_eq!(after, before, "{line}");
        assert_eq!(names(gait.path()), there, "{line}");
    }
}

#[test]
fn a_ruling_between_client_and_server_carries_the_correlation_id_of_its_answer() {
    let gait = place();
    gait.file("call.json", r#"{"name":"fs.write","args":{}}"#);
    let line = "mcp proxy --policy policy.yaml --call call.json --trace-out t.json";
    let (_, answer) = gait.json(&words(line));
    let trace = std::fs::read(gait.path().join("t.json")).unwrap();
    let trace: Value = serde_json::from_slice(&trace).unwrap();
    let id = answer["correlation_id"].as_str().unwrap();
    assert_eq!((trace["correlation_id"].as_str(), id.len()), (Some(id), 24));
}

#[test]
fn where_there_is_a_trace_there_was_its_audit_first() {
    use std::os::unix::fs::MetadataExt;
    let gait = place();
    let line = "gate eval --policy policy.yaml --intent intent.json --trace-out t.json --approval-audit-out a.json";
    assert_eq!(gait.run(&words(line)).code, 4);
    let written = |name: &str| {
        let metadata = gait.path().join(name).metadata().unwrap();
        (metadata.ctime(), metadata.ctime_nsec())
    };
    assert!(written("a.json") <= written("t.json"));
}
