//! Secrets planted in the environment, in files, in tokens and in arguments show nowhere: not in what a command prints,
//! and not in what it leaves on the disk.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;

use serde_json::json;
use support::Gait;
use worldcompute_proof::SigningKey;

/// Stands for a secret in arguments and tokens; no part of any message.
const PLANTED: &str = "Zq7Xv9Kp3Rt5Yw8Nb2Mc4Hd6";

/// Every file below `dir` but the planted ones, with its content.
fn files(dir: &Path, planted: &[String]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(files(&path, planted));
        } else if path.is_file() && !planted.contains(&name) {
            found.push((name, std::fs::read(&path).unwrap()));
        }
    }
    found
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

#[test]
fn no_command_repeats_a_planted_secret() {
    let key = SigningKey::generate().unwrap();
    let text = key.file_text().trim().to_owned();
    let gait = Gait::new()
        .env("KEY", &text)
        .env("TOKEN", PLANTED)
        .env("BROKEN", &format!("{PLANTED}="))
        .env("GAIT_OPERATIONAL_LOG", "ops.jsonl")
        .env("GAIT_ADOPTION_LOG", "adoption.jsonl");
    let planted = [
        gait.file("good.key", &text),
        gait.file("broken.key", PLANTED),
        gait.file(
            "call.json",
            json!({"name": "tool.read", "args": {"note": PLANTED}}).to_string(),
        ),
        gait.file(
            "untyped.json",
            json!({"tool_name": "t", "args": PLANTED, "context": {}}).to_string(),
        ),
        gait.file(
            "event.json",
            json!({"tool_name": "Bash", "tool_input": {"command": PLANTED}}).to_string(),
        ),
    ];
    gait.file("policy.yaml", "default_verdict: allow\n");
    let commands: [&[&str]; 24] = [
        &[
            "mcp",
            "proxy",
            "--policy",
            "policy.yaml",
            "--call",
            "untyped.json",
        ],
        &[
            "gate",
            "eval",
            "--policy",
            "policy.yaml",
            "--intent",
            "untyped.json",
        ],
        &["policy", "test", "policy.yaml", "untyped.json"],
        &[
            "gate",
            "eval",
            "--policy",
            "policy.yaml",
            "--intent",
            "call.json",
            "--context-envelope",
            "untyped.json",
        ],
        &["keys", "verify", "--private-key-env", "KEY"],
        &["keys", "verify", "--private-key", "good.key"],
        &["keys", "verify", "--private-key-env", "BROKEN"],
        &["keys", "verify", "--private-key", "broken.key"],
        &[
            "keys",
            "verify",
            "--private-key",
            "good.key",
            "--public-key-env",
            "BROKEN",
        ],
        &[
            "keys",
            "verify",
            "--private-key",
            "good.key",
            "--private-key-env",
            "KEY",
        ],
        &["doctor", "--key-mode", "prod", "--private-key-env", "KEY"],
        &[
            "doctor",
            "--key-mode",
            "prod",
            "--private-key",
            "broken.key",
        ],
        &[
            "doctor",
            "--production-readiness",
            "--key-mode",
            "prod",
            "--private-key-env",
            "BROKEN",
        ],
        &[
            "registry",
            "install",
            "--source",
            "https://u:Zq7Xv9Kp3Rt5Yw8Nb2Mc4Hd6@r.example/",
            "--allow-host",
            "r.example",
            "--public-key-env",
            "BROKEN",
        ],
        &[
            "registry",
            "install",
            "--source",
            "https://u:Zq7Xv9Kp3Rt5Yw8Nb2Mc4Hd6@r.example/",
            "--allow-host",
            "r.example",
            "--private-key-env",
            "KEY",
        ],
        &[
            "registry",
            "install",
            "--source",
            "broken.key",
            "--private-key-env",
            "KEY",
        ],
        &[
            "registry",
            "verify",
            "--path",
            "broken.key",
            "--private-key-env",
            "KEY",
        ],
        &[
            "mcp",
            "proxy",
            "--policy",
            "policy.yaml",
            "--call",
            "call.json",
            "--key-mode",
            "prod",
            "--private-key-env",
            "KEY",
            "--export-log-out",
            "log",
            "--export-otel-out",
            "otel",
        ],
        &[
            "mcp",
            "proxy",
            "--policy",
            "policy.yaml",
            "--call",
            "event.json",
            "--adapter",
            "claude_code",
        ],
        &[
            "mcp",
            "proxy",
            "--policy",
            "policy.yaml",
            "--call",
            "broken.key",
        ],
        &[
            "mcp",
            "proxy",
            "--policy",
            "policy.yaml",
            "--call",
            "call.json",
            "--key-mode",
            "prod",
            "--private-key-env",
            "BROKEN",
        ],
        &[
            "mcp",
            "serve",
            "--policy",
            "policy.yaml",
            "--auth-mode",
            "token",
            "--auth-token-env",
            "TOKEN",
            "--key-mode",
            "prod",
            "--private-key-env",
            "BROKEN",
        ],
        &[
            "gate",
            "serve",
            "--policy",
            "policy.yaml",
            "--listen",
            "127.0.0.1:0",
            "--auth-token-env",
            "TOKEN",
            "--key-mode",
            "prod",
            "--private-key-env",
            "BROKEN",
        ],
        &["check", "--policy", "broken.key"],
    ];
    for args in commands {
        for mode in [&[][..], &["--json"]] {
            let run = gait.run(&[args, mode].concat());
            let said = format!("{}{}", run.stdout, run.stderr);
            assert!(!said.contains(&text), "{args:?}: {said}");
            assert!(!said.contains(PLANTED), "{args:?}: {said}");
        }
    }
    let left = files(gait.path(), &planted);
    assert!(
        left.iter().any(|(name, _)| name.contains("trace_")),
        "there is evidence to search"
    );
    for (name, content) in left {
        assert!(
            !contains(&content, &text) && !contains(&content, PLANTED),
            "{name}"
        );
    }
}

