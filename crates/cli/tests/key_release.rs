//! The keys of a node's store are given out when its policy says so, and on record.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{example, json, run, text};
use worldcompute_node::durable::{Mode, write_atomic};

/// A node that has run one job of its own.
struct Node {
    root: tempfile::TempDir,
    peer: String,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home");
        let peer = json(&home, &["donor", "enroll"])["peer_id"].clone();
        let node = Self {
            root,
            peer: peer.as_str().unwrap().to_owned(),
        };
        assert_eq!(node.hello(), Ok("hello\n".to_owned()));
        node
    }

    fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// What the job printed, or the fault that it ended in.
    fn hello(&self) -> Result<String, Value> {
        let hello = example("hello/hello.wat");
        let output = run(&self.home(), &["job", "run", &hello, "--json"]);
        match output.status.success() {
            true => {
                let again = run(&self.home(), &["job", "run", &hello]);
                Ok(text(&again.stdout))
            }
            false => Err(serde_json::from_slice(&output.stderr).unwrap()),
        }
    }

    fn record(&self) -> PathBuf {
        self.home().join("evidence/keys.jsonl")
    }

    fn verify(&self, file: &Path) -> (bool, Value) {
        let file = file.to_str().unwrap();
        let arguments = ["verify", file, "--submitter", &self.peer, "--json"];
        let output = run(&self.home(), &arguments);
        let told = if output.status.success() {
            output.stdout
        } else {
            output.stderr
        };
        (
            output.status.success(),
            serde_json::from_slice(&told).unwrap(),
        )
    }
}

fn put(path: &Path, text: &str) {
    write_atomic(path, text.as_bytes(), Mode::Private).unwrap();
}

#[test]
fn what_a_policy_keeps_back_is_not_given_out_and_the_job_says_so() {
    let node = Node::new();
    let policy = node.home().join("policy/keys.yaml");
    let starter = fs::read_to_string(&policy).unwrap();
    for label in ["key:store", "key:job", "key:receipt"] {
        let without = starter
            .lines()
            .filter(|line| !line.contains(&format!("{label}\"")));
        put(&policy, &without.collect::<Vec<_>>().join("\n"));
        let fault = node.hello().unwrap_err();
        assert_eq!(fault["error_code"], "key_release_denied", "{fault}");
        assert!(fault["error"].as_str().unwrap().contains(label), "{fault}");
    }
    for (text, code) in [("{}", "key_release_denied"), ("rules: [", "policy_invalid")] {
        put(&policy, text);
        assert_eq!(node.hello().unwrap_err()["error_code"], code, "{text}");
    }
    fs::remove_file(&policy).unwrap();
    assert_eq!(
        node.hello(),
        Ok("hello\n".to_owned()),
        "the starter is back"
    );
    assert_eq!(fs::read_to_string(&policy).unwrap(), starter);
}

#[test]
fn the_record_of_the_keys_verifies_and_what_is_changed_in_it_shows() {
    let node = Node::new();
    let (good, report) = node.verify(&node.record());
    assert!(good, "{report}");
    assert_eq!(report["artefact"], "session");
    let decisions = report["decisions"].as_u64().unwrap();
    assert!(decisions >= 2, "the store and its jobs: {report}");

    let copy = node.root.path().join("copy.jsonl");
    let record = fs::read_to_string(node.record()).unwrap();
    assert_eq!(record.lines().count() as u64, decisions);
    assert!(record.contains("worldcompute.key.release"));
    let second = record.lines().nth(1).unwrap();
    for changed in [
        record.replace(&format!("{second}\n"), ""),
        record.replacen("\"verdict\":\"allow\"", "\"verdict\":\"block\"", 1),
        format!("{record}{second}\n"),
    ] {
        put(&copy, &changed);
        let (good, fault) = node.verify(&copy);
        assert!(!good, "{fault}");
        let error = fault["error"].as_str().unwrap();
        assert!(error.starts_with("copy.jsonl: record "), "{error}");
    }
}
