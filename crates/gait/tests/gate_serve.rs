//! `gait gate serve`, asked over real connections.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use support::Gait;
use worldcompute_durable::{Mode, write_atomic};

const POLICY: &str = "\
default_verdict: require_approval
rules:
  - {name: read, priority: 1, effect: allow, match: {tool_names: [tool.read]}}
  - {name: exec, priority: 1, effect: block, match: {tool_names: [tool.exec]}}
";
const TOKEN: &str = "a-token-of-more-than-16-bytes";

fn intent(tool: &str) -> Value {
    json!({"tool_name": tool, "context": {"identity": "a", "workspace": "/w", "risk_class": "low"}})
}

/// A running `gait gate serve`, ended on drop.
struct Serving {
    child: Child,
    address: String,
    dir: PathBuf,
}

impl Serving {
    fn start(gait: &Gait, more: &[&str]) -> Self {
        let policy = gait.file("policy.yaml", POLICY);
        let args = ["gate", "serve", "--policy", &policy, "--json"];
        let mut child = gait
            .command(&[&args[..], more].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let started: Value = serde_json::from_str(&line).unwrap();
        let address = started["listen"]
            .as_str()
            .unwrap_or_else(|| panic!("{line}"))
            .to_owned();
        Self {
            child,
            address,
            dir: gait.path().to_owned(),
        }
    }

    fn ask(&self, headers: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let head = format!(
            "POST /v1/eval HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close{headers}\r\n\r\n{body}",
            body.len()
        );
        let answer = match self.address.contains('/') {
            true => exchange(
                UnixStream::connect(self.dir.join(&self.address)).unwrap(),
                &head,
            ),
            false => exchange(TcpStream::connect(&self.address).unwrap(), &head),
        };
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap())
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn the_service_answers_what_the_command_answers() {
    let gait = Gait::new();
    let serving = Serving::start(&gait, &[]);
    let socket = gait.path().join(&serving.address);
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for tool in ["tool.read", "tool.exec", "tool.other"] {
        let (status, mut served) = serving.ask("", &json!({"intent": intent(tool)}));
        assert_eq!(status, 200, "{served}");
        let file = gait.file("intent.json", intent(tool).to_string());
        let policy = gait.path().join("policy.yaml");
        let policy = policy.to_str().unwrap();
        let (code, mut once) = gait.json(&[
            "gate",
            "eval",
            "--policy",
            policy,
            "--intent",
            &file,
            "--trace-out",
            "t.json",
        ]);
        assert_eq!(served["exit_code"], code);
        assert!(
            gait.path()
                .join(served["trace_path"].as_str().unwrap())
                .is_file()
        );
        for answer in [&mut served, &mut once] {
            let members = answer.as_object_mut().unwrap();
            for varying in [
                "correlation_id",
                "trace_path",
                "approval_audit_path",
                "exit_code",
            ] {
                members.remove(varying);
            }
        }
        assert_eq!(served, once);
    }
}

#[test]
fn without_a_directory_for_traces_the_answer_carries_its_own() {
    let gait = Gait::new();
    let serving = Serving::start(&gait, &["--trace-dir", ""]);
    let (_, answer) = serving.ask("", &json!({"intent": intent("tool.read")}));
    assert_eq!(answer["trace"]["trace_id"], answer["trace_id"]);
    assert_eq!(answer["trace"]["correlation_id"], answer["correlation_id"]);
    let (status, refused) = serving.ask(
        "",
        &json!({"intent": intent("tool.read"), "approval_tokens": [{}]}),
    );
    assert_eq!((status, &refused["exit_code"]), (400, &6.into()));
}

#[test]
fn a_changed_policy_counts_at_once_and_a_broken_one_denies() {
    let gait = Gait::new();
    let serving = Serving::start(&gait, &[]);
    let verdict = || serving.ask("", &json!({"intent": intent("tool.read")}));
    assert_eq!(verdict().1["verdict"], "allow");
    let policy = gait.path().join("policy.yaml");
    write_atomic(&policy, b"default_verdict: block\n", Mode::Private).unwrap();
    assert_eq!(verdict().1["verdict"], "block");
    write_atomic(&policy, b"default_verdict: perhaps\n", Mode::Private).unwrap();
    let (status, refused) = verdict();
    assert_eq!(
        (status, &refused["error_code"], &refused["ok"]),
        (400, &"invalid_input".into(), &false.into())
    );
    std::fs::remove_file(&policy).unwrap();
    assert_eq!(verdict().1["error_category"], "io_failure");
}

#[test]
fn what_is_no_request_is_refused() {
    let gait = Gait::new();
    let serving = Serving::start(&gait, &[]);
    for body in [
        json!([]),
        json!({}),
        json!({"intent": []}),
        json!({"intent": {}}),
        json!({"intent": intent("t"), "policy": "x"}),
    ] {
        let (status, refused) = serving.ask("", &body);
        assert_eq!(
            (status, &refused["error_category"]),
            (400, &"invalid_input".into()),
            "{body}"
        );
    }
    let (status, _) = serving.ask(
        "\r\norigin: https://evil.example",
        &json!({"intent": intent("tool.read")}),
    );
    assert_eq!(status, 403);
}

#[test]
fn a_port_needs_a_token_and_only_loopback_will_do() {
    let gait = Gait::new().env("TOKEN", TOKEN);
    let serving = Serving::start(
        &gait,
        &["--listen", "127.0.0.1:0", "--auth-token-env", "TOKEN"],
    );
    let body = json!({"intent": intent("tool.read")});
    assert_eq!(serving.ask("", &body).0, 401);
    assert_eq!(
        serving
            .ask("\r\nauthorization: Bearer wrong-wrong-wrong-wrong", &body)
            .0,
        401
    );
    let (status, answer) = serving.ask(&format!("\r\nauthorization: Bearer {TOKEN}"), &body);
    assert_eq!((status, &answer["verdict"]), (200, &"allow".into()));
    let policy = gait.file("p.yaml", POLICY);
    for (args, error) in [
        (
            &["--listen", "127.0.0.1:0"][..],
            "--listen requires --auth-token-env",
        ),
        (
            &["--listen", "0.0.0.0:0", "--auth-token-env", "TOKEN"],
            "gate serve listens on loopback only",
        ),
        (
            &["--profile", "oss-prod"],
            "oss-prod profile requires --key-mode prod",
        ),
    ] {
        let (code, json) = gait.json(&[&["gate", "serve", "--policy", &policy][..], args].concat());
        assert_eq!((code, &json["error"]), (6, &error.into()));
    }
}

#[test]
fn a_second_service_on_the_same_socket_is_refused_and_a_dead_ones_is_replaced() {
    let gait = Gait::new();
    let first = Serving::start(&gait, &[]);
    let policy = gait.file("p.yaml", POLICY);
    let (code, json) = gait.json(&["gate", "serve", "--policy", &policy]);
    assert_eq!(
        (code, &json["error_category"], &json["retryable"]),
        (1, &"state_contention".into(), &true.into())
    );
    drop(first);
    assert!(
        gait.path().join(".gait-out/run/gate.sock").exists(),
        "killed, it could not clean up"
    );
    let second = Serving::start(&gait, &[]);
    assert_eq!(
        second.ask("", &json!({"intent": intent("tool.read")})).1["verdict"],
        "allow"
    );
    let blocked = Gait::new();
    std::fs::create_dir(blocked.path().join("open")).unwrap();
    std::fs::set_permissions(
        blocked.path().join("open"),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let policy = blocked.file("p.yaml", POLICY);
    let (code, json) = blocked.json(&[
        "gate",
        "serve",
        "--policy",
        &policy,
        "--socket",
        "open/gate.sock",
    ]);
    assert_eq!(
        (code, &json["error_code"]),
        (6, &"insecure_permissions".into())
    );
}
