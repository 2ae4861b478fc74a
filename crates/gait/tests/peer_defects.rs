//! What is known to go wrong in the peer implementation and is proved nowhere else to go right here.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use gait::gate::{Outputs, Request};
use gait::{Clock, Gate, Intent, Policy};
use jiff::Timestamp;
use serde_json::Value;
use support::{Gait, Run};
use worldcompute_proof::SigningKey;

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

/// A clock that puts a directory in the way of a file as soon as its place is taken: so the file is not written, though
/// nothing said before that it could not be.
struct Obstacle {
    dir: tempfile::TempDir,
    name: &'static str,
}

impl Obstacle {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Clock for Obstacle {
    fn now(&self) -> Timestamp {
        let taken = names(self.dir.path());
        if taken.iter().any(|name| name.starts_with('.')) && !self.path(self.name).exists() {
            std::fs::create_dir(self.path(self.name)).unwrap();
        }
        Timestamp::constant(1_800_000_000, 0)
    }
}

#[test]
fn a_trace_is_written_after_its_audit_and_never_without_it() {
    for (obstacle, audit_is_written) in [("audit.json", false), ("trace.json", true)] {
        let clock = Arc::new(Obstacle {
            dir: tempfile::tempdir().unwrap(),
            name: obstacle,
        });
        let policy = Policy::parse(POLICY.as_bytes()).unwrap();
        let gate = Gate::new(policy, SigningKey::from_seed([7; 32]), clock.clone());
        let outputs = Outputs {
            trace: Some(clock.path("trace.json")),
            approval_audit: Some(clock.path("audit.json")),
            ..Outputs::default()
        };
        let request = Request {
            outputs: Some(&outputs),
            ..Request::default()
        };
        let intent = Intent::parse(INTENT.as_bytes()).unwrap();
        let fault = gate.decide_on(&intent, &request).err().unwrap();
        assert_eq!(fault.category().as_str(), "io_failure", "{fault}");
        assert!(!clock.path("trace.json").is_file());
        assert_eq!(
            clock.path("audit.json").is_file(),
            audit_is_written,
            "{obstacle}"
        );
    }
}
