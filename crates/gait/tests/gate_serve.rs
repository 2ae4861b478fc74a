//! `gait gate serve`, asked over real connections.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use support::Gait;
use support::serving::Serving;
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

fn start(gait: &Gait, more: &[&str]) -> Serving {
    let policy = gait.file("policy.yaml", POLICY);
    let args = ["gate", "serve", "--policy", &policy, "--json"];
    Serving::start(gait.command(&[&args[..], more].concat())).unwrap()
}

fn ask(serving: &Serving, headers: &str, body: &Value) -> (u16, Value) {
    let (status, answer) = serving.post("/v1/eval", headers, &body.to_string());
    (status, serde_json::from_str(&answer).unwrap())
}

#[test]
fn the_service_answers_what_the_command_answers() {
    let gait = Gait::new();
    let serving = start(&gait, &[]);
    let socket = gait.path().join(&serving.address);
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for tool in ["tool.read", "tool.exec", "tool.other"] {
        let (status, mut served) = ask(&serving, "", &json!({"intent": intent(tool)}));
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
fn only_an_operator_lets_a_service_simulate() {
    let gait = Gait::new();
    let body = json!({"intent": intent("tool.exec"), "simulate": true});
    let (status, refused) = ask(&start(&gait, &[]), "", &body);
    assert_eq!(
        (status, &refused["error_reason"]),
        (400, &"simulation_not_allowed".into())
    );
    let serving = start(&gait, &["--allow-simulate", "--socket", "other/socket"]);
    let (status, answer) = ask(&serving, "", &body);
    assert_eq!(
        (status, &answer["simulated_verdict"]),
        (200, &"block".into())
    );
    let args = [
        "gate",
        "serve",
        "--policy",
        "policy.yaml",
        "--profile",
        "oss-prod",
    ];
    let refused = gait.json(&[&args[..], &["--allow-simulate"]].concat()).1;
    assert_eq!(
        refused["error"],
        "oss-prod profile does not allow --allow-simulate"
    );
}

#[test]
fn without_a_directory_for_traces_the_answer_carries_its_own() {
    let gait = Gait::new();
    let serving = start(&gait, &["--trace-dir", ""]);
    let (_, answer) = ask(&serving, "", &json!({"intent": intent("tool.read")}));
    assert_eq!(answer["trace"]["trace_id"], answer["trace_id"]);
    assert_eq!(answer["trace"]["correlation_id"], answer["correlation_id"]);
    let (status, refused) = ask(
        &serving,
        "",
        &json!({"intent": intent("tool.read"), "approval_tokens": [{}]}),
    );
    assert_eq!((status, &refused["exit_code"]), (400, &6.into()));
}

#[test]
fn a_changed_policy_counts_at_once_and_a_broken_one_denies() {
    let gait = Gait::new();
    let serving = start(&gait, &[]);
    let verdict = || ask(&serving, "", &json!({"intent": intent("tool.read")}));
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
fn what_an_operator_sets_up_counts_for_every_request() {
    let gait = Gait::new().env("GAIT_BROKER_TOKEN_DEPLOY", "a-secret-of-the-operator");
    gait.file("policy.yaml", "unused");
    let policy = gait.file(
        "brokered.yaml",
        "default_verdict: block\nrules:\n  - {name: deploy, priority: 1, effect: allow, require_broker_credential: true, broker_reference: deploy, match: {tool_names: [tool.deploy], context_data_classes: [internal]}}\n",
    );
    let inventory = gait.file(
        "inventory.json",
        r#"[{"tool_name": "tool.deploy", "data_class": "internal"}]"#,
    );
    let args = [
        "gate",
        "serve",
        "--json",
        "--policy",
        &policy,
        "--credential-broker",
        "env",
        "--wrkr-inventory",
        &inventory,
        "--session",
        "log/session",
    ];
    let serving = Serving::start(gait.command(&args)).unwrap();
    let body = json!({"intent": intent("tool.deploy")});
    for number in 1..4 {
        let (status, answer) = ask(&serving, "", &body);
        assert_eq!(
            (status, &answer["verdict"]),
            (200, &"allow".into()),
            "{answer}"
        );
        assert_eq!(answer["session_sequence"], number);
        assert!(!answer.to_string().contains("a-secret"), "{answer}");
        let evidence = answer["credential_evidence_path"].as_str().unwrap();
        assert!(gait.path().join(evidence).is_file());
    }
    let verify = gait
        .json(&["session", "verify", "--session", "log/session"])
        .1;
    assert_ne!(verify["error_code"], "session_log_corrupt", "{verify}");
    gait.file(
        "inventory.json",
        r#"[{"tool_name": "tool.deploy", "data_class": "secret"}]"#,
    );
    assert_eq!(ask(&serving, "", &body).1["verdict"], "block");
    std::fs::remove_file(&inventory).unwrap();
    let (_, low) = ask(&serving, "", &body);
    assert_eq!(low["verdict"], "block");
    assert!(
        low["warnings"]
            .to_string()
            .contains("wrkr inventory unavailable"),
        "{low}"
    );
    let mut high = body.clone();
    high["intent"]["context"]["risk_class"] = "high".into();
    let (status, refused) = ask(&serving, "", &high);
    assert_eq!(
        (status, &refused["exit_code"], &refused["error_code"]),
        (403, &3.into(), &"wrkr_inventory_unavailable".into())
    );
}

#[test]
fn evidence_without_a_place_is_refused_before_anything_is_decided() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", POLICY);
    let envelope = gait.file("envelope.json", "{}");
    for (args, part) in [
        (
            &["--trace-dir", "", "--credential-broker", "env"][..],
            "--credential-broker needs --trace-dir",
        ),
        (
            &["--credential-broker", "perhaps"],
            "unsupported credential broker",
        ),
        (
            &[
                "--credential-broker",
                "command",
                "--credential-command",
                "/bin/true",
            ],
            "GAIT_CREDENTIAL_COMMAND_ALLOWLIST",
        ),
        (
            &["--evaluation-time", "yesterday"],
            "invalid --evaluation-time",
        ),
        (&["--context-envelope", &envelope], "context"),
        (
            &["--profile", "oss-prod", "--key-mode", "prod"],
            "--private-key",
        ),
    ] {
        let (code, json) = gait.json(&[&["gate", "serve", "--policy", &policy][..], args].concat());
        assert_eq!(code, 6, "{json}");
        assert!(json["error"].as_str().unwrap().contains(part), "{json}");
    }
}

#[test]
fn a_request_past_the_limit_is_refused_and_the_next_is_served() {
    let gait = Gait::new();
    let serving = start(&gait, &[]);
    let sound = json!({"intent": intent("tool.read")}).to_string();
    let padded = format!("{sound}{}", " ".repeat((4 << 20) - sound.len()));
    assert_eq!(serving.post("/v1/eval", "", &padded).0, 200);
    let (status, answer) = serving.post("/v1/eval", "", &format!("{padded} "));
    assert_eq!(status, 413, "{answer}");
    let many = json!({"intent": intent("tool.read"), "approval_tokens": vec![json!({}); 65]});
    let (status, refused) = ask(&serving, "", &many);
    assert_eq!(
        (status, &refused["error"]),
        (400, &"more than 64 tokens of a kind".into())
    );
    let long = format!("\r\nlong: {}", "x".repeat(16 << 10));
    assert_eq!(serving.post("/v1/eval", &long, &sound).0, 431);
    assert_eq!(serving.post("/v1/eval", "", &sound).0, 200);
}

#[test]
fn what_is_no_request_is_refused() {
    let gait = Gait::new();
    let serving = start(&gait, &[]);
    for body in [
        json!([]),
        json!({}),
        json!({"intent": []}),
        json!({"intent": {}}),
        json!({"intent": intent("t"), "policy": "x"}),
    ] {
        let (status, refused) = ask(&serving, "", &body);
        assert_eq!(
            (status, &refused["error_category"]),
            (400, &"invalid_input".into()),
            "{body}"
        );
    }
    let (status, _) = ask(
        &serving,
        "\r\norigin: https://evil.example",
        &json!({"intent": intent("tool.read")}),
    );
    assert_eq!(status, 403);
}

#[test]
fn every_refusal_is_an_envelope_with_code_and_hint() {
    let gait = Gait::new().env("TOKEN", TOKEN);
    let socket = start(&gait, &[]);
    let port = start(
        &gait,
        &["--listen", "127.0.0.1:0", "--auth-token-env", "TOKEN"],
    );
    let large = " ".repeat((4 << 20) + 1);
    let eval = "POST /v1/eval HTTP/1.1\r\nhost: localhost";
    for (serving, head, body, status, code) in [
        (
            &socket,
            "GET / HTTP/1.1\r\nhost: x",
            "",
            404,
            "path_not_found",
        ),
        (
            &socket,
            "POST /v1/eval/ HTTP/1.1\r\nhost: x",
            "{}",
            404,
            "path_not_found",
        ),
        (
            &socket,
            "GET /v1/eval HTTP/1.1\r\nhost: x",
            "",
            405,
            "method_not_allowed",
        ),
        (
            &socket,
            "DELETE /healthz HTTP/1.1\r\nhost: x",
            "",
            405,
            "method_not_allowed",
        ),
        (
            &socket,
            "POST /v1/eval HTTP/1.1\r\nhost: x\r\norigin: null",
            "{}",
            403,
            "request_refused",
        ),
        (&socket, eval, &large, 413, "request_too_large"),
        (&port, eval, "{}", 401, "unauthorized"),
        (
            &port,
            "GET /healthz HTTP/1.1\r\nhost: evil.example",
            "",
            421,
            "request_refused",
        ),
    ] {
        let (got, headers, answer) = serving.answer(head, body);
        assert_eq!(got, status, "{head}: {answer}");
        assert!(
            headers.contains("content-type: application/json"),
            "{headers}"
        );
        assert_eq!(headers.contains("\r\nallow: "), status == 405, "{headers}");
        let envelope: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(envelope["error_code"], code, "{head}");
        assert_eq!(
            (&envelope["ok"], &envelope["error_category"]),
            (&false.into(), &"invalid_input".into())
        );
        for member in ["error", "hint", "correlation_id"] {
            assert!(!envelope[member].as_str().unwrap().is_empty(), "{answer}");
        }
    }
}

#[test]
fn a_body_that_says_that_it_is_no_json_is_refused_and_one_that_says_nothing_is_read() {
    let gait = Gait::new();
    let serving = start(&gait, &[]);
    let body = json!({"intent": intent("tool.read")}).to_string();
    for (lines, sound) in [
        ("", true),
        ("content-type: application/json", true),
        ("content-type: application/json; charset=utf-8", true),
        ("content-type: Application/JSON ;charset=UTF-8", true),
        ("content-type: text/plain", false),
        ("content-type:", false),
        ("content-type: application/jsonp", false),
        ("content-type: application/json, text/plain", false),
        ("content-type: text/plain; application/json", false),
        (
            "content-type: application/json\r\ncontent-type: text/plain",
            false,
        ),
        ("content-type: application/\u{6a}son\u{e9}", false),
    ] {
        let lines = if lines.is_empty() {
            String::new()
        } else {
            format!("\r\n{lines}")
        };
        let head = format!("POST /v1/eval HTTP/1.1\r\nhost: localhost{lines}");
        let (status, answer) = serving.ask(&head, &body);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        match sound {
            true => assert_eq!(
                (status, &answer["verdict"]),
                (200, &"allow".into()),
                "{lines}"
            ),
            false => assert_eq!(
                (status, &answer["error_code"]),
                (415, &"unsupported_media_type".into()),
                "{lines}"
            ),
        }
    }
}

#[test]
fn a_port_needs_a_token_and_only_loopback_will_do() {
    let gait = Gait::new().env("TOKEN", TOKEN);
    let serving = start(
        &gait,
        &["--listen", "127.0.0.1:0", "--auth-token-env", "TOKEN"],
    );
    let body = json!({"intent": intent("tool.read")});
    assert_eq!(ask(&serving, "", &body).0, 401);
    assert_eq!(
        ask(
            &serving,
            "\r\nauthorization: Bearer wrong-wrong-wrong-wrong",
            &body
        )
        .0,
        401
    );
    let (status, answer) = ask(
        &serving,
        &format!("\r\nauthorization: Bearer {TOKEN}"),
        &body,
    );
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
    let first = start(&gait, &[]);
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
    let second = start(&gait, &[]);
    assert_eq!(
        ask(&second, "", &json!({"intent": intent("tool.read")})).1["verdict"],
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
