//! A donor that has left: nothing of it is there any more but what its user has in another role.
#![cfg(target_os = "linux")]
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use support::{Daemon, example, file, json, run, text, until};
use worldcompute_proof::Cid;

const SPINS: &str = r#"(module (func (export "_start") (loop $again (br $again))))"#;

/// What somebody else has run here.
const THEIRS: &str = r#"(module (func (export "_start") nop))"#;

/// A user of their own: home, data, configuration, cache, runtime and temporary files below one folder.
struct Machine {
    root: tempfile::TempDir,
}

/// Files with their contents, processes, mounts and sockets that have to do with a machine.
#[derive(Debug, PartialEq)]
struct Snapshot {
    files: BTreeMap<PathBuf, Vec<u8>>,
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    sockets: BTreeSet<String>,
}

impl Machine {
    const FOLDERS: [(&str, &str); 7] = [
        ("HOME", "home"),
        ("XDG_DATA_HOME", "data"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_STATE_HOME", "state"),
        ("XDG_RUNTIME_DIR", "runtime"),
        ("TMPDIR", "tmp"),
    ];

    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for (_, folder) in Self::FOLDERS {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        Self { root }
    }

    /// The program as this user starts it, with no home named.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = support::worldcompute(Path::new(""));
        command.env_remove("WORLDCOMPUTE_HOME").args(arguments);
        for (variable, folder) in Self::FOLDERS {
            command.env(variable, self.root.path().join(folder));
        }
        command.current_dir(self.root.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn node(&self) -> PathBuf {
        self.root.path().join("data/worldcompute")
    }

    /// A donor that is reached through `relay`, and that only this user's commands end.
    fn join(&self, relay: &Daemon) -> Child {
        let relay = relay.loopback();
        let join = ["donor", "join", "--circuit-only", "--no-mdns", "--json"];
        let mut donor = self
            .command(&[&join[..], &["--bootstrap", &relay]].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(donor.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "{line}");
        donor
    }

    /// Whether these bytes are in the content store.
    fn has_content(&self, bytes: &[u8]) -> bool {
        let mut files = BTreeMap::new();
        walk(&self.node().join("content/objects"), &mut files);
        let name = Cid::raw(bytes).to_string();
        files.keys().any(|path| path.ends_with(&name))
    }

    fn snapshot(&self) -> Snapshot {
        let mut files = BTreeMap::new();
        walk(self.root.path(), &mut files);
        let mine = self.root.path().to_str().unwrap();
        let lines = |path: &str| {
            let all = fs::read_to_string(path).unwrap();
            let lines = all.lines().filter(|line| line.contains(mine));
            lines.map(str::to_owned).collect()
        };
        Snapshot {
            files,
            processes: processes(mine),
            mounts: lines("/proc/self/mountinfo"),
            sockets: lines("/proc/net/unix"),
        }
    }
}

fn walk(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        let bytes = match kind.is_file() {
            true => fs::read(&path).unwrap(),
            false => format!("{kind:?}").into_bytes(),
        };
        if kind.is_dir() {
            walk(&path, files);
        }
        files.insert(path, bytes);
    }
}

/// Whatever runs with this in its environment: what the program started inherits it.
fn processes(mine: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        if text(&environment).contains(mine) {
            found.insert(path.display().to_string());
        }
    }
    found
}

/// A job of the relay's user on its only donor, which runs and does not end.
fn endless(relay: &Daemon, machine: &Machine) -> String {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "spins.wat", SPINS);
    let document = "{apiVersion: worldcompute/v1, kind: Job, metadata: {name: endless}, spec: {wasm: spins.wat}}";
    let manifest = file(folder.path(), "job.yaml", document);
    let submitted = json(relay.home(), &["job", "submit", &manifest]);
    until("the donor runs it", || {
        machine.json(&["donor", "status"])["running"] == 1
    });
    submitted["job_id"].as_str().unwrap().to_owned()
}