/// What the flags of a command are called in its own help, where they are about keys or tokens.
fn secret_flags(gait: &Gait, command: &[&str]) -> Vec<String> {
    let help = gait.run(&[command, &["--help"]].concat()).stdout;
    let names = help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--")?.split_whitespace().next());
    names
        .filter(|name| name.contains("key") || name.contains("token"))
        // A reference for the record: it is meant to be shown.
        .filter(|name| *name != "approval-token-ref")
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_secret_in_the_place_of_a_path_or_a_name_is_not_repeated() {
    let text = SigningKey::generate().unwrap().file_text();
    let gait = Gait::new()
        .env("TOKEN", "token-of-the-service")
        .env("GAIT_OPERATIONAL_LOG", "ops.jsonl");
    let (policy, intent) = (
        gait.file("policy.yaml", "default_verdict: allow\n"),
        gait.file(
            "intent.json",
            json!({"tool_name": "t", "args": {}, "targets": [], "context":
                {"identity": "a", "workspace": "/w", "risk_class": "low"}})
            .to_string(),
        ),
    );
    assert_eq!(gait.run(&["demo"]).code, 0);
    let asked = ["--policy", &policy, "--intent", &intent];
    let serving = ["--auth-token-env", "TOKEN", "--listen", "127.0.0.1:0"];
    let commands: [(&[&str], Vec<&str>); 17] = [
        (&["gate", "eval"], asked.to_vec()),
        (
            &["gate", "serve"],
            [&["--policy", &policy], &serving[..]].concat(),
        ),
        (
            &["mcp", "serve"],
            [&["--policy", &policy, "--auth-mode", "token"], &serving[..]].concat(),
        ),
        (
            &["mcp", "proxy"],
            vec!["--policy", &policy, "--call", &intent],
        ),
        (&["guard", "pack"], vec!["--run", "run_demo"]),
        (
            &["incident", "pack"],
            vec!["--from", "run_demo", "--window", "1h"],
        ),
        (&["guard", "encrypt"], vec!["--in", &intent]),
        (&["guard", "decrypt"], vec!["--in", &intent]),
        (&["run", "record"], vec!["--input", &intent]),
        (&["doctor"], vec![]),
        (&["session", "close"], vec!["--session", &intent]),
        (
            &["pack", "build"],
            vec!["--type", "run", "--from", "run_demo"],
        ),
        (&["keys", "verify"], vec![]),
        (&["verify"], vec!["run_demo"]),
        (&["trace", "verify"], vec![&intent]),
        (&["delegate", "verify"], vec!["--token", &intent]),
        (
            &["policy", "simulate"],
            [
                &["--policy", &policy, "--baseline", &policy],
                &["--fixtures", &*intent][..],
            ]
            .concat(),
        ),
    ];
    let mut asked = 0;
    for (command, arguments) in commands {
        for flag in secret_flags(&gait, command) {
            for secret in [PLANTED, text.trim()] {
                let given = format!("--{flag}={secret}");
                let mut line = [command, &arguments, &[&*given]].concat();
                if secret_flags(&gait, command).contains(&"key-mode".to_owned())
                    && flag != "key-mode"
                {
                    line.extend(["--key-mode", "prod"]);
                }
                for mode in [&[][..], &["--json"]] {
                    let run = gait.run(&[&line, mode].concat());
                    let said = format!("{}{}", run.stdout, run.stderr);
                    assert!(!said.contains(secret), "{command:?} --{flag}: {said}");
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 200, "{asked} command lines");
    for (name, content) in files(gait.path(), &[]) {
        for secret in [PLANTED, text.trim()] {
            assert!(!contains(&content, secret), "{name}");
        }
    }
}
