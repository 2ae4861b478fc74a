//! Everything that a stranger may hand to the program, far past what it takes: refused with a clear code, in constant
//! memory, without a trace.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

#[path = "support/packs.rs"]
mod packs;
mod support;

use std::fs::File;

use packs::{Entries, Size, read, runpack, sealed_runpack};
use serde_json::json;
use support::Gait;
use worldcompute_proof::SigningKey;

/// KiB for what is refused unread, or read piece by piece.
const LITTLE: u32 = 16 << 10;
/// KiB for what is refused because of something inside, which takes a tree of 1 MiB of text or a record of 10 MiB.
const SOME: u32 = 128 << 10;
/// Bytes of a file that is far too large for anything that is read as a whole.
const LARGE: u64 = 100 << 20;
/// How many of a thing are far too many, and how deep is far too deep.
const MANY: usize = 100_000;

/// A file of so many zeros that takes no room.
fn large(gait: &Gait) -> String {
    let path = gait.path().join("large");
    File::create(&path).unwrap().set_len(LARGE).unwrap();
    path.to_str().unwrap().to_owned()
}

fn files(gait: &Gait) -> usize {
    gait.path().read_dir().unwrap().count()
}

/// `args` are refused with this exit and code within this memory, and leave nothing.
fn is_refused(gait: &Gait, memory: u32, args: &[&str], (exit, code): (i32, &str)) {
    let before = files(gait);
    let args = [args, &["--json"]].concat();
    let run = gait.within(memory, &args);
    assert_eq!(run.code, exit, "{args:?}: {}{}", run.stdout, run.stderr);
    assert_eq!(run.json()["error_code"], code, "{args:?}: {}", run.stdout);
    assert_eq!(files(gait), before, "{args:?} left something");
}

const TOO_LARGE: (i32, &str) = (6, "file_too_large");
const INVALID: (i32, &str) = (6, "invalid_input");
const UNVERIFIED: (i32, &str) = (2, "verification_failed");

#[test]
fn a_policy_past_every_limit_is_refused() {
    let gait = Gait::new();
    let large = large(&gait);
    is_refused(&gait, LITTLE, &["policy", "validate", &large], TOO_LARGE);
    let refused = |text: String, code: &str| {
        let path = gait.file("policy.yaml", text);
        is_refused(&gait, SOME, &["policy", "validate", &path], (6, code));
    };
    let rules = |count: usize| format!("rules:\n{}", "- {}\n".repeat(count));
    refused(rules(MANY), "invalid_input");
    refused(rules(MANY / 10 * 9), "policy_too_large");
    let names = "a,".repeat(MANY / 10 * 9);
    refused(
        format!("rules: [{{name: r, effect: allow, match: {{tool_names: [{names}]}}}}]"),
        "policy_too_large",
    );
    refused(format!("rules: {}", "[".repeat(MANY)), "invalid_input");
    refused(format!("rules: [{}]", "[],".repeat(MANY)), "invalid_input");
}

#[test]
fn an_intent_past_every_limit_is_refused() {
    let gait = Gait::new();
    let policy = gait.file("policy.yaml", "default_verdict: allow\n");
    let eval = |intent: &str, memory: u32, why: (i32, &str)| {
        let args = ["gate", "eval", "--policy", &policy, "--intent", intent];
        is_refused(&gait, memory, &args, why);
    };
    eval(&large(&gait), LITTLE, TOO_LARGE);
    let refused = |member: &str, code: &str| {
        let context = "{\"identity\":\"a\",\"workspace\":\"/\",\"risk_class\":\"low\"}";
        let text = format!("{{\"tool_name\":\"t\",\"context\":{context},{member}}}");
        eval(&gait.file("intent.json", text), SOME, (6, code));
    };
    let many = |one: &str| vec![one; MANY].join(",");
    refused(&format!("\"targets\":[{}]", many("{}")), "intent_too_large");
    let steps = many("{}");
    refused(
        &format!("\"script\":{{\"steps\":[{steps}]}}"),
        "invalid_input",
    );
    refused(
        &format!("\"args\":{{\"a\":{}", "[".repeat(MANY)),
        "invalid_input",
    );
}

