//! The control socket and the end of a daemon: clients that do not behave, and signals at every moment.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use support::{Daemon, example, file, json, run, text, until, worldcompute};

/// Nobody listens there.
const NOWHERE: &str =
    "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

fn donor(home: &Path) -> Daemon {
    Daemon::start(home, &["donor", "join", "--no-mdns", "--port", "0"])
}

/// A directory, and a home in it that is not there yet.
fn place() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let home = root.path().join("home");
    (root, home)
}

fn socket(home: &Path) -> PathBuf {
    home.join("run/control.sock")
}

fn signal(process: &Child, name: &str) {
    let kill = format!("kill -{name} {}", process.id());
    assert!(
        Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
}

/// Sends bytes as they are, and gives status line, content type and body of the answer.
fn ask(home: &Path, request: &[u8]) -> (String, String, String) {
    let mut stream = UnixStream::connect(socket(home)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = text(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.lines().next().unwrap().to_owned();
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "));
    (status, kind.unwrap_or_default().to_owned(), body.to_owned())
}

fn plain(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

#[test]
fn every_refusal_is_a_problem_that_clients_can_read() {
    let (_root, home) = place();
    let daemon = donor(&home);
    let job = "01M7Z4840XS2F837YY6YYVD71E";
    let too_large = "x".repeat((4 << 20) + 1);
    let cases = [
        (plain("GET", "/v1/jobs?limit=many", ""), 400),
        (plain("GET", "/v1/jobs?limit=1&limit=2", ""), 400),
        (plain("POST", "/v1/jobs?patience_ms=-1", "{}"), 400),
        (
            plain("GET", &format!("/v1/jobs/{job}/result/first/stdout"), ""),
            400,
        ),
        (plain("GET", "/v1/jobs/%ff", ""), 400),
        (plain("POST", "/v1/jobs", "{\"manifest\":"), 400),
        (plain("POST", "/v1/jobs", &too_large), 413),
        (plain("GET", "/v1/nothing", ""), 404),
        (plain("PATCH", "/v1/jobs", ""), 405),
    ];
    for (request, expected) in cases {
        let (status, kind, body) = ask(daemon.home(), &request);
        assert!(
            status.contains(&expected.to_string()),
            "{expected}: {status}"
        );
        assert_eq!(kind, "application/problem+json", "{status}: {body}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["status"], expected, "{problem}");
        for member in ["type", "title", "detail", "code", "category", "hint"] {
            assert!(
                problem[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{member}: {problem}"
            );
        }
    }
    assert!(daemon.stop());
}

#[test]
fn the_home_and_the_socket_are_for_their_owner_alone() {
    let (_root, home) = place();
    let daemon = donor(&home);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&socket(&home)), 0o600);
    for directory in [
        "", "run", "log", "keys", "store", "content", "evidence", "policy",
    ] {
        assert_eq!(mode(&home.join(directory)), 0o700, "{directory}");
    }
    for private in [
        "identity.key",
        "config.toml",
        "keys/umk.key",
        "log/daemon.log",
    ] {
        assert_eq!(mode(&home.join(private)), 0o600, "{private}");
    }
    assert!(daemon.stop());
}

#[test]
fn a_client_that_never_finishes_its_request_does_not_hold_up_the_end() {
    let (_root, home) = place();
    let daemon = donor(&home);
    let mut half = UnixStream::connect(socket(&home)).unwrap();
    half.write_all(b"GET /v1/health HTTP/1.1\r\nhost: x\r\n")
        .unwrap();
    let _idle = UnixStream::connect(socket(&home)).unwrap();
    // By its answer, the daemon has read the half.
    assert!(run(&home, &["admin", "status"]).status.success());
    assert!(daemon.stop(), "it ends in order");
    assert!(!socket(&home).exists());
}

#[test]
fn told_to_stop_before_any_relay_answered_it_ends_in_order() {
    for name in ["INT", "TERM", "HUP"] {
        let (_root, home) = place();
        let child = worldcompute(&home)
            .args([
                "donor",
                "join",
                "--no-mdns",
                "--circuit-only",
                "--bootstrap",
                NOWHERE,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("it answers", || {
            run(&home, &["admin", "status"]).status.success()
        });
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}");
        assert!(output.stdout.is_empty(), "nobody could reach it");
        assert!(!socket(&home).exists(), "{name}");
    }
}

#[test]
fn told_to_stop_the_moment_it_is_ready_it_ends_in_order() {
    let (_root, home) = place();
    let mut child = worldcompute(&home)
        .args(["donor", "join", "--no-mdns", "--port", "0", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!socket(&home).exists());
}

#[test]
fn in_the_background_it_is_not_ready_before_it_can_be_reached_and_an_interrupt_leaves_no_daemon() {
    let (_root, home) = place();
    let mut child = worldcompute(&home)
        .args([
            "donor",
            "join",
            "--daemon",
            "--no-mdns",
            "--circuit-only",
            "--bootstrap",
            NOWHERE,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the daemon answers", || {
        run(&home, &["donor", "status"]).status.success()
    });
    assert!(
        child.try_wait().unwrap().is_none(),
        "nobody can reach it yet"
    );
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    assert!(
        text(&output.stderr).contains("interrupted"),
        "{}",
        text(&output.stderr)
    );
    until("no daemon is left", || {
        !run(&home, &["donor", "status"]).status.success()
    });
}

#[test]
fn a_module_run_in_this_process_ends_in_order_when_it_is_interrupted() {
    let root = tempfile::tempdir().unwrap();
    let home = root.path().join("home");
    let module = file(
        root.path(),
        "spins.wat",
        r#"(module (func (export "_start") (loop $again (br $again))))"#,
    );
    let child = worldcompute(&home)
        .args(["job", "run", "--local", &module])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("it answers", || {
        run(&home.join("local"), &["admin", "status"])
            .status
            .success()
    });
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("interrupted"),
        "{}",
        text(&output.stderr)
    );
    assert!(!socket(&home.join("local")).exists());
}

#[test]
fn a_relay_and_a_donor_can_live_by_one_variable() {
    let (_root, home) = place();
    let relay = Daemon::relay(&home);
    let donor = donor(&home);
    assert_ne!(relay.peer_id, donor.peer_id);
    assert!(donor.stop() && relay.stop());
}

#[test]
fn after_a_module_was_run_without_a_daemon_a_donor_listens_all_the_same() {
    let (_root, home) = place();
    let hello = run(&home, &["job", "run", &example("hello/hello.wat")]);
    assert_eq!(text(&hello.stdout), "hello\n", "{}", text(&hello.stderr));
    let donor = donor(&home);
    assert!(donor.loopback().contains("/tcp/"));
    assert_eq!(
        json(&home, &["donor", "status"])["consent"],
        serde_json::json!(["general", "scientific"])
    );
    assert!(donor.stop());
}

fn assert_one_envelope(output: &Output, status: i32, code: &str) {
    assert_eq!(
        output.status.code(),
        Some(status),
        "{}",
        text(&output.stderr)
    );
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    let envelope: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(envelope["error_code"], code, "{envelope}");
    assert_eq!(envelope["ok"], false, "{envelope}");
}

#[test]
fn a_wrong_command_line_is_one_envelope_for_machines() {
    let (_root, home) = place();
    let wrong: [&[&str]; 5] = [
        &["--json", "frobnicate"],
        &["frobnicate", "--json"],
        &["--json"],
        &["job", "list", "--json", "--limit", "0"],
        &["job", "list", "--json", "--json"],
    ];
    for arguments in wrong {
        assert_one_envelope(&run(&home, arguments), 2, "usage");
    }
    let of_the_module = run(&home, &["job", "run", "--nope", "x", "--", "--json"]);
    assert!(text(&of_the_module.stderr).starts_with("error: "));
}

#[test]
fn what_cannot_be_printed_is_told() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        println!("skipped: no /dev/full on this machine");
        return;
    };
    let (_root, home) = place();
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["completions", "bash"],
        &["donor", "enroll"],
    ] {
        let output = worldcompute(&home)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(full.try_clone().unwrap())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            text(&output.stderr).contains("No space left"),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_ban_is_shown_and_outlives_the_daemon_until_it_is_lifted() {
    let (_root, home) = place();
    let peer = NOWHERE.rsplit('/').next().unwrap();
    let named = |verb: &'static str| ["admin", verb, "--subject-id", peer];
    let banned = |home: &Path| json(home, &["admin", "status"])["banned"].clone();
    let first = donor(&home);
    assert_eq!(banned(&home), Value::Array(Vec::new()));
    let why = ["--reason", "floods"];
    let ban = json(&home, &[&named("ban")[..], &why].concat());
    assert_eq!(
        (&ban["subject_id"], &ban["reason"]),
        (&peer.into(), &"floods".into())
    );
    assert!(first.stop());
    let next = donor(&home);
    assert_eq!(banned(&home), Value::Array(vec![ban]));
    let shown = text(&run(&home, &["admin", "status"]).stdout);
    assert!(
        shown.contains(&format!("banned       {peer} since ")),
        "{shown}"
    );
    assert!(run(&home, &named("unban")).status.success());
    assert_eq!(banned(&home), Value::Array(Vec::new()));
    let again = run(&home, &named("unban"));
    assert!(!again.status.success() && text(&again.stderr).contains("is not banned"));
    assert!(next.stop());
}

#[test]
fn a_donor_that_knows_nobody_says_so() {
    let (_root, home) = place();
    let donor = donor(&home);
    let status = json(&home, &["cluster", "status"]);
    assert_eq!(status["reach"], "island");
    assert!(
        status["alone"].as_str().unwrap().contains("--bootstrap"),
        "{status}"
    );
    let shown = text(&run(&home, &["cluster", "status"]).stdout);
    assert!(shown.contains("knows nobody"), "{shown}");
    assert!(donor.stop());
}

#[test]
fn a_donor_that_finds_nobody_is_still_alone_with_a_relay_that_does_not_answer() {
    let (_root, home) = place();
    let join = [
        "donor",
        "join",
        "--no-mdns",
        "--port",
        "0",
        "--bootstrap",
        NOWHERE,
    ];
    let donor = Daemon::start(&home, &join);
    until("the relay is tried", || {
        let status = json(&home, &["admin", "status"]);
        status["dials"]["transport_error"].as_u64().unwrap() > 0
    });
    assert_eq!(json(&home, &["cluster", "status"])["reach"], "island");
    assert!(donor.stop());
}
