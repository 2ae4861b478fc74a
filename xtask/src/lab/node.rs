//! A node of World Compute in the lab: the real program, as a process in a namespace.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::namespace::Namespace;
use super::stop::Stop;
use crate::shell::{Failure, Result};

/// A node says that it is up within this time.
const START_TIME: Duration = Duration::from_secs(30);
/// A node that is told to end has ended within this time.
const END_TIME: Duration = Duration::from_secs(5);
/// Between two looks at whether a process has ended.
const LOOK: Duration = Duration::from_millis(20);
/// The most of a log that is read.
const MAX_LOG: u64 = 16 << 20;

/// A daemon, until it is dropped.
pub struct Node<'a> {
    namespace: &'a Namespace,
    program: &'a Path,
    home: PathBuf,
    child: Child,
    /// Who it is.
    pub peer: String,
    /// Where others are to reach it.
    pub addresses: Vec<String>,
}

/// What became of one address that a node dialled, by its log.
pub struct Dial {
    pub peer: String,
    pub address: String,
    pub transport: String,
    pub outcome: String,
    pub root_cause: String,
}

impl<'a> Node<'a> {
    /// Starts a daemon, and waits until it says that it is up. `Err` within is why it did not.
    pub fn start(
        namespace: &'a Namespace,
        program: &'a Path,
        home: PathBuf,
        arguments: &[&str],
        stop: &Stop,
    ) -> Result<std::result::Result<Self, String>> {
        let mut child = command(namespace, program, &home)
            .args(arguments)
            .arg("--end-with-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                Failure::new(format!("cannot start {}: {error}", program.display()))
            })?;
        let printed = child.stdout.take().map(lines);
        let mut node = Self {
            namespace,
            program,
            home,
            child,
            peer: String::new(),
            addresses: Vec::new(),
        };
        let line = printed
            .map(|printed| within(&printed, START_TIME, stop))
            .transpose()?
            .flatten();
        let ready: Value = line
            .and_then(|line| serde_json::from_str(&line).ok())
            .unwrap_or_default();
        node.peer = text(&ready, "peer_id");
        node.addresses = strings(&ready, "addresses");
        match node.peer.is_empty() {
            true => Ok(Err(format!("it did not start: {}", node.last_words()))),
            false => Ok(Ok(node)),
        }
    }

    /// Runs a command of the same node, for at most `patience`; what it printed. `None` when it took longer.
    pub fn ask(
        &self,
        arguments: &[&str],
        patience: Duration,
        stop: &Stop,
    ) -> Result<Option<String>> {
        let mut command = command(self.namespace, self.program, &self.home);
        command.args(arguments);
        run_for(command, patience, stop)
    }

    /// The same, where JSON is printed. `Null` when there was none in time.
    pub fn ask_json(&self, arguments: &[&str], patience: Duration, stop: &Stop) -> Result<Value> {
        let printed = self.ask(arguments, patience, stop)?;
        Ok(printed
            .and_then(|printed| serde_json::from_str(&printed).ok())
            .unwrap_or_default())
    }

    /// Every dial of the node so far.
    pub fn dials(&self) -> Vec<Dial> {
        let log = self.log();
        let records = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let dials = records.filter(|record| text(record, "message") == "dial");
        let dials = dials.filter_map(|record| record.get("fields").cloned());
        dials
            .map(|fields| Dial {
                peer: text(&fields, "peer"),
                address: text(&fields, "address"),
                transport: text(&fields, "transport"),
                outcome: text(&fields, "outcome"),
                root_cause: text(&fields, "root_cause"),
            })
            .collect()
    }

    fn last_words(&self) -> String {
        let log = self.log();
        let last: Value = log
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_default();
        match text(&last, "message") {
            message if message.is_empty() => "it left no log".to_owned(),
            message => message,
        }
    }

    fn log(&self) -> String {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(self.home.join("log/daemon.log"));
        // A node that left no log has said nothing.
        let _ = file.and_then(|file| file.take(MAX_LOG).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Node<'_> {
    /// Closing its standard input ends a node in order; one that does not listen is killed.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let unhurried = Stop::default();
        let deadline = Instant::now() + END_TIME;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            // Nobody tells this one to stop.
            let _ = unhurried.wait(LOOK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command for at most `patience`; what it printed, whatever it came to. `None` when it took longer.
pub fn run_for(mut command: Command, patience: Duration, stop: &Stop) -> Result<Option<String>> {
    let failed =
        |error: std::io::Error| Failure::new(format!("cannot run a command of a node: {error}"));
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let printed = child.stdout.take().map(|mut stdout| {
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text);
            text
        })
    });
    let deadline = Instant::now() + patience;
    let mut told = Ok(());
    let mut ended = false;
    while !ended && told.is_ok() && Instant::now() < deadline {
        told = stop.wait(LOOK);
        ended = child.try_wait().map_err(failed)?.is_some();
    }
    if !ended {
        let _ = child.kill();
        let _ = child.wait();
    }
    told?;
    let text = printed
        .and_then(|printed| printed.join().ok())
        .unwrap_or_default();
    Ok(ended.then_some(text))
}

/// Text in an object, or nothing.
pub fn text(object: &Value, name: &str) -> String {
    let value = object.get(name).and_then(Value::as_str);
    value.unwrap_or_default().to_owned()
}

fn strings(object: &Value, name: &str) -> Vec<String> {
    let values = object.get(name).and_then(Value::as_array);
    let values = values.into_iter().flatten();
    values
        .filter_map(|value| value.as_str().map(String::from))
        .collect()
}

/// Nothing of the environment of this process changes what a node does.
fn command(namespace: &Namespace, program: &Path, home: &Path) -> Command {
    let mut command = namespace.command(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .arg("--home")
        .arg(home)
        .arg("--json")
        .process_group(0);
    command
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(from)
            .lines()
            .map_while(std::result::Result::ok);
        // To its end, so that the node never writes in vain; nobody listens after the first.
        lines.for_each(|line| drop(sender.send(line)));
    });
    receiver
}

/// The next line, within a time.
fn within(lines: &Receiver<String>, time: Duration, stop: &Stop) -> Result<Option<String>> {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        stop.check()?;
        match lines.recv_timeout(LOOK) {
            Ok(line) => return Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(None)
}
