//! The JSON of a failure of every command of the frame, byte for byte but for the correlation id.
//!
//! `GAIT_UPDATE_GOLDEN=1` writes the file anew, for a change that is meant.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fmt::Write;
use std::path::Path;

use support::Gait;

const FAILURES: [(&str, &[&str]); 46] = [
    ("version with a stray argument", &["version", "stray"]),
    ("version with an unknown flag", &["version", "--frobnicate"]),
    (
        "keys init where a pair is",
        &["keys", "init", "--out-dir", "taken", "--prefix", "p"],
    ),
    (
        "keys init with a name that climbs",
        &["keys", "init", "--prefix", "../p"],
    ),
    (
        "keys init below a file",
        &["keys", "init", "--out-dir", "file/keys"],
    ),
    (
        "keys rotate with a name that climbs",
        &["keys", "rotate", "--prefix", "a/b"],
    ),
    ("keys verify without a key", &["keys", "verify"]),
    (
        "keys verify with two sources",
        &[
            "keys",
            "verify",
            "--private-key",
            "k",
            "--private-key-env",
            "K",
        ],
    ),
    (
        "keys verify with an unset variable",
        &["keys", "verify", "--private-key-env", "UNSET"],
    ),
    (
        "keys verify with a missing file",
        &["keys", "verify", "--private-key", "none.key"],
    ),
    (
        "keys verify with an open file",
        &["keys", "verify", "--private-key", "open.key"],
    ),
    (
        "keys verify with text",
        &["keys", "verify", "--private-key", "file"],
    ),
    ("doctor adoption without a log", &["doctor", "adoption"]),
    (
        "doctor adoption with a missing log",
        &["doctor", "adoption", "--from", "none.jsonl"],
    ),
    (
        "doctor adoption with another file",
        &["doctor", "adoption", "--from", "file"],
    ),
    (
        "registry install without a source",
        &["registry", "install"],
    ),
    (
        "registry install without a key",
        &["registry", "install", "--source", "file"],
    ),
    (
        "registry install over http",
        &[
            "registry",
            "install",
            "--source",
            "http://r.example/p",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install without hosts",
        &[
            "registry",
            "install",
            "--source",
            "https://r.example/p",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install from another host",
        &[
            "registry",
            "install",
            "--source",
            "https://r.example/p",
            "--allow-host",
            "s.example",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install with a wrong pin",
        &[
            "registry",
            "install",
            "--source",
            "file",
            "--pin",
            "x",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install with a fallback without a pin",
        &[
            "registry",
            "install",
            "--source",
            "file",
            "--allow-cached-fallback",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install with too many attempts",
        &[
            "registry",
            "install",
            "--source",
            "file",
            "--retry-max-attempts",
            "11",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install from a missing file",
        &[
            "registry",
            "install",
            "--source",
            "none.json",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry install of another file",
        &[
            "registry",
            "install",
            "--source",
            "file",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    (
        "registry list of a file",
        &["registry", "list", "--cache-dir", "file"],
    ),
    ("registry verify without a path", &["registry", "verify"]),
    (
        "registry verify of another file",
        &[
            "registry",
            "verify",
            "--path",
            "file",
            "--public-key-env",
            "PUBLIC",
        ],
    ),
    ("mcp proxy without a call", &["mcp", "proxy"]),
    (
        "mcp proxy with a missing policy",
        &[
            "mcp",
            "proxy",
            "--policy",
            "none.yaml",
            "--call",
            "call.json",
        ],
    ),
    (
        "mcp proxy with another adapter",
        &[
            "mcp",
            "proxy",
            "--policy",
            "policy.yaml",
            "--call",
            "call.json",
            "--adapter",
            "cobol",
        ],
    ),
    (
        "mcp proxy with a broken call",
        &["mcp", "proxy", "--policy", "policy.yaml", "--call", "file"],
    ),
    (
        "mcp bridge in production without a key",
        &[
            "mcp",
            "bridge",
            "--policy",
            "policy.yaml",
            "--call",
            "call.json",
            "--profile",
            "oss-prod",
        ],
    ),
    (
        "mcp verify without a clause",
        &[
            "mcp",
            "verify",
            "--policy",
            "policy.yaml",
            "--server",
            "call.json",
        ],
    ),
    (
        "mcp serve off loopback",
        &[
            "mcp",
            "serve",
            "--policy",
            "policy.yaml",
            "--listen",
            "0.0.0.0:0",
        ],
    ),
    (
        "mcp serve with an unset token",
        &[
            "mcp",
            "serve",
            "--policy",
            "policy.yaml",
            "--auth-mode",
            "token",
            "--auth-token-env",
            "UNSET",
        ],
    ),
    ("gate serve without a policy", &["gate", "serve"]),
    (
        "gate serve on a port without a token",
        &[
            "gate",
            "serve",
            "--policy",
            "policy.yaml",
            "--listen",
            "127.0.0.1:0",
        ],
    ),
    (
        "gate serve with a broken policy",
        &["gate", "serve", "--policy", "file"],
    ),
    ("trace without a program", &["trace"]),
    ("test with a program in the wrong place", &["test", "true"]),
    (
        "enforce without a program",
        &["enforce", "--cwd", ".", "--"],
    ),
    (
        "init with another template",
        &["init", "--template", "none"],
    ),
    ("init where a file is", &["init", "--out", "file"]),
    ("check without a policy", &["check", "--policy", ""]),
    ("check of another file", &["check", "--policy", "file"]),
];

#[test]
fn the_failures_are_those_of_the_golden_file() {
    let gait = Gait::new().env("PUBLIC", "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    gait.file("file", "something else\n");
    gait.file("policy.yaml", "default_verdict: allow\n");
    gait.file("call.json", r#"{"name": "tool.read"}"#);
    gait.file("taken/p_private.key", "");
    gait.file("open.key", "secret");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(gait.path().join("open.key"), open).unwrap();
    let mut text = String::new();
    for (name, args) in FAILURES {
        let run = failure(&gait, args);
        let json = run.json();
        assert_eq!(json["ok"], false, "{name}");
        let id = json["correlation_id"].as_str().unwrap();
        let line = run.stdout.replace(id, "<id>");
        write!(text, "# {name}: exit {}\n{line}", run.code).unwrap();
    }
    compare(&text);
}

/// A command that ends in `--` takes `--json` before that.
fn failure(gait: &Gait, args: &[&str]) -> support::Run {
    match args {
        [start @ .., "--"] => gait.run(&[start, &["--json", "--"]].concat()),
        args => gait.run(&[args, &["--json"]].concat()),
    }
}

fn compare(text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/failures.golden");
    if std::env::var_os("GAIT_UPDATE_GOLDEN").is_some() {
        worldcompute_durable::write_atomic(
            &path,
            text.as_bytes(),
            worldcompute_durable::Mode::Public,
        )
        .unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (is, was) in text.lines().zip(golden.lines()) {
        assert_eq!(is, was);
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}