#[test]
fn a_recording_past_every_limit_is_refused() {
    let gait = Gait::new();
    let refused = |input: &str| {
        is_refused(&gait, SOME, &["run", "record", "--input", input], INVALID);
    };
    refused(&large(&gait));
    let run = "{\"run\":{\"run_id\":\"r\"},\"refs\":{},\"results\":[],\"intents\":";
    let deep = "[".repeat(MANY);
    refused(&gait.file("deep.json", format!("{run}[{{\"args\":{deep}")));
    let long = "x".repeat(11 << 20);
    let long = format!("{run}[{{\"tool_name\":\"{long}\"}}]}}");
    refused(&gait.file("long.json", long));
}

/// A runpack whose digests fit, with one entry replaced.
fn runpack_with(gait: &Gait, name: &str, content: Vec<u8>) {
    let path = gait.path().join("run.zip");
    runpack(
        &path,
        Size {
            intents: 1,
            receipts: 1,
        },
    );
    let mut entries: Entries = read(&path);
    entries.remove("manifest.json");
    entries.insert(name.to_owned(), content);
    sealed_runpack(&path, entries);
}

#[test]
fn a_runpack_nested_too_deep_or_with_too_long_a_line_is_refused() {
    let gait = Gait::new();
    let deep = "[".repeat(MANY).into_bytes();
    let long = format!("{{\"intent_id\":\"{}\"}}", "x".repeat(11 << 20)).into_bytes();
    for (name, content) in [
        ("run.json", &deep),
        ("intents.jsonl", &deep),
        ("results.jsonl", &deep),
        ("intents.jsonl", &long),
        ("results.jsonl", &long),
    ] {
        runpack_with(&gait, name, content.clone());
        for command in [["run", "inspect"], ["run", "replay"]] {
            let args = [&command[..], &["./run.zip"]].concat();
            is_refused(&gait, SOME, &args, UNVERIFIED);
        }
        is_refused(&gait, SOME, &["pack", "inspect", "run.zip"], UNVERIFIED);
    }
}

#[test]
fn evidence_past_every_limit_is_not_packed() {
    let gait = Gait::new();
    runpack(
        &gait.path().join("run.zip"),
        Size {
            intents: 1,
            receipts: 0,
        },
    );
    let refused = |flag: &str, path: &str, code: &str| {
        let args = [
            "guard", "pack", "--run", "run.zip", "--out", "g.zip", flag, path,
        ];
        is_refused(&gait, LITTLE, &args, (6, code));
    };
    let (large, deep) = (large(&gait), gait.file("deep.json", "[".repeat(MANY)));
    for flag in [
        "--trace",
        "--regress",
        "--inventory",
        "--approval-audit",
        "--credential-evidence",
    ] {
        refused(flag, &large, "file_too_large");
        refused(flag, &deep, "invalid_evidence");
    }
    let many: String = (0..9_001).map(|number| format!("{number}.json,")).collect();
    refused("--trace", &many, "too_many_evidence_files");
}

#[test]
fn a_manifest_of_a_registry_past_every_limit_is_not_installed() {
    let key = SigningKey::from_seed([7; 32]).verifying_key().to_base64();
    let gait = Gait::new().env("KEY", &key);
    let install = |path: &str, memory: u32, why: (i32, &str)| {
        let args = [
            "registry",
            "install",
            "--source",
            path,
            "--public-key-env",
            "KEY",
            "--cache-dir",
            "cache",
        ];
        is_refused(&gait, memory, &args, why);
    };
    install(&large(&gait), LITTLE, TOO_LARGE);
    let deep = gait.file("deep.json", "[".repeat(MANY));
    install(&deep, LITTLE, UNVERIFIED);
    let manifest = json!({
        "schema_id": "gait.registry.pack", "schema_version": "1.0.0", "pack_name": "p", "pack_version": "1",
        "created_at": "2026-02-14T00:00:00Z", "producer_version": "1", "artifacts": [],
        "signatures": vec![json!({"alg": "ed25519"}); MANY],
    });
    let many = gait.file("many.json", manifest.to_string());
    install(&many, SOME, UNVERIFIED);
}
