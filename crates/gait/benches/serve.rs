//! How long a decision takes when it is asked of `gait gate serve` over its socket, on one connection, and of the
//! one-shot `gait gate eval`, both of this build and in this run. The promise is a p99 under 1 ms served and a p50 under
//! 5 ms one-shot.
//!
//! Evidence that has to be on stable storage costs what the disk costs, which is measured beside it.

#![expect(clippy::expect_used, reason = "a benchmark has nobody to report to")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use worldcompute_durable::{Mode, write_atomic};

const POLICY: &str = "\
default_verdict: block
fail_closed: {enabled: true, required_fields: [targets]}
rules:
  - {name: secrets, priority: 1, effect: block, match: {data_classes: [secret]}}
  - name: read
    priority: 2
    effect: allow
    match: {tool_names: [tool.read], risk_classes: [low, medium]}
    endpoint: {path_allowlist: ['/srv/app/**']}
";
/// Questions timed one by one.
const SERVED: usize = 5_000;
/// The same where every answer waits for the disk or for a new process.
const SLOW: usize = 300;

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    put(dir.path(), "policy.yaml", POLICY.as_bytes());
    put(dir.path(), "intent.json", intent().to_string().as_bytes());
    let keys = run(dir.path(), &["keys", "init", "--out-dir", "keys"]);
    assert!(keys, "keys are made");
    println!("\ngate serve over a Unix socket, one connection, beside gate eval");
    report("process: gait --version", SLOW, || {
        run(dir.path(), &["--version"])
    });
    report("disk: one file of 2 KiB made durable", SLOW, || {
        put(dir.path(), "file", &[b'x'; 2048]);
        true
    });
    for (what, traces, samples) in [
        ("served, the answer carries its trace", "", SERVED),
        ("served, the trace is on the disk", "traces", SLOW),
    ] {
        let mut service = Service::start(dir.path(), traces);
        service.ask();
        report(what, samples, || service.ask());
    }
    report("one-shot, the trace is on the disk", SLOW, || {
        run(dir.path(), &eval("trace.json"))
    });
    let memory = Path::new("/dev/shm");
    match tempfile::tempdir_in(memory) {
        Ok(memory) => {
            let trace = memory.path().join("trace.json").display().to_string();
            report("one-shot, the trace is in memory", SLOW, || {
                run(dir.path(), &eval(&trace))
            });
        }
        Err(_) => println!("one-shot, the trace is in memory: skipped, there is no /dev/shm"),
    }
}

const SIGNED: [&str; 4] = [
    "--key-mode",
    "prod",
    "--private-key",
    "keys/gait_private.key",
];

fn eval(trace: &str) -> Vec<&str> {
    let words = ["gate", "eval", "--policy", "policy.yaml", "--json"];
    let paths = ["--intent", "intent.json", "--trace-out", trace];
    [&words[..], &paths, &SIGNED].concat()
}

fn intent() -> Value {
    json!({
        "tool_name": "tool.read",
        "args": {"path": "/srv/app/config.yaml", "lines": [1, 200], "encoding": "utf-8"},
        "targets": [{"kind": "path", "value": "/srv/app/config.yaml", "operation": "read", "endpoint_class": "fs.read"}],
        "context": {"identity": "alice", "workspace": "/srv/app", "risk_class": "low", "session_id": "s1"},
    })
}

fn put(dir: &Path, name: &str, bytes: &[u8]) {
    write_atomic(&dir.join(name), bytes, Mode::Private).expect("a file");
}

fn gait(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gait"));
    command
        .args(words)
        .current_dir(dir)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn run(dir: &Path, words: &[&str]) -> bool {
    gait(dir, words)
        .status()
        .is_ok_and(|status| status.success())
}

/// A running service, and one connection to it.
struct Service {
    child: Child,
    stream: BufReader<UnixStream>,
    request: Vec<u8>,
}

impl Service {
    fn start(dir: &Path, traces: &str) -> Self {
        let words = ["gate", "serve", "--policy", "policy.yaml", "--json"];
        let words = [&words[..], &["--trace-dir", traces], &SIGNED].concat();
        let mut child = gait(dir, &words)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a service");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("an output"))
            .read_line(&mut line)
            .expect("a first line");
        let started: Value = serde_json::from_str(&line).expect("JSON");
        let socket = started.get("listen").and_then(Value::as_str);
        let socket = dir.join(socket.expect("a socket"));
        let body = json!({ "intent": intent() }).to_string();
        let request = format!(
            "POST /v1/eval HTTP/1.1\r\nhost: gate\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            child,
            stream: BufReader::new(UnixStream::connect(socket).expect("a connection")),
            request: request.into_bytes(),
        }
    }

    /// Whether the gate allowed.
    fn ask(&mut self) -> bool {
        self.stream
            .get_mut()
            .write_all(&self.request)
            .expect("a request");
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a head");
            if let Some(text) = line.strip_prefix("content-length: ") {
                length = text.trim().parse().expect("a length");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        let allowed = br#""verdict":"allow""#;
        body.windows(allowed.len()).any(|part| part == allowed)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().expect("the service runs");
        self.child.wait().expect("the service ends");
    }
}

fn report(what: &str, samples: usize, mut once: impl FnMut() -> bool) {
    let mut times: Vec<Duration> = (0..samples)
        .map(|_| {
            let start = Instant::now();
            let done = once();
            let elapsed = start.elapsed();
            assert!(done, "{what} fails");
            elapsed
        })
        .collect();
    times.sort_unstable();
    let at = |percent: usize| {
        let time = times.get(times.len() * percent / 100);
        time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    println!(
        "  {what}: p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms of {samples}",
        at(50),
        at(90),
        at(99)
    );
}
