//! `gait mcp serve`, asked over real connections.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use support::Gait;

const POLICY: &str = "\
default_verdict: require_approval
rules:
  - {name: read, priority: 1, effect: allow, match: {tool_names: [read]}}
  - {name: wipe, priority: 1, effect: block, match: {tool_names: [wipe]}}
";

/// A running `gait mcp serve`, ended on drop.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(gait: &Gait, more: &[&str]) -> Self {
        let policy = gait.file("policy.yaml", POLICY);
        let args = [
            "mcp",
            "serve",
            "--policy",
            &policy,
            "--listen",
            "127.0.0.1:0",
            "--json",
        ];
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
        Self { child, address }
    }

    /// The status and the body of the answer.
    fn ask(&self, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        // A server that has seen enough may answer and close before everything is sent.
        let _ = write!(
            stream,
            "{head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let status = answer
            .split(' ')
            .nth(1)
            .unwrap_or_else(|| panic!("{answer:?}"))
            .parse()
            .unwrap();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    fn evaluate(&self, headers: &str, body: &str) -> (u16, String) {
        let head = format!(
            "POST /v1/evaluate HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json{headers}",
            self.address
        );
        self.ask(&head, body)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn call(tool: &str) -> String {
    json!({"call": {"name": tool}}).to_string()
}

#[test]
fn rulings_are_answered_over_http_in_three_forms() {
    let gait = Gait::new();
    let serving = Serving::start(&gait, &["--http-verdict-status", "strict"]);
    let (status, body) = serving.evaluate("", &call("read"));
    let ruling: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &ruling["verdict"], &ruling["exit_code"]),
        (200, &"allow".into(), &0.into())
    );
    assert!(
        gait.path()
            .join(ruling["trace_path"].as_str().unwrap())
            .is_file()
    );
    assert_eq!(serving.evaluate("", &call("wipe")).0, 403);
    assert_eq!(serving.evaluate("", &call("other")).0, 409);
    let head = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json")
    };
    let (_, event) = serving.ask(&head("/v1/evaluate/sse"), &call("read"));
    assert!(
        event.starts_with("event: evaluate\ndata: {") && event.ends_with("}\n\n"),
        "{event}"
    );
    let (_, line) = serving.ask(&head("/v1/evaluate/stream"), &call("read"));
    assert!(line.ends_with("}\n") && serde_json::from_str::<Value>(&line).is_ok());
    assert_eq!(
        serving
            .ask("GET /healthz HTTP/1.1\r\nhost: localhost", "")
            .0,
        200
    );
}

#[test]
fn requests_that_no_client_of_ours_would_send_are_refused() {
    let gait = Gait::new();
    let serving = Serving::start(&gait, &["--max-request-bytes", "1000"]);
    for (headers, status) in [
        ("\r\norigin: https://evil.example", 403),
        ("\r\nexpect: nothing", 200),
    ] {
        assert_eq!(
            serving.evaluate(headers, &call("read")).0,
            status,
            "{headers}"
        );
    }
    let rebound =
        "POST /v1/evaluate HTTP/1.1\r\nhost: evil.example\r\ncontent-type: application/json";
    assert_eq!(serving.ask(rebound, &call("read")).0, 421);
    let form = "POST /v1/evaluate HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain";
    assert_eq!(serving.ask(form, &call("read")).0, 415);
    assert_eq!(
        serving
            .evaluate("", &format!("{}{}", call("read"), " ".repeat(1000)))
            .0,
        413
    );
    for body in [
        "",
        "{",
        "[]",
        "{\"call\":{}}",
        "{\"call\":{\"name\":\"read\"},\"trace_path\":\"/etc/x\"}",
        "{\"call\":{\"name\":\"read\"}}{}",
    ] {
        let (status, answer) = serving.evaluate("", body);
        assert_eq!(status, 400, "{body} {answer}");
        assert!(answer.contains("\"ok\":false"));
    }
    assert_eq!(serving.evaluate("", &call("read")).0, 200);
}

#[test]
fn a_token_is_asked_for_and_never_shown() {
    let token = "a-token-of-more-than-16-bytes";
    let gait = Gait::new().env("TOKEN", token).env("SHORT", "short");
    let serving = Serving::start(
        &gait,
        &["--auth-mode", "token", "--auth-token-env", "TOKEN"],
    );
    for (headers, status) in [
        ("", 401),
        ("\r\nauthorization: Bearer wrong-token-wrong-token", 401),
        (
            "\r\nauthorization: Basic a-token-of-more-than-16-bytes",
            401,
        ),
        (
            "\r\nauthorization: Bearer a-token-of-more-than-16-bytes",
            200,
        ),
    ] {
        let (got, body) = serving.evaluate(headers, &call("read"));
        assert_eq!(got, status, "{headers}");
        assert!(!body.contains(token));
    }
    let policy = gait.file("policy.yaml", POLICY);
    for (args, error) in [
        (
            &["--listen", "0.0.0.0:0"][..],
            "non-loopback --listen requires --auth-mode token",
        ),
        (
            &["--auth-mode", "token"],
            "--auth-mode token requires --auth-token-env",
        ),
        (
            &["--auth-mode", "token", "--auth-token-env", "UNSET"],
            "--auth-token-env did not resolve to a non-empty value",
        ),
        (
            &["--auth-mode", "token", "--auth-token-env", "SHORT"],
            "the token has fewer than 16 bytes",
        ),
        (
            &["--auth-mode", "basic"],
            "unsupported --auth-mode value (expected off or token)",
        ),
        (
            &["--max-request-bytes", "0"],
            "--max-request-bytes must be 1 to 4194304",
        ),
        (
            &["--max-request-bytes", "4194305"],
            "--max-request-bytes must be 1 to 4194304",
        ),
        (
            &["--http-verdict-status", "odd"],
            "unsupported --http-verdict-status value (expected compat or strict)",
        ),
        (
            &["--listen", "example.com:80"],
            "invalid listen address \"example.com:80\"",
        ),
    ] {
        let (code, json) = gait.json(&[&["mcp", "serve", "--policy", &policy][..], args].concat());
        assert_eq!((code, &json["error"]), (6, &error.into()), "{args:?}");
    }
    let (code, json) = gait.json(&[
        "mcp",
        "serve",
        "--policy",
        &policy,
        "--listen",
        &serving.address,
    ]);
    assert_eq!(
        (code, &json["error_code"], &json["error_category"]),
        (1, &"listen_failed".into(), &"io_failure".into())
    );
}
