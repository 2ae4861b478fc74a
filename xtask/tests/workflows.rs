//! The workflows that nobody runs on this machine: what of them can be held to the tree is.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap().to_owned()
}

/// The workflows, by name, with their text.
fn workflows() -> Vec<(String, String)> {
    let entries = fs::read_dir(root().join(".github/workflows")).unwrap();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    entries.map(|entry| read(entry.unwrap().path())).collect()
}

fn release() -> String {
    fs::read_to_string(root().join(".github/workflows/release.yml")).unwrap()
}

#[test]
fn every_action_is_pinned_by_its_commit() {
    for (name, text) in workflows() {
        for line in text.lines().filter(|line| line.contains("uses:")) {
            let commit = line.split_once('@').unwrap().1;
            let (commit, version) = commit.split_once(" # v").unwrap();
            let is_commit = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(is_commit && !version.is_empty(), "{name}: {line}");
        }
    }
}

#[test]
fn the_versions_of_tools_stand_in_one_place_and_the_compiler_is_that_of_the_tree() {
    let toolchain = fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    let channel = toolchain.split('"').nth(1).unwrap();
    assert!(release().contains(&format!("  RUST_VERSION: {channel}\n")));
    for (name, text) in workflows() {
        let steps = text.split_once("\njobs:\n").unwrap().1;
        for line in steps.lines().filter(|line| line.contains("run:")) {
            let is_pinned_here = line
                .split("--version ")
                .skip(1)
                .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            assert!(!is_pinned_here, "{name}: {line}");
        }
    }
}

#[test]
fn every_script_that_a_workflow_runs_is_there() {
    for (name, text) in workflows() {
        let words = text.split_whitespace();
        for script in words.filter(|word| word.starts_with("scripts/") || *word == ".ci/run") {
            let mode = fs::metadata(root().join(script)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o111, 0o111, "{name}: {script}");
        }
    }
}

/// What the job `name` of the release waits for.
fn needs(name: &str) -> String {
    let text = release();
    let job = text.split_once(&format!("\n  {name}:\n")).unwrap().1;
    let line = job.lines().find(|line| line.contains("needs:"));
    line.unwrap().trim().to_owned()
}

#[test]
fn nothing_is_published_that_was_not_checked_built_signed_and_verified() {
    assert_eq!(needs("sign"), "needs: [check, build]");
    assert_eq!(needs("verify"), "needs: sign");
    assert_eq!(needs("publish"), "needs: verify");
}

/// A folder with two archives and their sums.
fn dist() -> tempfile::TempDir {
    let dist = tempfile::tempdir().unwrap();
    put(dist.path(), "gait-1.0.0-a.tar.gz", "one");
    put(dist.path(), "gait-1.0.0-b.tar.gz", "two");
    let sums = Command::new("sha256sum")
        .args(["gait-1.0.0-a.tar.gz", "gait-1.0.0-b.tar.gz"])
        .current_dir(dist.path())
        .output()
        .unwrap();
    put(
        dist.path(),
        "SHA256SUMS",
        &String::from_utf8(sums.stdout).unwrap(),
    );
    dist
}

fn put(folder: &Path, name: &str, text: &str) {
    let mut file = fs::File::create(folder.join(name)).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

fn verified(dist: &Path) -> Option<i32> {
    let script = root().join("scripts/verify_release.sh");
    let done = Command::new(script).arg(dist).arg("--sums-only").output();
    done.unwrap().status.code()
}

#[test]
fn a_release_whose_sums_do_not_fit_is_refused() {
    assert_eq!(verified(dist().path()), Some(0));
    let changes: [fn(&Path); 5] = [
        |dist| put(dist, "gait-1.0.0-a.tar.gz", "One"),
        |dist| put(dist, "gait-1.0.0-c.tar.gz", "unnamed"),
        |dist| fs::remove_file(dist.join("gait-1.0.0-b.tar.gz")).unwrap(),
        |dist| fs::remove_file(dist.join("SHA256SUMS")).unwrap(),
        |dist| put(dist, "SHA256SUMS", ""),
    ];
    for (place, change) in changes.iter().enumerate() {
        let dist = dist();
        change(dist.path());
        assert_eq!(verified(dist.path()), Some(2), "change {place}");
    }
}
