//! One home, one daemon: a second is told so, and nothing of the first is touched. Neither leaves keys in a core dump.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use support::{Daemon, example, json, run};

const JOIN: [&str; 5] = ["donor", "join", "--no-mdns", "--port", "0"];

/// The names of the files of a home's store.
fn files(home: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(home.join("store")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn refusal(home: &Path) -> (i32, Value) {
    let output = run(home, &[&JOIN[..], &["--json"]].concat());
    let error = serde_json::from_slice(&output.stderr).unwrap();
    (output.status.code().unwrap(), error)
}

#[test]
fn a_second_daemon_of_a_home_is_refused_and_the_first_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let home = root.path().join("home");
    let first = Daemon::start(&home, &JOIN);
    let hello = example("hello/hello.wat");
    assert!(run(&home, &["job", "run", &hello]).status.success());
    let before = files(&home);
    let (status, error) = refusal(&home);
    assert_eq!(error["error_code"], "state_contention", "{error}");
    assert_ne!(status, 0);
    assert_eq!(files(&home), before);
    assert!(run(&home, &["job", "run", &hello]).status.success());
    let jobs = json(&home, &["job", "list"]);
    let done = jobs.as_array().unwrap().iter();
    assert_eq!(
        done.filter(|job| job["receipt_verified"] == true).count(),
        2
    );
    assert!(first.stop());
    // All of it is there for the next one.
    let next = Daemon::start(&home, &JOIN);
    assert_eq!(json(&home, &["job", "list"]).as_array().unwrap().len(), 2);
    assert!(next.stop());
}

#[cfg(target_os = "linux")]
#[test]
fn a_daemon_leaves_no_core_dump() {
    let root = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&root.path().join("home"), &JOIN);
    assert_eq!(core_limits(daemon.pid()), ["0", "0"]);
}

/// The largest core dump that a process may leave, and may let itself leave.
#[cfg(target_os = "linux")]
fn core_limits(pid: u32) -> Vec<String> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let mut lines = limits.lines();
    let core = lines.find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().collect();
    words[4..6].iter().map(ToString::to_string).collect()
}
