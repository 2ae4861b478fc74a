//! Real daemons for the tests: processes of the built binary, each with a home of its own, ended when dropped.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before the test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The program under test, with no home of the user's in reach.
pub fn worldcompute(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worldcompute"));
    for variable in worldcompute_node::VARIABLES {
        command.env_remove(variable);
    }
    command
        .env_remove("WORLDCOMPUTE_BOOTSTRAP_SEEDS")
        .env_remove("WORLDCOMPUTE_LOG")
        .env("WORLDCOMPUTE_HOME", home);
    command
}

/// Runs it to its end.
pub fn run(home: &Path, arguments: &[&str]) -> Output {
    worldcompute(home)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs it to its end, expects success, and reads its JSON.
pub fn json(home: &Path, arguments: &[&str]) -> Value {
    let output = run(home, &[arguments, &["--json"]].concat());
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Bytes of a program's output, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A daemon that ends with the test.
pub struct Daemon {
    child: Child,
    home: PathBuf,
    /// Who it is.
    pub peer_id: String,
    /// Where it is reached.
    pub addresses: Vec<String>,
}

impl Daemon {
    /// Starts one and waits until it says that it is ready.
    pub fn start(home: &Path, arguments: &[&str]) -> Self {
        Self::start_in(home, home, arguments)
    }

    /// The same where the variable for homes says one thing, and the node makes another of it.
    fn start_in(variable: &Path, home: &Path, arguments: &[&str]) -> Self {
        let mut child = worldcompute(variable)
            .args(arguments)
            .args(["--json", "--end-with-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{arguments:?} did not start: {}", last_log_lines(home)));
        let addresses = ready["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap().to_owned())
            .collect();
        Self {
            child,
            home: home.to_owned(),
            peer_id: ready["peer_id"].as_str().unwrap().to_owned(),
            addresses,
        }
    }

    /// A relay on loopback, whose home is `relay` in that of the user.
    pub fn relay(root: &Path) -> Self {
        let arguments = ["relay", "--port", "0", "--no-mdns"];
        Self::start_in(root, &root.join("relay"), &arguments)
    }

    /// A donor that is reached through `relay` only.
    pub fn donor(root: &Path, name: &str, relay: &Self, more: &[&str]) -> Self {
        let bootstrap = relay.loopback();
        let arguments = [
            &[
                "donor",
                "join",
                "--circuit-only",
                "--no-mdns",
                "--bootstrap",
                &bootstrap,
            ],
            more,
        ]
        .concat();
        Self::start(&root.join(name), &arguments)
    }

    /// Its TCP address on loopback.
    pub fn loopback(&self) -> String {
        self.addresses
            .iter()
            .find(|one| one.starts_with("/ip4/127.0.0.1/tcp/"))
            .unwrap()
            .clone()
    }

    /// Its home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without a warning, as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and says whether it did so in order.
    pub fn stop(mut self) -> bool {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().success()
    }

    /// Waits until it sees this many donors, itself included.
    pub fn sees_donors(&self, count: u64) {
        until("the donors are seen", || {
            json(&self.home, &["cluster", "status"])["donors"]
                .as_u64()
                .unwrap()
                >= count
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Asks again and again until `condition` holds; gives up, loudly, after [`PATIENCE`].
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "gave up waiting until {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Writes a file of the test's, and gives its path as text.
pub fn file(directory: &Path, name: &str, content: &str) -> String {
    let path = directory.join(name);
    std::fs::File::create(&path)
        .unwrap()
        .write_all(content.as_bytes())
        .unwrap();
    path.display().to_string()
}

/// Where the examples are.
pub fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name)
        .canonicalize()
        .unwrap()
        .display()
        .to_string()
}

fn last_log_lines(home: &Path) -> String {
    let log = std::fs::read_to_string(home.join("log/daemon.log")).unwrap_or_default();
    log.lines().rev().take(5).collect::<Vec<_>>().join("\n")
}
