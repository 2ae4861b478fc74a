//! The validator of evidence as it is called: `xtask evidence validate` and the script that asks it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A checkout with one commit and the script.
struct Checkout {
    root: tempfile::TempDir,
    commit: String,
}

impl Checkout {
    /// `None` where there is no git.
    fn make() -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        let scripts = root.path().join("scripts");
        fs::create_dir(&scripts).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/validate-evidence.sh");
        fs::copy(script, scripts.join("validate-evidence.sh")).unwrap();
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
            git.arg("-C").arg(root.path()).args(identity);
            git.args(arguments).output().ok()
        };
        git(&["init", "--quiet"])?;
        git(&["commit", "--quiet", "--allow-empty", "--message", "one"])?;
        let head = String::from_utf8(git(&["rev-parse", "HEAD"])?.stdout).unwrap();
        let commit = head.trim().to_owned();
        assert_eq!(commit.len(), 40, "{commit}");
        Some(Self { root, commit })
    }

    /// A bundle of the commit.
    fn bundle(&self) -> PathBuf {
        let dir = self
            .root
            .path()
            .join("evidence/phase1/churn/20260801T100000Z");
        fs::create_dir_all(&dir).unwrap();
        put(&dir.join("run.log"), b"began\nended\n");
        put(&dir.join("index.md"), b"# Churn\n");
        self.say(&self.commit, "pass");
        dir
    }

    /// Rewrites what the bundle says of itself.
    fn say(&self, commit: &str, overall: &str) {
        let dir = self
            .root
            .path()
            .join("evidence/phase1/churn/20260801T100000Z");
        let metadata = format!(
            r#"{{"run_id": "0198f6f0-0000-7000-8000-000000000001", "area": "churn", "spec": "1.D", "git_sha": "{commit}",
                "software_version": "0.1.0", "started_at": "2026-08-01T10:00:00Z", "ended_at": "2026-08-01T11:00:00Z",
                "machines": ["one"], "env": {{}}}}"#
        );
        let results = format!(
            r#"{{"overall": "{overall}", "assertions": [{{"name": "completed", "expected": 80, "observed": 91, "pass": true}}]}}"#
        );
        put(&dir.join("metadata.json"), metadata.as_bytes());
        put(&dir.join("results.json"), results.as_bytes());
    }

    /// Both ways to ask; they have to say the same.
    fn validate(&self, dir: &Path) -> (i32, String) {
        let xtask = env!("CARGO_BIN_EXE_xtask");
        let arguments = ["evidence", "validate"];
        let mut asked = Command::new(xtask);
        asked
            .args(arguments)
            .arg(dir)
            .arg("--root")
            .arg(self.root.path());
        let asked = said(&asked.output().unwrap());
        let script = self.root.path().join("scripts/validate-evidence.sh");
        let script = Command::new(script).arg(dir).arg(xtask).output().unwrap();
        assert_eq!(said(&script), asked);
        asked
    }
}

fn said(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

fn put(path: &Path, bytes: &[u8]) {
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_bundle_is_told_from_what_is_none_with_a_reason() {
    let Some(checkout) = Checkout::make() else {
        println!("skipped: there is no git");
        return;
    };
    let dir = checkout.bundle();
    let refused = |why: &str| {
        let (code, text) = checkout.validate(&dir);
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains(why) && text.contains("hint: "),
            "{why}: {text}"
        );
    };
    let (code, text) = checkout.validate(&dir);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.starts_with("ok: ") && text.contains(&checkout.commit),
        "{text}"
    );

    checkout.say("unknown", "pass");
    refused("no_commit");
    checkout.say(&"ab".repeat(20), "pass");
    refused("unknown_commit");
    checkout.say(&checkout.commit, "ok");
    refused("overall");
    checkout.say(&checkout.commit, "pass");
    fs::File::create(dir.join("run.log"))
        .unwrap()
        .set_len(11 << 20)
        .unwrap();
    refused("evidence_too_large");
    fs::remove_file(dir.join("run.log")).unwrap();
    refused("run.log is missing");
}

#[test]
fn a_large_bundle_is_one_and_says_that_it_is_large() {
    let Some(checkout) = Checkout::make() else {
        println!("skipped: there is no git");
        return;
    };
    let dir = checkout.bundle();
    fs::File::create(dir.join("run.log"))
        .unwrap()
        .set_len(6 << 20)
        .unwrap();
    let (code, text) = checkout.validate(&dir);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("warning: "), "{text}");
}

#[test]
fn who_asks_for_nothing_is_told_how_to_ask() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/validate-evidence.sh");
    let (code, text) = said(&Command::new(script).output().unwrap());
    assert_eq!(code, 2);
    assert!(text.starts_with("usage: "), "{text}");
}
