//! Guard packs, retention and sealing, as a caller and as an attacker sees them.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/packs.rs"]
mod packs;
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use packs::{Size, read, runpack};
use serde_json::{Value, json};
use support::Gait;
use worldcompute_proof::{Sha256, SigningKey, canonical_json};

const SMALL: Size = Size {
    intents: 2,
    receipts: 2,
};
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn place() -> Gait {
    let gait = Gait::new().env("SEAL", KEY);
    runpack(&gait.path().join("run.zip"), SMALL);
    gait
}

fn audit(schema: &str, trace: &str, at: &str) -> String {
    json!({"schema_id": schema, "schema_version": "1.0.0", "created_at": at, "trace_id": trace})
        .to_string()
}

const APPROVAL: &str = "gait.gate.approval_audit_record";
const CREDENTIAL: &str = "gait.gate.broker_credential_record";
const NOON: &str = "2026-02-14T00:00:00Z";

/// A decision on the intent of this number, which agrees with itself.
fn trace(number: u8, at: &str) -> Value {
    let (policy, intent) = ("a".repeat(64), format!("{number:064}"));
    signed(json!({
        "schema_id": "gait.gate.trace", "schema_version": "1.0.0", "trace_id": trace_id(number),
        "tool_name": "tool.write", "verdict": "allow", "policy_digest": policy,
        "intent_digest": intent, "created_at": at
    }))
}

/// Signed by somebody.
fn signed(mut record: Value) -> Value {
    record.as_object_mut().unwrap().remove("signature");
    let key = SigningKey::from_seed([5; 32]);
    let digest = Sha256::of(canonical_json(&record).unwrap());
    let signature = json!({
        "alg": "ed25519", "key_id": key.verifying_key().key_id(),
        "sig": key.sign(digest.as_bytes()), "signed_digest": digest,
    });
    let members = record.as_object_mut().unwrap();
    members.insert("signature".to_owned(), signature);
    record
}

fn trace_id(number: u8) -> String {
    let name = format!("{}:{number:064}:allow", "a".repeat(64));
    Sha256::of(name).to_string()[..24].to_owned()
}

