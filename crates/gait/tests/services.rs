//! The local services and wrappers around the gate: `gate serve`, `hook`, `trace|test|enforce --`, `init` and `check`.

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
use support::{Gait, Run};
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

fn hook(gait: &Gait, args: &[&str], input: &[u8]) -> Run {
    let mut child = gait
        .command(&[&["hook"], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A hook with a wrong command line does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    Run::of(child.wait_with_output().unwrap())
}

fn event(tool: &str, input: &Value) -> Value {
    json!({
        "session_id": "s1", "cwd": "/work", "hook_event_name": "PreToolUse", "transcript_path": "/t",
        "tool_name": tool, "tool_input": input,
    })
}

#[test]
fn a_hook_answers_in_the_agents_shape() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    for (tool, input, decision) in [
        ("Read", json!({"file_path": "/work/x"}), "allow"),
        (
            "Bash",
            json!({"command": "rm -rf / # secret-argument"}),
            "deny",
        ),
        (
            "Write",
            json!({"file_path": "/work/x", "content": "secret-argument"}),
            "ask",
        ),
    ] {
        let run = hook(
            &gait,
            &["--policy", &policy],
            event(tool, &input).to_string().as_bytes(),
        );
        let answer: Value = serde_json::from_str(&run.stdout).unwrap();
        let output = &answer["hookSpecificOutput"];
        assert_eq!(
            (run.code, &output["permissionDecision"]),
            (0, &decision.into()),
            "{tool}"
        );
        assert_eq!(output["hookEventName"], "PreToolUse");
        assert!(
            output["permissionDecisionReason"]
                .as_str()
                .unwrap()
                .starts_with("gait: ")
        );
        assert!(!run.stdout.contains("secret-argument"));
    }
    let traces = std::fs::read_dir(gait.path().join("gait-out/hook/traces")).unwrap();
    assert_eq!(traces.count(), 3);
}

#[test]
fn whatever_goes_wrong_in_a_hook_denies() {
    let sound = event("Read", &json!({"file_path": "/x"})).to_string();
    let without = |member: &str| {
        let mut event = event("Read", &json!({"file_path": "/x"}));
        event.as_object_mut().unwrap().remove(member);
        event.to_string()
    };
    let mut inputs = [
        "session_id",
        "cwd",
        "hook_event_name",
        "tool_name",
        "tool_input",
    ]
    .map(without)
    .to_vec();
    inputs.extend(
        [
            "",
            "{",
            "[]",
            "null",
            "\u{feff}{}",
            r#"{"hook_event_name":"PreToolUse","hook_event_name":"PreToolUse"}"#,
        ]
        .map(str::to_owned),
    );
    inputs.push(sound.replace("PreToolUse", "PostToolUse"));
    inputs.push(sound.replace("\"Read\"", "7"));
    inputs.push(format!("{}{sound}", " ".repeat(1 << 20)));
    for input in inputs {
        let gait = Gait::new();
        let policy = gait.file("policy.yaml", "default_verdict: allow\n");
        let run = hook(&gait, &["--policy", &policy], input.as_bytes());
        assert!(denies(&run), "{input:.80}: {run:?}");
    }
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", "default_verdict: allow\n");
    let broken = gait.file("broken.yaml", "default_verdict: [\n");
    gait.file("gait-out/hook/traces", "in the way");
    for args in [
        &[][..],
        &["--policy", "none.yaml"],
        &["--policy", &broken],
        &["--policy", &policy],
        &["--policy", &policy, "--frobnicate"],
        &["--policy", &policy, "stray"],
        &["--policy", &policy, "--key-mode", "prod"],
    ] {
        assert!(denies(&hook(&gait, args, sound.as_bytes())), "{args:?}");
    }
    assert!(denies(&hook(&gait, &["--policy", &policy], b"\xff\xfe")));
}

fn denies(run: &Run) -> bool {
    let answer: Value = serde_json::from_str(&run.stdout).unwrap();
    run.code == 0 && answer["hookSpecificOutput"]["permissionDecision"] == "deny"
}

#[test]
fn a_hook_that_cannot_answer_blocks() {
    let gait = Gait::new();
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else {
        println!("skipped: no /dev/full on this machine");
        return;
    };
    let status = gait.command(&["hook"]).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn a_wrapped_program_is_summed_up_and_enforced() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    let file = gait.file("intent.json", intent("tool.exec").to_string());
    let code = gait
        .run(&[
            "gate",
            "eval",
            "--policy",
            &policy,
            "--intent",
            &file,
            "--trace-out",
            "t.json",
        ])
        .code;
    assert_eq!(code, 3);
    let script = "echo trace_path=t.json; echo seen >&2";
    let (code, json) = gait.json_before(&["enforce"], &["/bin/sh", "-c", script]);
    assert_eq!((code, &json["ok"]), (3, &false.into()), "{json}");
    assert_eq!(
        json["verdict_counts"],
        json!([{"count": 1, "verdict": "block"}])
    );
    assert_eq!(
        (&json["stderr"], json.get("error")),
        (&"seen\n".into(), None)
    );
    let (code, json) = gait.json_before(
        &["trace"],
        &["/bin/sh", "-c", &format!("{script}; exit 42")],
    );
    assert_eq!((code, &json["child_exit_code"]), (42, &42.into()));
    let (code, json) = gait.json_before(&["test"], &["/bin/sh", "-c", "true"]);
    assert_eq!(
        (code, &json["failure_reason"]),
        (6, &"missing_trace_reference".into())
    );
    let (code, json) = gait.json_before(
        &["test", "--timeout", "50ms"],
        &["/bin/sh", "-c", "sleep 1000"],
    );
    assert_eq!(
        (code, &json["failure_reason"], &json["timed_out"]),
        (1, &"child_timed_out".into(), &true.into())
    );
    let (code, json) = gait.json_before(&["test"], &["/nonexistent/program"]);
    assert_eq!(
        (code, &json["failure_reason"]),
        (1, &"child_start_failed".into())
    );
    let (code, json) = gait.json_before(&["test", "--timeout", "0s"], &["/bin/sh"]);
    assert_eq!((code, &json["error"]), (6, &"--timeout must be > 0".into()));
    assert_eq!(
        gait.json(&["test"]).1["error"],
        "expected child command after --"
    );
}

#[test]
fn a_project_gets_a_policy_that_checks() {
    let gait = Gait::new();
    gait.file(".mcp.json", r#"{"mcpServers": {"github": {}}}"#);
    let (code, json) = gait.json(&["init"]);
    assert_eq!(
        (code, &json["policy_path"]),
        (0, &".gait.yaml".into()),
        "{json}"
    );
    assert_eq!(json["detection"]["tool_names"], json!(["mcp.github"]));
    let (code, json) = gait.json(&["check"]);
    assert_eq!((code, &json["ok"]), (0, &true.into()), "{json}");
    assert!(
        json["summary"]
            .as_str()
            .unwrap()
            .starts_with("policy ok: default_verdict=")
    );
    let (code, json) = gait.json(&["init"]);
    assert_eq!((code, &json["error_reason"]), (6, &"output_exists".into()));
    assert_eq!(json["contract"]["repo_policy_path"], ".gait.yaml");
    assert_eq!(gait.json(&["init", "--force", "--template", "low"]).0, 0);
    assert_eq!(gait.json(&["init", "--template", "none"]).0, 6);
    assert_eq!(
        gait.json(&["check", "--policy", "none.yaml"]).1["error_category"],
        "io_failure"
    );
}
