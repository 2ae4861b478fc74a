//! `gait mcp`, with real servers and clients.

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
use support::{Gait, Run};

const POLICY: &str = "\
default_verdict: require_approval
rules:
  - {name: read, priority: 1, effect: allow, match: {tool_names: [read]}}
  - {name: wipe, priority: 1, effect: block, match: {tool_names: [wipe]}}
";

/// A server that keeps every line it gets and answers each.
const SERVER: &str = r#"while IFS= read -r line; do printf '%s\n' "$line" >> received; printf '{"jsonrpc":"2.0","id":0,"result":"served"}\n'; done"#;

fn request(id: &Value, tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {"p": "secret-argument"}}})
}

fn session(gait: &Gait, lines: &str, server: &str) -> Run {
    let policy = gait.file("policy.yaml", POLICY);
    let args = [
        "mcp", "proxy", "--stdio", "--policy", &policy, "--", "/bin/sh", "-c", server,
    ];
    let mut child = gait
        .command(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A server that ends early makes the proxy end as well, with the client still writing.
    let _ = input.write_all(lines.as_bytes());
    drop(input);
    Run::of(child.wait_with_output().unwrap())
}

fn received(gait: &Gait) -> String {
    std::fs::read_to_string(gait.path().join("received")).unwrap_or_default()
}

#[test]
fn a_denied_call_never_reaches_the_server_and_its_client_is_told_why() {
    let gait = Gait::new();
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let lines = [
        list,
        request(&json!(2), "read"),
        request(&json!("3"), "wipe"),
        request(&json!(4), "other"),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let run = session(&gait, &text, SERVER);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(received(&gait).lines().count(), 2);
    assert!(received(&gait).contains("\"read\"") && !received(&gait).contains("wipe"));
    let answers: Vec<Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        answers
            .iter()
            .filter(|answer| answer["result"] == "served")
            .count(),
        2
    );
    let denied = |id: &Value| answers.iter().find(|answer| &answer["id"] == id).unwrap();
    let wipe = &denied(&json!("3"))["result"];
    assert_eq!(
        (&wipe["isError"], &wipe["_meta"]["gait"]["verdict"]),
        (&true.into(), &"block".into())
    );
    assert_eq!(
        denied(&json!(4))["result"]["_meta"]["gait"]["verdict"],
        "require_approval"
    );
    assert!(run.stderr.contains("1 allowed, 2 denied, 0 refused"));
    let traces = std::fs::read_dir(gait.path().join("gait-out/mcp-proxy/traces")).unwrap();
    assert_eq!(traces.count(), 3);
}

#[test]
fn what_client_and_server_could_read_differently_does_not_pass() {
    let hidden = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{"name":"wipe"}}"#;
    let escaped =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"w\u0069pe"}}"#;
    let batch = format!("[{}]", request(&json!(1), "wipe"));
    let notification = r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"wipe"}}"#;
    let odd_method = r#"{"jsonrpc":"2.0","id":1,"method":["tools/call"],"params":{"name":"wipe"}}"#;
    let odd_params = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["wipe"]}"#;
    let odd_arguments = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":"wipe"}}"#;
    let surrogate =
        r#"{"jsonrpc":"2.0","id":"\ud800","method":"tools/call","params":{"name":"wipe"}}"#;
    let two = format!("{} {}", json!({"id": 1}), request(&json!(1), "wipe"));
    let torn = "{\"method\":\"tools/call\",\"params\":{\"name\":\"wipe\"";
    for line in [
        hidden,
        escaped,
        &batch,
        notification,
        odd_method,
        odd_params,
        odd_arguments,
        surrogate,
        &two,
        torn,
        "wipe",
    ] {
        let gait = Gait::new();
        let run = session(&gait, &format!("{line}\n"), SERVER);
        assert_eq!((run.code, received(&gait).as_str()), (0, ""), "{line}");
    }
    let unfinished = session(
        &Gait::new(),
        &request(&json!(1), "read").to_string(),
        SERVER,
    );
    assert!(
        unfinished.stderr.contains("0 allowed"),
        "a line without its end was never sent"
    );
}

#[test]
fn a_call_whose_evidence_cannot_be_kept_is_not_passed_on() {
    let gait = Gait::new();
    gait.file("gait-out/mcp-proxy/traces", "in the way");
    let run = session(&gait, &format!("{}\n", request(&json!(1), "read")), SERVER);
    assert_eq!((run.code, received(&gait).as_str()), (0, ""));
    let answer: Value = serde_json::from_str(run.stdout.trim()).unwrap();
    assert_eq!(
        answer["result"]["_meta"]["gait"]["error_category"],
        "io_failure"
    );
}

