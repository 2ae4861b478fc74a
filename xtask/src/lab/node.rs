//! A node of World Compute in the lab: the real program, as a process in a namespace.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::namespace::Namespace;
use super::stop::Stop;
use crate::shell::{Failure, Result};

/// What a command that only asks may take.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);

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

/// A line of a node's log.
pub struct Record {
    /// When, in milliseconds since 1970.
    pub at: u64,
    fields: Value,
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
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                Failure::new(format!("cannot start {}: {error}", program.display()))
            })?;
        let printed = child.stdout.take().map(lines);
        let errors = child.stderr.take().map(all);
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
        if !node.peer.is_empty() {
            return Ok(Ok(node));
        }
        node.end();
        let err = errors.and_then(|errors| errors.join().ok());
        let out = String::new();
        let said = Said {
            out,
            err: err.unwrap_or_default(),
        };
        Ok(Err(format!("it did not start: {}", node.last_words(&said))))
    }

    /// Runs a command of the same node, for at most `patience`; what it printed. `None` when it took longer.
    pub fn ask(&self, arguments: &[&str], patience: Duration, stop: &Stop) -> Result<Option<Said>> {
        let mut command = command(self.namespace, self.program, &self.home);
        command.args(arguments);
        run_for(command, patience, stop)
    }

    /// The same, where JSON is printed; `Null` when there was none in time.
    pub fn ask_json(&self, arguments: &[&str], patience: Duration, stop: &Stop) -> Result<Value> {
        let said = self.ask(arguments, patience, stop)?;
        Ok(said.map(|said| said.json()).unwrap_or_default())
    }

    /// What it counted of what came in.
    pub fn inbound(&self, stop: &Stop) -> Result<Value> {
        let status = self.ask_json(&["admin", "status"], ANSWER_TIME, stop)?;
        Ok(status.get("inbound").cloned().unwrap_or_default())
    }

    /// Every dial of the node so far.
    pub fn dials(&self) -> Vec<Dial> {
        let dials = self.records("dial").into_iter();
        dials
            .map(|dial| Dial {
                peer: dial.text("peer"),
                address: dial.text("address"),
                transport: dial.text("transport"),
                outcome: dial.text("outcome"),
                root_cause: dial.text("root_cause"),
            })
            .collect()
    }

    /// Every line of its log so far with this message.
    pub fn records(&self, message: &str) -> Vec<Record> {
        let log = self.log();
        let records = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let meant = records.filter(|record| text(record, "message") == message);
        meant.filter_map(Record::of).collect()
    }

    /// Where it keeps what is its own.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// How many lines it has logged.
    pub fn lines(&self) -> usize {
        self.log().lines().count()
    }

    /// What it takes of the machine's memory, in bytes.
    pub fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        let bytes = kib.map(|kib| kib * 1024);
        bytes.ok_or_else(|| Failure::new(format!("{path} does not tell what the node takes")))
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Lets it do nothing any more, its sockets open.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Undoes [`Self::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|error| Failure::new(format!("cannot signal a node: {error}")))
    }

    fn last_words(&self, said: &Said) -> String {
        let error = text(&said.json(), "error");
        let log = self.log();
        let last = log
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok());
        let logged = text(&last.unwrap_or_default(), "message");
        let words = [error, logged, said.err.trim().to_owned()];
        let first = words.into_iter().find(|words| !words.is_empty());
        first.unwrap_or_else(|| "it said nothing".to_owned())
    }

    /// Closing its standard input ends a node in order; one that does not listen is killed.
    pub fn end(&mut self) {
        drop(self.child.stdin.take());
        let unhurried = Stop::default();
        let deadline = Instant::now() + END_TIME;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            // Nobody tells this one to stop.
            let _ = unhurried.wait(LOOK);
        }
        self.kill();
    }

    fn log(&self) -> String {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(self.home.join("log/daemon.log"));
        // A node that left no log has said nothing.
        let _ = file.and_then(|file| file.take(MAX_LOG).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Record {
    /// What a field says, or nothing.
    pub fn text(&self, name: &str) -> String {
        text(&self.fields, name)
    }

    fn of(line: Value) -> Option<Self> {
        let time: jiff::Timestamp = text(&line, "time").parse().ok()?;
        Some(Self {
            at: u64::try_from(time.as_millisecond()).ok()?,
            fields: line.get("fields").cloned().unwrap_or_default(),
        })
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a command printed.
pub struct Said {
    pub out: String,
    err: String,
}

impl Said {
    /// The data; else the error, of which `error` says what it is.
    pub fn json(&self) -> Value {
        let data = serde_json::from_str(&self.out).ok();
        let error = || {
            let mut lines = self.err.lines().rev();
            lines.find_map(|line| serde_json::from_str(line).ok())
        };
        data.or_else(error).unwrap_or_default()
    }
}

/// Runs a command for at most `patience`; what it printed, whatever it came to. `None` when it took longer.
pub fn run_for(mut command: Command, patience: Duration, stop: &Stop) -> Result<Option<Said>> {
    let failed =
        |error: std::io::Error| Failure::new(format!("cannot run a command of a node: {error}"));
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (out, err) = (child.stdout.take().map(all), child.stderr.take().map(all));
    let deadline = Instant::now() + patience;
    let mut told = Ok(());
    let mut ended = false;
    while !ended && told.is_ok() && Instant::now() < deadline {
        told = stop.wait(LOOK);
        ended = child.try_wait().map_err(failed)?.is_some();
    }
    if !ended {
        // It may have ended just now.
        let _ = child.kill();
        let _ = child.wait();
    }
    told?;
    let text = |reader: Option<JoinHandle<String>>| {
        let read = reader.and_then(|reader| reader.join().ok());
        read.unwrap_or_default()
    };
    let said = Said {
        out: text(out),
        err: text(err),
    };
    Ok(ended.then_some(said))
}

/// Reads to the end, beside whatever else is done.
fn all(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is what there is.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
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
pub fn command(namespace: &Namespace, program: &Path, home: &Path) -> Command {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(out: &str, err: &str) -> Value {
        let (out, err) = (out.to_owned(), err.to_owned());
        Said { out, err }.json()
    }

    #[test]
    fn what_a_command_says_is_its_data_or_its_error() {
        assert_eq!(text(&said(r#"{"a":"b"}"#, r#"{"error":"no"}"#), "a"), "b");
        assert_eq!(
            text(&said("", "warning\n{\"error\":\"no\"}\n"), "error"),
            "no"
        );
        assert!(said("hello", "no JSON").is_null());
    }

    #[test]
    fn a_line_of_the_log_has_a_time_and_fields() {
        let line = serde_json::json!({ "time": "1970-01-01T00:00:01.500Z", "fields": { "state": "Active" } });
        let record = Record::of(line).unwrap();
        assert_eq!(
            (record.at, record.text("state")),
            (1500, "Active".to_owned())
        );
        assert_eq!(record.text("relay"), "");
        assert!(Record::of(serde_json::json!({ "time": "now" })).is_none());
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended_and_has_said_nothing() {
        let run = |script: &str, patience| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            run_for(command, patience, &Stop::default()).unwrap()
        };
        assert!(run("echo begun; exec sleep 600", Duration::from_millis(100)).is_none());
        let done = run("echo done; exit 3", Duration::from_secs(600)).unwrap();
        assert_eq!(done.out, "done\n");
    }
}