#[test]
fn leaving_with_everything_in_the_middle_of_a_job_leaves_the_machine_as_it_was() {
    let (machine, others) = (Machine::new(), tempfile::tempdir().unwrap());
    let relay = Daemon::relay(others.path());
    let before = machine.snapshot();
    let mut donor = machine.join(&relay);
    relay.sees_donors(1);
    let hello = run(relay.home(), &["job", "run", &example("hello/hello.wat")]);
    assert!(hello.status.success(), "{}", text(&hello.stderr));
    let job = endless(&relay, &machine);
    assert_ne!(machine.snapshot(), before);

    let left = machine.json(&["donor", "leave", "--all"]);
    assert!(donor.wait().unwrap().success());
    assert_eq!(machine.snapshot(), before);
    assert_eq!(
        (&left["state"], &left["running"]),
        (&"leaving".into(), &0.into())
    );
    assert_eq!(left["was_donor"], true);
    assert_eq!(
        (&left["kept"], &left["residue"]),
        (&Value::Array(vec![]), &Value::Array(vec![]))
    );
    let removed = left["removed"].as_array().unwrap();
    assert!(removed.contains(&machine.node().display().to_string().into()));
    let status = json(relay.home(), &["job", "status", &job]);
    assert_eq!(
        status["tasks"]["failed"], 0,
        "handed back, not failed: {status}"
    );
    assert!(status["ended_at"].is_null(), "{status}");

    let again = machine.json(&["donor", "leave", "--all"]);
    assert_eq!(
        (&again["was_donor"], &again["removed"]),
        (&false.into(), &Value::Array(vec![]))
    );
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn leaving_takes_what_was_the_donor_s_and_leaves_the_user_identity_jobs_and_evidence() {
    let (machine, others) = (Machine::new(), tempfile::tempdir().unwrap());
    let relay = Daemon::relay(others.path());
    let mut donor = machine.join(&relay);
    relay.sees_donors(1);
    let theirs = file(others.path(), "theirs.wat", THEIRS);
    let ran = run(relay.home(), &["job", "run", &theirs]);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    assert!(machine.has_content(THEIRS.as_bytes()));
    let own = machine.run(&["job", "run", &example("hello/hello.wat")]);
    assert!(own.status.success(), "{}", text(&own.stderr));
    let jobs = machine.json(&["job", "list"]);
    let identity = fs::read(machine.node().join("identity.key")).unwrap();

    let left = machine.json(&["donor", "leave"]);
    assert!(donor.wait().unwrap().success());
    assert!(left["answers"].as_u64().unwrap() >= 1, "{left}");
    let removed: Vec<&str> = left["removed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| path.as_str().unwrap())
        .collect();
    for gone in ["donor", "policy/donor.yaml"] {
        let path = machine.node().join(gone);
        assert!(removed.contains(&path.to_str().unwrap()), "{left}");
        assert!(!path.exists());
    }
    assert!(!machine.node().join("run/control.sock").exists());
    assert!(!machine.has_content(THEIRS.as_bytes()));
    assert!(machine.has_content(&fs::read(example("hello/hello.wat")).unwrap()));
    let twice = machine.json(&["donor", "leave"]);
    assert_eq!(
        (&twice["was_donor"], &twice["answers"]),
        (&false.into(), &0.into())
    );

    assert_eq!(
        fs::read(machine.node().join("identity.key")).unwrap(),
        identity
    );
    let mut donor = machine.join(&relay);
    assert_eq!(machine.json(&["job", "list"]), jobs);
    let job = jobs[0]["job_id"].as_str().unwrap();
    let result = machine.run(&["job", "results", job]);
    assert!(result.status.success(), "{}", text(&result.stderr));
    assert_eq!(machine.json(&["donor", "leave"])["was_donor"], true);
    assert!(donor.wait().unwrap().success());
}

#[test]
fn a_donor_that_was_killed_leaves_nothing_either() {
    let (machine, others) = (Machine::new(), tempfile::tempdir().unwrap());
    let relay = Daemon::relay(others.path());
    let before = machine.snapshot();
    let mut donor = machine.join(&relay);
    donor.kill().unwrap();
    donor.wait().unwrap();
    let socket = machine.node().join("run/control.sock");
    assert!(socket.symlink_metadata().is_ok());
    let left = machine.json(&["donor", "leave"]);
    assert_eq!(left["was_donor"], true, "{left}");
    assert!(socket.symlink_metadata().is_err());
    machine.json(&["donor", "leave", "--all"]);
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn a_home_that_is_no_donor_s_says_so_and_is_not_made() {
    let machine = Machine::new();
    let before = machine.snapshot();
    let left = machine.json(&["donor", "leave"]);
    assert_eq!(
        (&left["was_donor"], &left["removed"]),
        (&false.into(), &Value::Array(vec![]))
    );
    let words = machine.run(&["donor", "leave"]);
    assert!(words.status.success() && text(&words.stdout).contains("no donor's"));
    assert_eq!(machine.snapshot(), before);
}

#[test]
fn files_that_are_no_node_s_stay_and_are_told() {
    let machine = Machine::new();
    machine.json(&["donor", "enroll"]);
    let mine = file(&machine.node(), "mine.txt", "mine");
    let left = machine.json(&["donor", "leave", "--all"]);
    assert_eq!(left["kept"], Value::Array(vec![mine.clone().into()]));
    assert_eq!(fs::read(&mine).unwrap(), b"mine");
    let entries = fs::read_dir(machine.node()).unwrap();
    assert_eq!(entries.count(), 1);
}