#[test]
fn evidence_beside_the_runpack_is_found_and_sorted_by_control() {
    let gait = place();
    gait.file("approval_audit_b.json", audit(APPROVAL, "t2", NOON));
    gait.file("approval_audit_a.json", audit(APPROVAL, "t1", NOON));
    gait.file("credential_evidence_a.json", audit(CREDENTIAL, "t1", NOON));
    let (code, built) = gait.json(&[
        "guard",
        "pack",
        "--run",
        "run.zip",
        "--case-id",
        "C-1",
        "--render-pdf",
    ]);
    assert_eq!(code, 0, "{built}");
    assert_eq!(
        (
            &built["controls"],
            &built["rendered_artifacts"],
            &built["template_id"]
        ),
        (&3.into(), &1.into(), &"soc2".into())
    );
    let path = built["pack_path"].as_str().unwrap();
    assert!(
        path.starts_with("evidence_pack_pack_") && path.ends_with(".zip"),
        "{path}"
    );
    let entries = read(&gait.path().join(path));
    let first: Value = serde_json::from_slice(&entries["approval_audit_01.json"]).unwrap();
    assert_eq!(first["trace_id"], "t1");
    assert!(
        entries["summary.pdf"].starts_with(b"%PDF-1.4\n")
            && entries["summary.pdf"].ends_with(b"%%EOF\n")
    );
    let manifest: Value = serde_json::from_slice(&entries["pack_manifest.json"]).unwrap();
    assert_eq!(manifest["case_id"], "C-1");
    assert_eq!(
        manifest["control_index"][0]["evidence_paths"],
        json!([
            "approval_audit_01.json",
            "approval_audit_02.json",
            "credential_evidence_01.json",
            "referenced_runpacks.json"
        ])
    );
    assert_eq!(manifest["evidence_pointers"].as_array().unwrap().len(), 6);
    assert_eq!(
        fs::metadata(gait.path().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let (code, verified) = gait.json(&["pack", "verify", path]);
    assert_eq!(
        (
            code,
            &verified["pack_type"],
            &verified["verify"]["legacy_type"]
        ),
        (0, &"guard".into(), &"guard".into())
    );
}

#[test]
fn a_guard_pack_is_signed_and_every_change_fails() {
    let key = SigningKey::generate().unwrap();
    let gait = place().env("GK", &key.file_text());
    let public = gait.file("public.key", key.verifying_key().to_base64());
    let build = [
        "guard",
        "pack",
        "--run",
        "run.zip",
        "--out",
        "g.zip",
        "--key-mode",
        "prod",
        "--private-key-env",
        "GK",
    ];
    assert_eq!(gait.json(&build).0, 0);
    let verify = |more: &[&str]| {
        let args: Vec<&str> = ["guard", "verify", "g.zip"]
            .iter()
            .chain(more)
            .copied()
            .collect();
        gait.json(&args)
    };
    let strict = ["--public-key", &public, "--profile", "strict"];
    assert_eq!(verify(&strict).1["signature_status"], "verified");
    let path = gait.path().join("g.zip");
    let entries = read(&path);
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 6] = [
        ("another case", |m| m["case_id"] = json!("C-2")),
        ("no signatures", |m| m["signatures"] = json!([])),
        ("unknown member", |m| m["x"] = json!(1)),
        ("another run", |m| m["run_id"] = json!("run_other")),
        ("a pointer to something else", |m| {
            m["evidence_pointers"][0]["sha256"] = json!("0".repeat(64))
        }),
        ("an entry declared twice", |m| {
            let first = m["contents"][0].clone();
            m["contents"].as_array_mut().unwrap().push(first);
        }),
    ];
    for (what, change) in changes {
        let mut entries = entries.clone();
        let mut manifest: Value = serde_json::from_slice(&entries["pack_manifest.json"]).unwrap();
        change(&mut manifest);
        entries.insert(
            "pack_manifest.json".to_owned(),
            canonical_json(&manifest).unwrap(),
        );
        packs::write(&path, &entries);
        assert_eq!(verify(&["--public-key", &public]).0, 2, "{what}");
        assert_eq!(verify(&[]).0, 2, "{what}, without a key");
    }
    for name in ["runpack_summary.json", "control_index.json"] {
        let mut entries = entries.clone();
        entries.insert(name.to_owned(), b"{}".to_vec());
        packs::write(&path, &entries);
        assert_eq!(verify(&[]).1["hash_mismatches"][0]["path"], name);
        entries.remove(name);
        entries.insert("extra".to_owned(), Vec::new());
        packs::write(&path, &entries);
        let (code, json) = verify(&[]);
        assert_eq!(
            (
                code,
                &json["missing_files"][0],
                &json["undeclared_files"][0]
            ),
            (2, &name.into(), &"extra".into())
        );
    }
}

#[test]
fn what_is_no_evidence_or_no_template_is_refused_and_nothing_written() {
    let gait = place();
    gait.file("wrong.json", audit("gait.gate.trace", "t", NOON));
    gait.file("broken.json", "{");
    for (args, code) in [
        (&["--approval-audit", "wrong.json"][..], "invalid_evidence"),
        (
            &["--credential-evidence", "broken.json"],
            "invalid_evidence",
        ),
        (&["--inventory", "wrong.json"], "invalid_evidence"),
        (&["--trace", "broken.json"], "invalid_evidence"),
        (&["--regress", "wrong.json"], "invalid_evidence"),
        (&["--trace", "none.json"], "not_found"),
        (&["--template", "iso"], "unknown_template"),
        (&["--key-mode", "prod"], "invalid_input"),
    ] {
        let all: Vec<&str> = ["guard", "pack", "--run", "run.zip", "--out", "g.zip"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let (_, json) = gait.json(&all);
        assert_eq!(json["error_code"], code, "{args:?}: {json}");
        assert!(!gait.path().join("g.zip").exists());
    }
}

#[test]
fn an_incident_holds_what_was_decided_in_its_window_and_names_what_it_left_out() {
    let gait = place();
    let put = |name: &str, trace: Value| gait.file(name, trace.to_string());
    put("trace_in.json", trace(1, "2026-02-14T23:59:59Z"));
    put("trace_edge.json", trace(2, "2026-02-13T00:00:00Z"));
    put("trace_out.json", trace(3, "2026-02-15T00:00:01Z"));
    let mut hidden = trace(4, "1990-01-01T00:00:00Z");
    hidden["observed_at"] = NOON.into();
    put("trace_hidden.json", signed(hidden));
    let mut forged = trace(5, NOON);
    forged["verdict"] = "block".into();
    put("trace_forged.json", forged);
    gait.file("trace_broken.json", "{");
    gait.file(
        "regress_result.json",
        json!({"fixture_set": "s", "status": "pass", "graders": [1, 2], "created_at": NOON})
            .to_string(),
    );
    gait.file("approval_audit_1.json", audit(APPROVAL, &trace_id(1), NOON));
    gait.file("approval_audit_3.json", audit(APPROVAL, &trace_id(3), NOON));
    gait.file(
        "credential_evidence_4.json",
        audit(CREDENTIAL, &trace_id(4), "1990-01-01T00:00:00Z"),
    );
    let (code, built) = gait.json(&["incident", "pack", "--from", "run.zip", "--out", "i.zip"]);
    assert_eq!(code, 0, "{built}");
    let counts = [
        "trace_count",
        "regress_count",
        "approval_audit_count",
        "credential_evidence_count",
    ]
    .map(|name| built[name].as_u64().unwrap_or(0));
    assert_eq!(counts, [3, 1, 1, 1]);
    assert_eq!(
        (&built["window_from"], &built["window_to"]),
        (
            &"2026-02-13T00:00:00Z".into(),
            &"2026-02-15T00:00:00Z".into()
        )
    );
    for broken in ["trace_broken.json", "trace_forged.json"] {
        assert!(built["warnings"].to_string().contains(broken), "{built}");
    }
    let entries = read(&gait.path().join("i.zip"));
    let digests: Value = serde_json::from_slice(&entries["policy_digests.json"]).unwrap();
    assert_eq!(digests["policy_digests"], json!(["a".repeat(64)]));
    assert_eq!(gait.json(&["guard", "verify", "i.zip"]).0, 0);
    for window in ["0s", "-1h"] {
        assert_eq!(
            gait.json(&["incident", "pack", "--from", "run.zip", "--window", window])
                .1["error_code"],
            "invalid_window"
        );
    }
}

#[test]
fn a_pack_counts_no_decision_that_its_gate_did_not_sign_and_no_simulation() {
    let gait = place();
    let key = SigningKey::generate().unwrap();
    let gait = gait.env("GK", &key.file_text());
    gait.file("policy.yaml", "default_verdict: block\n");
    let intent = json!({"tool_name": "t", "context": {"identity": "a", "workspace": "w", "risk_class": "low"}});
    gait.file("intent.json", intent.to_string());
    let eval = "gate eval --policy policy.yaml --intent intent.json --key-mode prod --private-key-env GK --trace-out";
    let words: Vec<&str> = eval.split(' ').collect();
    gait.json(&[&words[..], &["real.json"]].concat());
    gait.json(&[&words[..], &["simulated.json", "--simulate"]].concat());
    gait.file("forged.json", trace(1, NOON).to_string());
    gait.file("gate.key", format!("{}\n", key.verifying_key()));
    let pack = |traces: &str, more: &[&str]| {
        let args = [
            "guard", "pack", "--run", "run.zip", "--out", "g.zip", "--trace", traces,
        ];
        gait.json(&[&args[..], more].concat())
    };
    let (code, unproven) = pack("forged.json", &[]);
    assert_eq!(code, 0);
    let warned = unproven["warnings"].to_string();
    assert!(warned.contains("--trace-public-key"), "{unproven}");
    for change in [json!(null), json!({"alg": "none"})] {
        let mut unsigned = trace(1, NOON);
        unsigned["signature"] = change;
        gait.file("unsigned.json", unsigned.to_string());
        let (code, refused) = pack("unsigned.json", &[]);
        assert_eq!(
            (code, &refused["error_code"]),
            (6, &"invalid_evidence".into()),
            "{refused}"
        );
    }
    let signed = ["--trace-public-key", "gate.key"];
    let (_, refused) = pack("real.json,forged.json", &signed);
    assert_eq!(refused["error_code"], "invalid_evidence", "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("forged.json"));
    let (code, built) = pack("real.json,simulated.json", &signed);
    assert_eq!(code, 0, "{built}");
    let entries = read(&gait.path().join("g.zip"));
    let summary: Value = serde_json::from_slice(&entries["trace_summary.json"]).unwrap();
    assert_eq!(
        summary["verdict_counts"],
        json!({"block": 1, "simulated:block": 1})
    );
}

#[test]
fn a_chain_is_of_one_run() {
    let key = SigningKey::generate().unwrap();
    let gait = place().env("GK", &key.file_text());
    gait.file("gate.key", format!("{}\n", key.verifying_key()));
    assert_eq!(gait.run(&["demo"]).code, 0);
    for (run, pack) in [("./run.zip", "made.zip"), ("run_demo", "demo.zip")] {
        let packed = gait.json(&["guard", "pack", "--run", run, "--out", pack]);
        assert_eq!(packed.0, 0, "{packed:?}");
    }
    gait.file("policy.yaml", "default_verdict: allow\n");
    for (run, trace) in [
        ("run_made", "made.json"),
        ("run_other", "other.json"),
        ("", "none.json"),
    ] {
        let context =
            json!({"identity": "a", "workspace": "w", "risk_class": "low", "run_id": run});
        let intent = json!({"tool_name": "t", "context": context}).to_string();
        let intent = gait.file("intent.json", intent);
        let mut args = vec![
            "gate",
            "eval",
            "--policy",
            "policy.yaml",
            "--intent",
            &intent,
        ];
        args.extend([
            "--key-mode",
            "prod",
            "--private-key-env",
            "GK",
            "--trace-out",
            trace,
        ]);
        assert_eq!(gait.json(&args).0, 0);
    }
    let chain = |more: &[&str]| {
        let args = ["verify", "chain", "--run", "./run.zip"];
        let (code, shown) = gait.json(&[&args[..], more].concat());
        (code, shown["ok"].clone(), shown)
    };
    let (code, ok, shown) = chain(&["--pack", "made.zip"]);
    assert_eq!((code, ok), (0, true.into()), "{shown}");
    let (code, ok, shown) = chain(&["--pack", "demo.zip"]);
    assert_eq!((code, ok), (2, false.into()), "{shown}");
    assert_eq!(
        shown["pack"]["error"],
        "is of run run_demo, not of run_made"
    );
    for (trace, error) in [
        ("made.json", Value::Null),
        ("none.json", Value::Null),
        ("other.json", "is of run run_other, not of run_made".into()),
    ] {
        let (_, _, shown) = chain(&["--trace", trace, "--public-key", "gate.key"]);
        let ok = error.is_null();
        assert_eq!(shown["trace"]["ok"], ok, "{trace}: {shown}");
        assert_eq!(shown["trace"]["error"], error, "{trace}: {shown}");
    }
}

fn aged(gait: &Gait, name: &str, hours: u64) {
    gait.file(name, "{}");
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    fs::File::options()
        .write(true)
        .open(gait.path().join(name))
        .unwrap()
        .set_modified(then)
        .unwrap();
}

#[test]
fn retention_deletes_what_is_past_its_time_and_nothing_else() {
    let gait = Gait::new();
    for (name, hours) in [
        ("out/trace_old.json", 200),
        ("out/trace_new.json", 100),
        ("out/deep/evidence_pack_old.zip", 800),
        ("out/incident_pack_new.zip", 700),
        ("out/evidence_pack_old.gaitenc", 800),
        ("out/notes_old.json", 9000),
    ] {
        aged(&gait, name, hours);
    }
    aged(&gait, "elsewhere/trace_kept.json", 9000);
    symlink(
        gait.path().join("elsewhere"),
        gait.path().join("out/linked"),
    )
    .unwrap();
    symlink(
        gait.path().join("elsewhere/trace_kept.json"),
        gait.path().join("out/trace_link.json"),
    )
    .unwrap();
    let retain = |more: &[&str]| {
        let args: Vec<&str> = [
            "guard",
            "retain",
            "--root",
            "out",
            "--report-out",
            "reports/r.json",
        ]
        .iter()
        .chain(more)
        .copied()
        .collect();
        gait.json(&args)
    };
    let (code, planned) = retain(&["--dry-run"]);
    assert_eq!(
        (code, planned["deleted_files"].as_array().unwrap().len()),
        (0, 3)
    );
    assert!(
        gait.path().join("out/trace_old.json").exists(),
        "a dry run deletes nothing"
    );
    let (_, done) = retain(&[]);
    assert_eq!(done["deleted_files"].as_array().unwrap().len(), 3, "{done}");
    for (name, there) in [
        ("out/trace_old.json", false),
        ("out/deep/evidence_pack_old.zip", false),
        ("out/evidence_pack_old.gaitenc", false),
        ("out/trace_new.json", true),
        ("out/incident_pack_new.zip", true),
        ("out/notes_old.json", true),
        ("elsewhere/trace_kept.json", true),
    ] {
        assert_eq!(gait.path().join(name).exists(), there, "{name}");
    }
    let report: Value =
        serde_json::from_slice(&fs::read(gait.path().join("reports/r.json")).unwrap()).unwrap();
    assert_eq!(
        (&report["schema_id"], &report["scanned_files"]),
        (&"gait.guard.retention_report".into(), &5.into())
    );
    assert_eq!(
        retain(&["--trace-ttl", "-1h"]).1["error_code"],
        "invalid_ttl"
    );
    assert_eq!(
        gait.json(&["guard", "retain", "--root", "none"]).1["error_category"],
        "io_failure"
    );
}

#[test]
fn nothing_is_deleted_whose_report_cannot_be_written() {
    let gait = Gait::new();
    aged(&gait, "trace_old.json", 9000);
    gait.file("file", "");
    let (code, json) = gait.json(&["guard", "retain", "--report-out", "file/report.json"]);
    assert_eq!(
        (code, &json["error_category"]),
        (1, &"io_failure".into()),
        "{json}"
    );
    assert!(gait.path().join("trace_old.json").exists());
}

#[test]
fn a_sealed_file_opens_again_and_is_private() {
    let gait = place();
    let (code, sealed) = gait.json(&["guard", "encrypt", "--in", "run.zip", "--key-env", "SEAL"]);
    assert_eq!(
        (code, &sealed["path"], &sealed["key_ref"]),
        (0, &"run.zip.gaitenc".into(), &"SEAL".into()),
        "{sealed}"
    );
    let file: Value =
        serde_json::from_slice(&fs::read(gait.path().join("run.zip.gaitenc")).unwrap()).unwrap();
    assert_eq!(file["schema_id"], "gait.guard.encrypted_artifact");
    let (code, opened) = gait.json(&[
        "guard",
        "decrypt",
        "run.zip.gaitenc",
        "--out",
        "again.zip",
        "--key-env",
        "SEAL",
    ]);
    assert_eq!(
        (code, &opened["plain_sha256"]),
        (0, &sealed["plain_sha256"])
    );
    assert_eq!(
        fs::read(gait.path().join("run.zip")).unwrap(),
        fs::read(gait.path().join("again.zip")).unwrap()
    );
    for name in ["run.zip.gaitenc", "again.zip"] {
        assert_eq!(
            fs::metadata(gait.path().join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600,
            "{name}"
        );
    }
    let (_, again) = gait.json(&[
        "guard",
        "encrypt",
        "--in",
        "run.zip",
        "--out",
        "b.gaitenc",
        "--key-env",
        "SEAL",
    ]);
    assert_eq!(again["plain_sha256"], sealed["plain_sha256"]);
    let other: Value =
        serde_json::from_slice(&fs::read(gait.path().join("b.gaitenc")).unwrap()).unwrap();
    assert_ne!(
        (&file["nonce"], &file["ciphertext"]),
        (&other["nonce"], &other["ciphertext"])
    );
}

#[test]
fn a_sealed_file_that_was_changed_or_sealed_by_another_key_opens_nothing() {
    let gait = Gait::new()
        .env("SEAL", KEY)
        .env("OTHER", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=");
    gait.file("plain", "the content");
    assert_eq!(
        gait.json(&["guard", "encrypt", "plain", "--key-env", "SEAL"])
            .0,
        0
    );
    let sealed: Value =
        serde_json::from_slice(&fs::read(gait.path().join("plain.gaitenc")).unwrap()).unwrap();
    let open = |key: &str| {
        gait.json(&[
            "guard",
            "decrypt",
            "plain.gaitenc",
            "--out",
            "out",
            "--key-env",
            key,
        ])
    };
    assert_eq!(open("OTHER").1["error_code"], "verification_failed");
    let flipped = |text: &Value| {
        let mut bytes = text.as_str().unwrap().to_owned().into_bytes();
        bytes[0] = if bytes[0] == b'A' { b'B' } else { b'A' };
        json!(String::from_utf8(bytes).unwrap())
    };
    let whole = sealed.to_string();
    for damaged in ["", "{", &whole[..whole.len() - 1]] {
        gait.file("plain.gaitenc", damaged);
        let (exit, json) = open("SEAL");
        assert_eq!(
            (exit, &json["error_code"]),
            (2, &"verification_failed".into()),
            "{json}"
        );
    }
    for (field, value, code) in [
        ("ciphertext", flipped(&sealed["ciphertext"]), 2),
        ("nonce", flipped(&sealed["nonce"]), 2),
        ("plain_sha256", json!("0".repeat(64)), 2),
        ("plain_size", json!(1), 2),
        ("nonce", json!("AAAA"), 6),
        ("ciphertext", json!("*"), 6),
        ("algorithm", json!("none"), 6),
        ("extra", json!(1), 6),
    ] {
        let mut changed = sealed.clone();
        changed[field] = value;
        gait.file("plain.gaitenc", changed.to_string());
        let (exit, json) = open("SEAL");
        assert_eq!(exit, code, "{field}: {json}");
        assert!(!gait.path().join("out").exists(), "{field}");
    }
}

#[test]
fn a_file_is_sealed_up_to_the_limit_and_refused_past_it() {
    let gait = Gait::new().env("SEAL", KEY);
    let file = fs::File::create(gait.path().join("large")).unwrap();
    file.set_len(64 << 20).unwrap();
    assert_eq!(
        gait.json(&["guard", "encrypt", "large", "--key-env", "SEAL"])
            .0,
        0
    );
    assert_eq!(
        gait.json(&[
            "guard",
            "decrypt",
            "large.gaitenc",
            "--out",
            "again",
            "--key-env",
            "SEAL"
        ])
        .0,
        0
    );
    file.set_len((64 << 20) + 1).unwrap();
    let (code, json) = gait.json(&[
        "guard",
        "encrypt",
        "large",
        "--out",
        "b",
        "--key-env",
        "SEAL",
    ]);
    assert_eq!((code, &json["error_code"]), (6, &"file_too_large".into()));
    assert!(!gait.path().join("b").exists());
}

#[test]
fn a_sealing_key_comes_from_one_place_and_is_never_shown() {
    let secret = "c2VjcmV0LXRoYXQtbXVzdC1ub3QtYXBwZWFy";
    let gait = Gait::new()
        .env("SHORT", secret)
        .env("SEAL", KEY)
        .env("PATH", "/usr/bin:/bin");
    gait.file("plain", "x");
    let seal = |more: &[&str]| {
        let args: Vec<&str> = ["guard", "encrypt", "plain", "--out", "sealed"]
            .iter()
            .chain(more)
            .copied()
            .collect();
        gait.json(&args)
    };
    for (keys, code, reason) in [
        (&[][..], "invalid_input", "sealing_key_required"),
        (
            &["--key-env", "SEAL", "--key-command", "true"],
            "invalid_input",
            "sealing_key_ambiguous",
        ),
        (
            &["--key-env", "UNSET"],
            "invalid_input",
            "sealing_key_unset",
        ),
        (
            &["--key-env", "SHORT"],
            "invalid_input",
            "sealing_key_malformed",
        ),
        (
            &["--key-command", "echo x"],
            "invalid_input",
            "sealing_key_command_malformed",
        ),
        (
            &["--key-command", "echo", "--key-command-args", secret],
            "invalid_input",
            "sealing_key_malformed",
        ),
        (&["--key-command", "false"], "sealing_key_unavailable", ""),
        (
            &["--key-command", "/no/such/program"],
            "sealing_key_unavailable",
            "",
        ),
    ] {
        let (_, json) = seal(keys);
        assert_eq!(
            (
                &json["error_code"],
                json["error_reason"].as_str().unwrap_or("")
            ),
            (&code.into(), reason),
            "{keys:?}: {json}"
        );
        assert!(!json.to_string().contains(secret), "{json}");
        assert!(!gait.path().join("sealed").exists());
    }
    let (code, sealed) = seal(&["--key-command", "echo", "--key-command-args", KEY]);
    assert_eq!(
        (code, &sealed["key_mode"]),
        (0, &"command".into()),
        "{sealed}"
    );
    assert!(
        !fs::read_to_string(gait.path().join("sealed"))
            .unwrap()
            .contains(KEY),
        "the arguments are not kept"
    );
    assert_eq!(
        gait.json(&["guard", "decrypt", "sealed", "--key-env", "SEAL"])
            .0,
        0
    );
}
