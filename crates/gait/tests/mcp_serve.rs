//! `gait mcp serve`, asked over real connections.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::Gait;
use support::serving::Serving;

const POLICY: &str = "\
default_verdict: require_approval
rules:
  - {name: read, priority: 1, effect: allow, match: {tool_names: [read]}}
  - {name: wipe, priority: 1, effect: block, match: {tool_names: [wipe]}}
";

fn start(gait: &Gait, more: &[&str]) -> Serving {
    let policy = gait.file("policy.yaml", POLICY);
    let listen = ["--listen", "127.0.0.1:0"];
    let args = ["mcp", "serve", "--policy", &policy, "--json"];
    Serving::start(gait.command(&[&args[..], &listen, more].concat())).unwrap()
}

fn evaluate(serving: &Serving, headers: &str, body: &str) -> (u16, String) {
    serving.post("/v1/evaluate", headers, body)
}

fn call(tool: &str) -> String {
    json!({"call": {"name": tool}}).to_string()
}

#[test]
fn rulings_are_answered_over_http_in_three_forms() {
    let gait = Gait::new();
    let serving = start(&gait, &["--http-verdict-status", "strict"]);
    let (status, body) = evaluate(&serving, "", &call("read"));
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
    assert_eq!(evaluate(&serving, "", &call("wipe")).0, 403);
    assert_eq!(evaluate(&serving, "", &call("other")).0, 409);
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
    let serving = start(&gait, &["--max-request-bytes", "1000"]);
    for (headers, status) in [
        ("\r\norigin: https://evil.example", 403),
        ("\r\nexpect: nothing", 200),
    ] {
        assert_eq!(
            evaluate(&serving, headers, &call("read")).0,
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
        evaluate(
            &serving,
            "",
            &format!("{}{}", call("read"), " ".repeat(1000))
        )
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
        let (status, answer) = evaluate(&serving, "", body);
        assert_eq!(status, 400, "{body} {answer}");
        assert!(answer.contains("\"ok\":false"));
    }
    assert_eq!(evaluate(&serving, "", &call("read")).0, 200);
}

#[test]
fn a_token_is_asked_for_and_never_shown() {
    let token = "a-token-of-more-than-16-bytes";
    let gait = Gait::new().env("TOKEN", token).env("SHORT", "short");
    let serving = start(
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
        let (got, body) = evaluate(&serving, headers, &call("read"));
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

#[test]
fn the_rulings_of_a_session_are_journaled_packed_and_exported() {
    let gait = Gait::new();
    let serving = start(
        &gait,
        &[
            "--session-dir",
            "sessions",
            "--runpack-dir",
            "runpacks",
            "--pack-dir",
            "packs",
            "--export-log-out",
            "log",
            "--export-otel-out",
            "otel",
        ],
    );
    let ask = |tool: &str| {
        let body = json!({
            "call": {"name": tool, "args": {"p": "secret-argument"}}, "session_id": "../s 1",
            "checkpoint_interval": 2, "emit_runpack": true, "emit_pack": true,
        });
        let (status, answer) = evaluate(&serving, "", &body.to_string());
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let (first, second) = (ask("read"), ask("wipe"));
    assert_eq!(
        (&first["session_sequence"], &second["session_sequence"]),
        (&1.into(), &2.into())
    );
    let path = |answer: &Value, member: &str| {
        let path = answer[member]
            .as_str()
            .unwrap_or_else(|| panic!("{member} {answer}"))
            .to_owned();
        assert!(gait.path().join(&path).is_file(), "{path}");
        format!("./{path}")
    };
    let journal = path(&second, "session_journal");
    assert!(journal.starts_with("./sessions/s1.") && !journal.contains("/../"));
    assert_eq!(
        gait.json(&["run", "session", "status", "--journal", &journal])
            .1["status"]["event_count"],
        2
    );
    let chain = path(&second, "session_chain");
    assert_eq!(
        gait.json(&["verify", "session-chain", "--chain", &chain]).0,
        0
    );
    assert_eq!(gait.json(&["verify", &path(&second, "runpack_path")]).0, 0);
    assert_eq!(
        gait.json(&["pack", "verify", &path(&second, "pack_path")])
            .0,
        0
    );
    let read = |name: &str| std::fs::read_to_string(gait.path().join(name)).unwrap();
    for name in ["log", "otel", &journal] {
        let text = read(name);
        assert!(
            text.lines().count() >= 2 && !text.contains("secret-argument"),
            "{text}"
        );
    }
    let otel: Value = serde_json::from_str(read("otel").lines().last().unwrap()).unwrap();
    assert_eq!(otel["attributes"]["gait.verdict"], "block");
}

#[test]
fn what_has_no_place_is_refused_before_it_is_ruled_on() {
    let gait = Gait::new();
    let serving = start(&gait, &["--session-dir", ""]);
    for wish in ["emit_runpack", "emit_pack", "checkpoint_interval"] {
        let value = if wish.starts_with("emit") {
            json!(true)
        } else {
            json!(1)
        };
        let body = json!({"call": {"name": "read"}, "session_id": "s", wish: value});
        let (status, answer) = evaluate(&serving, "", &body.to_string());
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains("requires a service with"), "{answer}");
    }
    assert!(!gait.path().join("gait-out/mcp-serve/traces").exists());
    let body = json!({"call": {"name": "read"}, "session_id": "s"});
    let (_, answer) = evaluate(&serving, "", &body.to_string());
    assert!(!answer.contains("session_journal"), "{answer}");
}

#[test]
fn the_service_keeps_as_much_as_it_is_told_to_and_nothing_else_is_touched() {
    let gait = Gait::new();
    let foreign = gait.file("traces/trace_notes.json", "{}");
    let serving = start(
        &gait,
        &[
            "--trace-dir",
            "traces",
            "--trace-max-count",
            "2",
            "--session-dir",
            "sessions",
            "--session-max-count",
            "1",
        ],
    );
    let mut last = Value::Null;
    for number in 0..4 {
        let session = format!("s{number}");
        let body = json!({"call": {"name": "read"}, "session_id": session}).to_string();
        let (status, answer) = evaluate(&serving, "", &body);
        assert_eq!(status, 200, "{answer}");
        last = serde_json::from_str(&answer).unwrap();
    }
    let warnings = last["warnings"].to_string();
    for kind in ["trace", "session"] {
        let told = format!("retention_{kind}_removed_age=0 removed_count=1");
        assert!(warnings.contains(&told), "{warnings}");
    }
    let count = |dir: &str| std::fs::read_dir(gait.path().join(dir)).unwrap().count();
    assert_eq!(count("traces"), 3);
    assert!(std::path::Path::new(&foreign).is_file());
    for member in ["trace_path", "session_journal"] {
        let path = gait.path().join(last[member].as_str().unwrap());
        assert!(path.is_file(), "{member}");
    }
    assert!(!gait.path().join("sessions/s0.journal.jsonl").exists());
}

#[test]
fn limits_that_mean_nothing_are_refused() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    for (args, error) in [
        (
            &["--trace-max-count", "-1"][..],
            "retention limits must not be negative",
        ),
        (
            &["--pack-max-age", "-1h", "--pack-dir", "p"],
            "retention limits must not be negative",
        ),
        (
            &["--runpack-max-count", "1"],
            "--runpack-max-age and --runpack-max-count need --runpack-dir",
        ),
        (
            &["--session-max-age", "soon"],
            "invalid value \"soon\" for flag -session-max-age: parse error",
        ),
        (
            &[
                "--allow-client-artifact-paths",
                "--listen",
                "0.0.0.0:0",
                "--auth-mode",
                "token",
                "--auth-token-env",
                "TOKEN",
            ],
            "--allow-client-artifact-paths requires a loopback --listen",
        ),
    ] {
        let gait = Gait::new().env("TOKEN", "a-token-of-more-than-16-bytes");
        let (code, json) = gait.json(&[&["mcp", "serve", "--policy", &policy][..], args].concat());
        assert_eq!((code, &json["error"]), (6, &error.into()), "{args:?}");
    }
}

#[test]
fn a_client_names_paths_only_where_it_may_and_never_one_that_is_taken() {
    let gait = Gait::new();
    let key = gait.file("the.key", "precious");
    let closed = start(&gait, &[]);
    let open = start(&gait, &["--allow-client-artifact-paths"]);
    std::os::unix::fs::symlink("nowhere", gait.path().join("link")).unwrap();
    for member in ["trace_path", "runpack_out", "pack_out"] {
        let ask = |serving: &Serving, path: &str| {
            let body = json!({"call": {"name": "read"}, member: path}).to_string();
            let (status, answer) = evaluate(serving, "", &body);
            (status, serde_json::from_str::<Value>(&answer).unwrap())
        };
        let (status, refused) = ask(&closed, "mine");
        assert_eq!(
            (status, &refused["error_reason"]),
            (400, &"client_paths_off".into())
        );
        for taken in [key.as_str(), "link", "."] {
            let (status, refused) = ask(&open, taken);
            assert_eq!(
                (status, &refused["error_reason"]),
                (400, &"output_exists".into()),
                "{member} {taken}"
            );
        }
        assert_eq!(ask(&open, "../climbs").0, 400, "{member}");
        let mine = format!("client/{member}");
        let (status, answer) = ask(&open, &mine);
        assert_eq!(status, 200, "{answer}");
        assert!(gait.path().join(&mine).is_file(), "{answer}");
    }
    assert_eq!(std::fs::read_to_string(&key).unwrap(), "precious");
    let journaled = |serving: &Serving, path: &str| {
        let body = json!({"call": {"name": "read"}, "session_id": "s", "session_journal": path});
        evaluate(serving, "", &body.to_string())
    };
    assert_eq!(journaled(&closed, "client/j.jsonl").0, 400);
    for sequence in 1..3 {
        let (status, answer) = journaled(&open, "client/j.jsonl");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            (status, &answer["session_sequence"]),
            (200, &sequence.into()),
            "{answer}"
        );
    }
    assert_ne!(journaled(&open, &key).0, 200);
    assert_eq!(std::fs::read_to_string(&key).unwrap(), "precious");
}

#[test]
fn a_journal_that_cannot_be_kept_lets_nothing_pass() {
    let gait = Gait::new();
    gait.file("sessions", "in the way");
    let serving = start(&gait, &["--session-dir", "sessions"]);
    let body = json!({"call": {"name": "read"}, "session_id": "s"});
    let (status, answer) = evaluate(&serving, "", &body.to_string());
    assert_eq!(status, 500, "{answer}");
    assert!(!answer.contains("allow"), "{answer}");
}
