//! The demo's cluster: a relay and two donors as processes of their own, and the submitter in this one.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::api::Client;
use worldcompute_node::{
    Config, Home, Node, NodeOptions, Roles, Running, Storage, VARIABLES, durable,
};

use super::progress::Progress;
use crate::commands::daemon::{Ready, first_line};

/// How long one node may take to start, its first reservation included.
const START_TIME: Duration = Duration::from_secs(30);

/// How long a node may take to end when its standard input closes, before it is killed.
const STOP_TIME: Duration = Duration::from_secs(5);

/// Between two looks at who is there.
const MEETING_POLL: Duration = Duration::from_millis(50);

const DONORS: [&str; 2] = ["donor-a", "donor-b"];

/// What runs, and the directory that goes with it.
pub struct Cluster {
    directory: tempfile::TempDir,
    children: Vec<Child>,
    submitter: Option<Running>,
}

impl Cluster {
    /// An empty cluster in a private temporary directory.
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("worldcompute-demo-")
            .tempdir()
            .map_err(|error| Fault::io("make a directory for the demo", &error))?;
        Ok(Self {
            directory,
            children: Vec::new(),
            submitter: None,
        })
    }

    /// Starts the relay, then the donors behind it, then the submitter.
    pub async fn start(&mut self, progress: &Progress) -> Result<()> {
        progress.step("starting a relay");
        let relay = self
            .spawn(
                "relay",
                &["relay", "--port", "0", "--no-mdns", "--no-default-relays"],
            )
            .await?;
        let address = loopback_address(&relay)?;
        for donor in DONORS {
            progress.step(&format!("starting {donor} behind the relay"));
            self.spawn(
                donor,
                &[
                    "donor",
                    "join",
                    "--circuit-only",
                    "--no-mdns",
                    "--bootstrap",
                    &address,
                ],
            )
            .await?;
        }
        progress.step("starting the submitter");
        self.submitter = Some(self.submitter(address).await?);
        Ok(())
    }

    /// Waits until the submitter sees both donors.
    pub async fn meet(&self, patience: Duration) -> Result<()> {
        let client = self.client()?;
        let all_there = async {
            while client.cluster_status().await?.donors < DONORS.len() {
                tokio::time::sleep(MEETING_POLL).await;
            }
            Ok(())
        };
        tokio::time::timeout(patience, all_there)
            .await
            .unwrap_or_else(|_| Err(never_met()))
    }

    /// A client of the submitter.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::new(self.home("submitter").socket()))
    }

    /// How a person speaks to what is kept.
    pub fn how_to_talk(&self) -> String {
        let submitter = self.path("submitter").display().to_string();
        let mut lines = vec![
            "\nThe cluster stays up until Ctrl-C. In another terminal:".to_owned(),
            format!("  worldcompute --home {submitter} cluster peers"),
            format!("  worldcompute --home {submitter} job run examples/hello/hello.wat"),
            format!(
                "  worldcompute --home {submitter} job submit examples/mandelbrot/job.yaml --watch"
            ),
        ];
        lines.extend(DONORS.map(|donor| {
            format!(
                "  worldcompute --home {} donor status",
                self.path(donor).display()
            )
        }));
        lines.join("\n")
    }

    /// Ends everything: the submitter first, so that nobody sees a donor vanish; then the processes; then the directory.
    pub async fn stop(mut self) -> Result<()> {
        let stopped = match self.submitter.take() {
            Some(submitter) => submitter.stop().await,
            None => Ok(()),
        };
        for child in self.children.iter_mut().rev() {
            end(child).await;
        }
        self.directory
            .close()
            .map_err(|error| Fault::io("remove the demo's directory", &error))?;
        stopped
    }

    async fn submitter(&self, bootstrap: String) -> Result<Running> {
        let config = Config {
            circuit_only: true,
            mdns: false,
            bootstrap: vec![bootstrap],
            ..Config::default()
        };
        Node::start(NodeOptions {
            home: self.home("submitter"),
            config,
            roles: Roles::SUBMITTER,
            exact_port: false,
            storage: Storage::InHome,
        })
        .await
    }

    async fn spawn(&mut self, name: &str, arguments: &[&str]) -> Result<Ready> {
        let program =
            std::env::current_exe().map_err(|error| Fault::io("find this program", &error))?;
        let mut command = Command::new(program);
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        let mut child = command
            .arg("--home")
            .arg(self.path(name))
            .arg("--json")
            .args(arguments)
            .arg("--end-with-stdin")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Fault::io(format!("start {name}"), &error))?;
        let ready = tokio::time::timeout(START_TIME, first_line(&mut child)).await;
        self.children.push(child);
        let line = ready
            .unwrap_or_default()
            .ok_or_else(|| did_not_start(name, &self.home(name)))?;
        serde_json::from_str(&line).map_err(|_| did_not_start(name, &self.home(name)))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn home(&self, name: &str) -> Home {
        Home::at(self.path(name))
    }
}

/// Closing its standard input ends a node in order; one that does not listen is killed.
async fn end(child: &mut Child) {
    drop(child.stdin.take());
    if tokio::time::timeout(STOP_TIME, child.wait()).await.is_err() {
        drop(child.kill().await);
    }
}

fn loopback_address(relay: &Ready) -> Result<String> {
    let on_loopback = |address: &&String| address.starts_with("/ip4/127.0.0.1/tcp/");
    relay
        .addresses
        .iter()
        .find(on_loopback)
        .cloned()
        .ok_or_else(|| {
            Fault::new(
                Category::NetworkPermanent,
                "no_loopback",
                "the relay does not listen on 127.0.0.1",
            )
            .hint("bring the loopback interface up: ip link set lo up")
        })
}

/// The log is read now: the directory is gone by the time the user sees this.
fn did_not_start(name: &str, home: &Home) -> Fault {
    Fault::new(
        Category::InternalFailure,
        "node_did_not_start",
        format!("{name} did not start: {}", last_words(&home.log())),
    )
    .hint("try the same by hand: 'worldcompute relay' and 'worldcompute donor join'")
}

fn last_words(log: &Path) -> String {
    let text = durable::read_bounded(log, 1 << 20).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().last().unwrap_or("it left no log").to_owned()
}

fn never_met() -> Fault {
    Fault::new(
        Category::NetworkTransient,
        "donors_not_seen",
        "the donors did not appear through the relay in time",
    )
    .hint("run again with --log info to see every dial and its outcome")
}