#[test]
fn a_server_that_does_not_start_or_ends_early_is_told_apart() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    let missing = gait.run(&[
        "mcp",
        "proxy",
        "--stdio",
        "--policy",
        &policy,
        "--",
        "/nonexistent/server",
    ]);
    assert_eq!(missing.code, 7, "{missing:?}");
    assert!(missing.stdout.contains("cannot start /nonexistent/server"));
    let ended = session(&gait, "", "exit 3");
    assert_eq!(ended.code, 7, "{ended:?}");
    assert!(ended.stdout.contains("the MCP server ended"));
    let json = gait.run(&[
        "mcp", "proxy", "--stdio", "--policy", &policy, "--json", "--", "/bin/sh",
    ]);
    assert_eq!(json.code, 6);
}

#[test]
fn a_single_call_is_ruled_on_signed_and_exported() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    let call = gait.file(
        "call.json",
        r#"{"name": "wipe", "args": {"p": "secret-argument"}}"#,
    );
    let args = [
        "mcp",
        "proxy",
        "--policy",
        &policy,
        "--call",
        &call,
        "--trace-out",
        "t.json",
        "--export-log-out",
        "l",
        "--export-otel-out",
        "o",
    ];
    let (code, json) = gait.json(&args);
    assert_eq!(
        (code, &json["verdict"], &json["executed"]),
        (3, &"block".into(), &false.into())
    );
    let read = |name: &str| std::fs::read_to_string(gait.path().join(name)).unwrap();
    let trace: Value = serde_json::from_str(&read("t.json")).unwrap();
    assert_eq!(trace["correlation_id"], json["correlation_id"]);
    assert_eq!(trace["trace_id"], json["trace_id"]);
    let otel: Value = serde_json::from_str(&read("o")).unwrap();
    assert_eq!(otel["attributes"]["gait.verdict"], "block");
    for text in [read("t.json"), read("l"), read("o"), json.to_string()] {
        assert!(!text.contains("secret-argument"), "{text}");
    }
    let (code, json) = gait.json(&["mcp", "bridge", &policy, &call]);
    assert_eq!((code, &json["ok"]), (3, &true.into()));
}

#[test]
fn a_ruling_becomes_a_runpack_and_a_pack_that_verify_and_hold_no_arguments() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    let call = gait.file(
        "call.json",
        r#"{"name": "read", "args": {"p": "secret-argument"}}"#,
    );
    let base = [
        "mcp", "proxy", "--policy", &policy, "--call", &call, "--run-id", "run_x",
    ];
    let (code, json) = gait.json(
        &[
            &base[..],
            &["--runpack-out", "r.zip", "--pack-out", "p.zip"],
        ]
        .concat(),
    );
    assert_eq!(
        (code, &json["runpack_path"], &json["pack_path"]),
        (0, &"r.zip".into(), &"p.zip".into()),
        "{json}"
    );
    assert_eq!(gait.json(&["verify", "./r.zip"]).1["run_id"], "run_x");
    let (code, pack) = gait.json(&["pack", "verify", "p.zip"]);
    assert_eq!((code, &pack["pack_id"]), (0, &json["pack_id"]), "{pack}");
    let (_, alone) = gait.json(&[&base[..], &["--pack-out", "q.zip"]].concat());
    assert_eq!(alone["pack_path"], "q.zip");
    let left: Vec<_> = std::fs::read_dir(gait.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_str().unwrap().ends_with(".runpack")),
        "{left:?}"
    );
}

#[test]
fn a_key_that_cannot_be_used_is_refused_before_a_trace_is_written() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    let call = gait.file("call.json", r#"{"name": "read"}"#);
    let args = [
        "mcp",
        "proxy",
        "--policy",
        &policy,
        "--call",
        &call,
        "--trace-out",
        "t.json",
        "--key-mode",
        "prod",
    ];
    let (code, json) = gait.json(&args);
    assert_eq!(
        (code, &json["error_reason"], &json["executed"]),
        (6, &"key_source_required".into(), &false.into())
    );
    assert!(!gait.path().join("t.json").exists());
}

#[test]
fn a_server_is_verified_against_the_snapshot_of_the_policy() {
    let gait = Gait::new();
    gait.file("snapshot.json", r#"{"entries": [{"server_id": "github", "score": 0.5, "updated_at": "2026-02-05T00:00:00Z"}]}"#);
    let policy = gait.file("policy.yaml", "default_verdict: allow\nmcp_trust: {snapshot: snapshot.json, action: require_approval, required_risk_classes: [high], min_score: 0.4}\n");
    let known = gait.file("known.json", r#"{"server_id": "github"}"#);
    let (code, json) = gait.json(&["mcp", "verify", "--policy", &policy, "--server", &known]);
    assert_eq!((code, &json["status"]), (0, &"trusted".into()));
    let stranger = gait.file("stranger.json", r#"{"server_id": "evil"}"#);
    let (code, json) = gait.json(&["mcp", "verify", "--policy", &policy, "--server", &stranger]);
    assert_eq!((code, &json["verdict"]), (4, &"require_approval".into()));
    let plain = gait.file("plain.yaml", POLICY);
    let (code, json) = gait.json(&["mcp", "verify", "--policy", &plain, "--server", &known]);
    assert_eq!(
        (code, &json["error_reason"]),
        (6, &"mcp_trust_missing".into())
    );
}

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
