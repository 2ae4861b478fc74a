//! Packs, as a caller and as an attacker sees them.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/packs.rs"]
mod packs;
mod support;

use std::fs;
use std::path::PathBuf;

use packs::{Entries, Size, read, repack, runpack, sealed_runpack, with_manifest};
use serde_json::{Value, json};
use support::Gait;
use worldcompute_proof::SigningKey;

const SMALL: Size = Size {
    intents: 3,
    receipts: 2,
};

struct Place {
    gait: Gait,
    public: String,
}

/// A directory with a runpack `run.zip`, a pack of it `p.zip` signed by the key in `GK`, and that key's public half.
fn place() -> Place {
    let key = SigningKey::generate().unwrap();
    let gait = Gait::new().env("GK", &key.file_text());
    let public = gait.file("public.key", key.verifying_key().to_base64());
    runpack(&gait.path().join("run.zip"), SMALL);
    let (code, built) = gait.json(&[
        "pack",
        "build",
        "--from",
        "run.zip",
        "--out",
        "p.zip",
        "--private-key-env",
        "GK",
    ]);
    assert_eq!(code, 0, "{built}");
    Place { gait, public }
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.gait.path().join(name)
    }

    fn verify(&self, more: &[&str]) -> (i32, Value) {
        let args: Vec<&str> = ["pack", "verify", "p.zip"]
            .iter()
            .chain(more)
            .copied()
            .collect();
        self.gait.json(&args)
    }

    /// Verifies without a key, after a change that covered its traces.
    fn after(&self, change: impl FnOnce(&mut Entries)) -> (i32, Value) {
        repack(&self.path("p.zip"), change);
        self.verify(&[])
    }
}

fn edit(entries: &mut Entries, name: &str, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&entries[name]).unwrap();
    change(&mut value);
    entries.insert(
        name.to_owned(),
        worldcompute_proof::canonical_json(&value).unwrap(),
    );
}

#[test]
fn a_signed_pack_verifies_strictly_and_says_what_it_holds() {
    let place = place();
    let (code, json) = place.verify(&["--public-key", &place.public, "--profile", "strict"]);
    assert_eq!(
        (code, &json["verify"]["signature_status"]),
        (0, &"verified".into()),
        "{json}"
    );
    assert_eq!(json["verify"]["proof_records_verified"], 3);
    let (code, told) = place.gait.json(&["pack", "inspect", "p.zip"]);
    assert_eq!(code, 0);
    assert_eq!(told["inspect"]["run_payload"]["intents_count"], 3);
    assert_eq!(
        told["inspect"]["run_lineage"]["intent_results"][1],
        json!({"intent_id": "intent_000001", "status": "error", "tool_name": "tool.write"})
    );
    assert_eq!(told["inspect"]["run_lineage"]["receipt_count"], 2);
}

#[test]
fn a_run_that_its_manifest_calls_by_another_name_is_not_packed() {
    let gait = Gait::new();
    for name in ["run_other", "run_made ", " "] {
        runpack(&gait.path().join("run.zip"), SMALL);
        let mut entries = read(&gait.path().join("run.zip"));
        entries.remove("manifest.json");
        edit(&mut entries, "run.json", |run| run["run_id"] = name.into());
        sealed_runpack(&gait.path().join("run.zip"), entries);
        for args in [
            ["pack", "build", "--from", "run.zip", "--out", "p.zip"],
            ["guard", "pack", "--run", "run.zip", "--out", "p.zip"],
        ] {
            let (code, json) = gait.json(&args);
            assert_eq!(
                (code, &json["error_code"]),
                (2, &"verification_failed".into()),
                "{name:?}: {json}"
            );
            assert!(!gait.path().join("p.zip").exists());
        }
    }
}

#[test]
fn the_same_content_is_the_same_pack_whoever_zipped_it_and_whenever() {
    let place = place();
    let build = |from: &str, out: &str| {
        place
            .gait
            .json(&["pack", "build", "--from", from, "--out", out])
            .1["pack_id"]
            .clone()
    };
    let first = build("run.zip", "a.zip");
    assert_eq!(first, build("run.zip", "b.zip"));
    assert_eq!(
        fs::read(place.path("a.zip")).unwrap(),
        fs::read(place.path("b.zip")).unwrap()
    );
    packs::write(&place.path("again.zip"), &read(&place.path("run.zip")));
    assert_eq!(first, build("again.zip", "c.zip"));
}

#[test]
fn stripped_signatures_fail_wherever_a_key_or_a_signature_is_asked_for() {
    let place = place();
    let entries = read(&place.path("p.zip"));
    let mut manifest: Value = serde_json::from_slice(&entries["pack_manifest.json"]).unwrap();
    manifest.as_object_mut().unwrap().remove("signatures");
    with_manifest(&place.path("p.zip"), entries, manifest);
    assert_eq!(place.verify(&[]).0, 0, "unsigned is a matter of taste");
    for asked in [
        &["--public-key", &*place.public][..],
        &["--require-signature"],
    ] {
        let (code, json) = place.verify(asked);
        assert_eq!(
            (code, &json["ok"], &json["verify"]["signature_status"]),
            (2, &false.into(), &"missing".into()),
            "{asked:?}"
        );
        assert_eq!(
            json["verify"]["signature_errors"][0],
            "manifest has no signatures"
        );
    }
}

#[test]
fn a_change_with_covered_traces_is_caught_by_the_signature() {
    let place = place();
    repack(&place.path("p.zip"), |entries| {
        edit(entries, "context_envelope.json", |envelope| {
            envelope["records"][0]["source_locator"] = "x".into()
        });
    });
    let (code, json) = place.verify(&[]);
    assert_eq!(
        (code, &json["error_code"]),
        (2, &"verification_failed".into()),
        "the proof record still names the old digest"
    );
    let (code, _) = place.verify(&["--public-key", &place.public]);
    assert_eq!(code, 2);
}

#[test]
fn every_way_to_bend_the_chain_of_proof_records_is_caught_without_a_key() {
    type Bend = fn(&mut Vec<String>);
    let bends: [(&str, Bend); 8] = [
        ("a record is gone", |lines| drop(lines.remove(0))),
        ("the last record is gone", |lines| drop(lines.pop())),
        ("two records are swapped", |lines| lines.swap(0, 1)),
        ("a record is there twice", |lines| {
            lines.push(lines[2].clone())
        }),
        ("a digest is another", |lines| {
            lines[0] = lines[0].replace("\"entry_size_bytes\":", "\"entry_size_bytes\":1")
        }),
        ("a field is added", |lines| {
            lines[1] = lines[1].replacen('{', "{\"extra\":1,", 1)
        }),
        ("a field of the integrity is added", |lines| {
            lines[1] = lines[1].replace("\"integrity\":{", "\"integrity\":{\"x\":1,")
        }),
        ("a line is no record", |lines| lines[1] = "{}".to_owned()),
    ];
    for (what, bend) in bends {
        let (code, json) = place().after(|entries| {
            let text = String::from_utf8(entries["proof_records.jsonl"].clone()).unwrap();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            bend(&mut lines);
            entries.insert(
                "proof_records.jsonl".to_owned(),
                lines.join("\n").into_bytes(),
            );
        });
        assert_eq!(
            (code, &json["error_code"]),
            (2, &"verification_failed".into()),
            "{what}: {json}"
        );
        assert!(
            json["error"]
                .as_str()
                .unwrap()
                .contains("proof_records.jsonl"),
            "{what}: {json}"
        );
    }
}

#[test]
fn a_payload_that_disagrees_with_its_runpack_fails() {
    let place = place();
    let entries = read(&place.path("p.zip"));
    for (field, value) in [
        ("run_id", json!("run_other")),
        ("manifest_digest", json!("0".repeat(64))),
        ("capture_mode", json!("x")),
        ("extra", json!(1)),
    ] {
        packs::write(&place.path("p.zip"), &entries);
        // Without proof records nothing else knows the payload.
        repack(&place.path("p.zip"), |entries| {
            entries.remove("proof_records.jsonl");
            edit(entries, "run_payload.json", |payload| {
                payload[field] = value
            });
        });
        let mut entries = read(&place.path("p.zip"));
        let mut manifest: Value =
            serde_json::from_slice(&entries.remove("pack_manifest.json").unwrap()).unwrap();
        manifest["contents"]
            .as_array_mut()
            .unwrap()
            .retain(|entry| entry["path"] != "proof_records.jsonl");
        with_manifest(&place.path("p.zip"), entries, manifest);
        let (code, json) = place.verify(&[]);
        assert_eq!(
            (code, &json["error_code"]),
            (2, &"verification_failed".into()),
            "{field}: {json}"
        );
    }
}

#[test]
fn a_manifest_that_is_not_exactly_one_fails() {
    let place = place();
    let entries = read(&place.path("p.zip"));
    let manifest: Value = serde_json::from_slice(&entries["pack_manifest.json"]).unwrap();
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 9] = [
        ("unknown member", |m| m["x"] = json!(1)),
        ("unknown member of an entry", |m| {
            m["contents"][0]["x"] = json!(1)
        }),
        ("other schema", |m| {
            m["schema_id"] = json!("gait.pack.other")
        }),
        ("other version", |m| m["schema_version"] = json!("2.0.0")),
        ("other type", |m| m["pack_type"] = json!("anything")),
        ("no source", |m| m["source_ref"] = json!(" ")),
        ("undated", |m| {
            m["created_at"] = json!("0001-01-01T00:00:00Z")
        }),
        ("declared twice", |m| {
            let first = m["contents"][0].clone();
            m["contents"].as_array_mut().unwrap().push(first);
        }),
        ("declares itself", |m| {
            m["contents"].as_array_mut().unwrap().push(
                json!({"path": "pack_manifest.json", "sha256": "0".repeat(64), "type": "json"}),
            )
        }),
    ];
    for (what, change) in changes {
        let mut changed = manifest.clone();
        change(&mut changed);
        with_manifest(&place.path("p.zip"), entries.clone(), changed);
        let (code, json) = place.verify(&[]);
        assert_eq!(
            (code, &json["error_code"]),
            (2, &"verification_failed".into()),
            "{what}: {json}"
        );
    }
    for bytes in [
        &b"\xef\xbb\xbf{}"[..],
        b"\xff",
        b"{\"a\":1,\"a\":1}",
        b"",
        &[b'['; 10_000],
    ] {
        let mut entries = entries.clone();
        entries.insert("pack_manifest.json".to_owned(), bytes.to_vec());
        packs::write(&place.path("p.zip"), &entries);
        assert_eq!(place.verify(&[]).0, 2);
    }
}

#[test]
fn a_runpack_that_is_not_as_declared_is_not_packed() {
    let place = place();
    let mut entries = read(&place.path("run.zip"));
    entries.insert("extra.json".to_owned(), b"{}".to_vec());
    packs::write(&place.path("run.zip"), &entries);
    for args in [
        &["pack", "build", "--from", "run.zip", "--out", "new.zip"][..],
        &["guard", "pack", "--run", "run.zip", "--out", "new.zip"],
    ] {
        let (code, json) = place.gait.json(args);
        assert_eq!(
            (code, &json["error_code"]),
            (2, &"verification_failed".into()),
            "{json}"
        );
        assert!(!place.path("new.zip").exists());
    }
}

#[test]
fn receipts_out_of_order_are_put_in_order_and_malformed_ones_refused() {
    let gait = Gait::new();
    let entries = |receipts: &[Value]| {
        Entries::from([
            ("intents.jsonl".to_owned(), Vec::new()),
            ("refs.json".to_owned(), packs::refs(receipts)),
            ("results.jsonl".to_owned(), Vec::new()),
            ("run.json".to_owned(), packs::run()),
        ])
    };
    packs::sealed_runpack(
        &gait.path().join("run.zip"),
        entries(&[packs::receipt(2), packs::receipt(1)]),
    );
    assert_eq!(
        gait.json(&["pack", "build", "--from", "run.zip", "--out", "p.zip"])
            .0,
        0
    );
    let envelope: Value =
        serde_json::from_slice(&read(&gait.path().join("p.zip"))["context_envelope.json"]).unwrap();
    assert_eq!(envelope["records"][0]["ref_id"], "ref_000001");
    for (field, value) in [
        ("content_digest", json!("x")),
        ("ref_id", json!(" ")),
        ("immutability", json!("sometimes")),
        ("extra", json!(1)),
    ] {
        let mut receipt = packs::receipt(1);
        receipt[field] = value;
        packs::sealed_runpack(&gait.path().join("run.zip"), entries(&[receipt]));
        let (code, json) = gait.json(&["pack", "build", "--from", "run.zip", "--out", "q.zip"]);
        assert_eq!(
            (code, &json["error_code"]),
            (2, &"verification_failed".into()),
            "{field}: {json}"
        );
    }
}

#[test]
fn a_difference_in_when_context_was_read_is_told_from_one_in_what_was_read() {
    let gait = Gait::new();
    let pack = |name: &str, change: fn(&mut Value)| {
        let mut receipt = packs::receipt(1);
        change(&mut receipt);
        let entries = Entries::from([
            ("intents.jsonl".to_owned(), Vec::new()),
            ("refs.json".to_owned(), packs::refs(&[receipt])),
            ("results.jsonl".to_owned(), Vec::new()),
            ("run.json".to_owned(), packs::run()),
        ]);
        packs::sealed_runpack(&gait.path().join("run.zip"), entries);
        assert_eq!(
            gait.json(&["pack", "build", "--from", "run.zip", "--out", name])
                .0,
            0
        );
    };
    pack("a.zip", |_| {});
    pack("later.zip", |receipt| {
        receipt["retrieved_at"] = json!("2026-02-15T00:00:00Z")
    });
    pack("other.zip", |receipt| {
        receipt["content_digest"] = json!("5".repeat(64))
    });
    let drift = |right: &str| {
        gait.json(&["pack", "diff", "a.zip", right]).1["diff"]["Result"]["summary"]["context_drift_classification"].clone()
    };
    assert_eq!(
        (drift("a.zip"), drift("later.zip"), drift("other.zip")),
        (json!("none"), json!("runtime_only"), json!("semantic"))
    );
}

#[test]
fn a_second_source_is_refused_and_never_left_out() {
    let gait = Gait::new();
    assert_eq!(gait.run(&["demo"]).code, 0);
    for second in ["", " ", "run_other"] {
        let (code, json) = gait.json(&["pack", "build", second, "--from", "run_demo"]);
        assert_eq!((code, &json["error_code"]), (6, &"invalid_input".into()));
    }
    for line in [
        &["pack", "build", ""][..],
        &["pack", "verify", ""],
        &["pack", "verify", "", "--path", "p.zip"],
        &["pack", "inspect", " "],
        &["pack", "diff", "", ""],
        &["pack", "export", "", "--otel-out", "o"],
    ] {
        let (code, json) = gait.json(line);
        assert_eq!(
            (code, &json["error_category"]),
            (6, &"invalid_input".into()),
            "{line:?} {json}"
        );
    }
    let made = std::fs::read_dir(gait.path()).unwrap().count();
    assert_eq!(made, 1, "only what the demo made");
}

#[test]
fn key_mistakes_are_refused_before_anything_is_written() {
    let place = place();
    for (keys, reason) in [
        (&["--key-mode", "prod"][..], "key_source_required"),
        (
            &["--key-mode", "dev", "--private-key-env", "GK"],
            "key_source_not_allowed",
        ),
        (&["--key-mode", "zzz"], "key_mode_unsupported"),
        (
            &["--private-key", "x", "--private-key-env", "GK"],
            "key_source_ambiguous",
        ),
    ] {
        let args: Vec<&str> = ["pack", "build", "--from", "run.zip", "--out", "new.zip"]
            .iter()
            .chain(keys)
            .copied()
            .collect();
        let (code, json) = place.gait.json(&args);
        assert_eq!((code, &json["error_reason"]), (6, &reason.into()), "{json}");
        assert!(!place.path("new.zip").exists());
    }
}

#[test]
fn an_output_that_climbs_or_cannot_be_made_is_refused_and_nothing_is_left_behind() {
    let place = place();
    let (code, json) =
        place
            .gait
            .json(&["pack", "build", "--from", "run.zip", "--out", "../up.zip"]);
    assert_eq!(
        (code, &json["error_reason"]),
        (6, &"output_path_climbs".into())
    );
    let (code, json) = place.gait.json(&[
        "pack",
        "build",
        "--from",
        "run.zip",
        "--out",
        "run.zip/new.zip",
    ]);
    assert_eq!(
        (code, &json["error_category"]),
        (1, &"io_failure".into()),
        "{json}"
    );
    let names: Vec<_> = fs::read_dir(place.gait.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn what_is_missing_is_a_matter_of_the_disk_and_what_is_unknown_of_the_caller() {
    let gait = Gait::new();
    for args in [
        &["pack", "verify", "no.zip"][..],
        &["pack", "inspect", "no.zip"],
        &["pack", "diff", "no.zip", "no.zip"],
        &["guard", "verify", "no.zip"],
    ] {
        let (code, json) = gait.json(args);
        assert_eq!(
            (code, &json["error_category"], &json["error_code"]),
            (1, &"io_failure".into(), &"not_found".into()),
            "{args:?}"
        );
    }
    for args in [
        &["pack", "build"][..],
        &["pack", "build", "--type", "x", "--from", "y"],
        &["pack", "verify"],
        &["pack", "diff", "a"],
        &["pack", "export", "a"],
        &["pack", "build", "--from", "run_none"],
    ] {
        assert_eq!(gait.json(args).0, 6, "{args:?}");
    }
}

#[test]
fn an_export_counts_what_happened_and_quotes_what_it_is_told() {
    let place = place();
    let (code, json) = place.gait.json(&[
        "pack",
        "export",
        "p.zip",
        "--otel-out",
        "otel.jsonl",
        "--postgres-sql-out",
        "pack.sql",
        "--postgres-table",
        "audit.packs",
    ]);
    assert_eq!(code, 0, "{json}");
    assert_eq!(
        (
            &json["export"]["metrics"]["tool_calls_total"],
            &json["export"]["metrics"]["tool_calls_success"]
        ),
        (&3.into(), &2.into())
    );
    let sql = fs::read_to_string(place.path("pack.sql")).unwrap();
    assert!(
        sql.contains("INSERT INTO \"audit\".\"packs\" (") && sql.contains("'run_made'"),
        "{sql}"
    );
    place
        .gait
        .json(&["pack", "export", "p.zip", "--otel-out", "otel.jsonl"]);
    let otel = fs::read_to_string(place.path("otel.jsonl")).unwrap();
    assert_eq!(
        otel.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line["record_type"] == "span")
            .count(),
        2
    );
    for table in ["a;b", "a.b.c", "1a", "", "a\"b"] {
        let (code, json) = place.gait.json(&[
            "pack",
            "export",
            "p.zip",
            "--postgres-sql-out",
            "x.sql",
            "--postgres-table",
            table,
        ]);
        assert_eq!(
            (code, &json["error_code"]),
            (6, &"invalid_table_name".into()),
            "{table:?}"
        );
    }
    assert!(!place.path("x.sql").exists());
}

#[test]
fn a_job_is_packed_by_id_directory_or_state_file_and_tells_its_history() {
    let gait = Gait::new();
    gait.json(&["job", "submit", "--id", "j1", "--identity", "agent"]);
    gait.json(&["job", "pause", "--id", "j1"]);
    let mut ids = Vec::new();
    for from in ["j1", "gait-out/jobs/j1", "gait-out/jobs/j1/state.json"] {
        let (code, built) = gait.json(&["pack", "build", "--type", "job", "--from", from]);
        assert_eq!(
            (code, &built["source_ref"]),
            (0, &"j1".into()),
            "{from}: {built}"
        );
        ids.push(built["pack_id"].clone());
    }
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
    let path = format!("gait-out/pack_{}.zip", ids[0].as_str().unwrap());
    assert_eq!(gait.json(&["pack", "verify", &path]).0, 0);
    let (_, told) = gait.json(&["pack", "inspect", &path]);
    assert_eq!(
        told["inspect"]["job_lineage"],
        json!({"event_count": 2, "last_event_type": "paused"})
    );
    repack(&gait.path().join(&path), |entries| {
        edit(entries, "job_state.json", |state| {
            state["job_id"] = json!("j2")
        })
    });
    assert_eq!(gait.json(&["pack", "verify", &path]).0, 2);
}

/// What `gate eval` says of a call that it allows, with the trace at `trace`.
fn decided(gait: &Gait, trace: &str) -> Value {
    gait.file("policy.yaml", "default_verdict: allow\n");
    let context = json!({"identity": "alice", "workspace": "/srv", "risk_class": "low"});
    let intent = json!({"tool_name": "tool.read", "args": {}, "context": context});
    gait.file("intent.json", intent.to_string());
    gait.file("b/.keep", "");
    let (code, decided) = gait.json(&[
        "gate",
        "eval",
        "--policy",
        "policy.yaml",
        "--intent",
        "intent.json",
        "--trace-out",
        trace,
    ]);
    assert_eq!(code, 0, "{decided}");
    decided
}

#[test]
fn an_authorization_is_packed_with_its_evidence_and_nothing_outside_of_its_folder() {
    let gait = Gait::new();
    let decided = decided(&gait, "b/trace.json");
    gait.file("b/notes/outcome.txt", "done");
    gait.file("secret.json", "{}");
    for (to, link) in [
        ("../secret.json", "link.json"),
        ("..", "out"),
        ("trace.json", "alias.json"),
    ] {
        std::os::unix::fs::symlink(to, gait.path().join("b").join(link)).unwrap();
    }
    let bundle = |more: Value| {
        let mut bundle = json!({"trace_id": decided["trace_id"], "policy_digest": decided["policy_digest"], "intent_digest": decided["intent_digest"], "trace_path": "trace.json"});
        bundle
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        gait.file("b/bundle.json", bundle.to_string());
        gait.json(&[
            "pack",
            "build",
            "--type",
            "authorization",
            "--from",
            "b/bundle.json",
            "--out",
            "a.zip",
        ])
    };
    let (code, built) =
        bundle(json!({"outcome_path": "notes\\outcome.txt", "outcome_status": "allow"}));
    assert_eq!(
        (code, &built["source_ref"]),
        (0, &decided["trace_id"]),
        "{built}"
    );
    assert_eq!(gait.json(&["pack", "verify", "a.zip"]).0, 0);
    let (_, told) = gait.json(&["pack", "inspect", "a.zip"]);
    assert_eq!(
        told["inspect"]["authorization_payload"]["linked_evidence_count"],
        2
    );
    assert!(read(&gait.path().join("a.zip")).contains_key("evidence/notes/outcome.txt"));
    for (more, code) in [
        (json!({"trace_path": "../secret.json"}), 6),
        (json!({"trace_path": "/etc/hostname"}), 6),
        (json!({"trace_path": ""}), 6),
        (json!({"trace_digest": "0".repeat(64)}), 2),
        (json!({"outcome_status": "allow"}), 6),
        (json!({"outcome_status": "maybe"}), 6),
        (json!({"policy_digest": "x"}), 6),
        (json!({"policy_digest": "b".repeat(64)}), 2),
        (json!({"intent_digest": "b".repeat(64)}), 2),
        (json!({"trace_id": "another"}), 2),
        (
            json!({"outcome_path": "notes/outcome.txt", "outcome_status": "block"}),
            2,
        ),
        (json!({"extra": 1}), 6),
        (json!({"trace_path": "none.json"}), 1),
        (json!({"trace_path": "link.json"}), 6),
        (json!({"trace_path": "out/secret.json"}), 6),
        (json!({"trace_path": "alias.json"}), 0),
    ] {
        assert_eq!(bundle(more.clone()).0, code, "{more}");
    }
    repack(&gait.path().join("a.zip"), |entries| {
        drop(entries.insert("evidence/trace.json".to_owned(), b"{}".to_vec()))
    });
    assert_eq!(gait.json(&["pack", "verify", "a.zip"]).0, 2);
}

#[test]
fn a_call_is_packed_only_if_what_was_spoken_was_allowed() {
    let gait = Gait::new();
    runpack(&gait.path().join("run.zip"), SMALL);
    let event = |seq: u64, kind: &str| {
        json!({
            "schema_id": "gait.voice.call_event", "schema_version": "1.0.0", "created_at": "2026-02-15T00:00:00Z",
            "call_id": "call_1", "call_seq": seq, "turn_index": 1, "event_type": kind,
        })
    };
    let mut spoken = event(6, "tts.emitted");
    spoken["commitment_class"] = json!("quote");
    spoken["say_token_id"] = json!("say_1");
    let record = json!({
        "schema_id": "gait.voice.call_record", "schema_version": "1.0.0", "created_at": "2026-02-15T00:00:00Z",
        "producer_version": "x", "call_id": "call_1", "runpack_path": "run.zip",
        "events": [event(1, "asr.final"), event(2, "commitment.declared"), event(3, "gate.decision"), event(4, "tool.intent"), event(4, "tool.result"), event(5, "tts.request"), spoken],
        "commitments": [],
        "gate_decisions": [{"call_id": "call_1", "call_seq": 3, "turn_index": 1, "commitment_class": "quote", "verdict": "allow"}],
        "speak_receipts": [{"call_id": "call_1", "call_seq": 6, "turn_index": 1, "commitment_class": "quote", "say_token_id": "say_1", "spoken_digest": "7".repeat(64), "emitted_at": "2026-02-15T00:00:01Z"}],
    });
    let build = |record: &Value| {
        gait.file("call.json", record.to_string());
        gait.json(&[
            "pack",
            "build",
            "--type",
            "call",
            "--from",
            "call.json",
            "--out",
            "c.zip",
        ])
    };
    let (code, built) = build(&record);
    assert_eq!(
        (code, &built["source_ref"]),
        (0, &"call_1".into()),
        "{built}"
    );
    let (code, verified) = gait.json(&["pack", "verify", "c.zip"]);
    assert_eq!(code, 0, "{verified}");
    type Change = fn(&mut Value);
    let changes: [Change; 6] = [
        |record| record["gate_decisions"][0]["verdict"] = json!("block"),
        |record| record["gate_decisions"][0]["call_seq"] = json!(9),
        |record| record["speak_receipts"] = json!([]),
        |record| record["speak_receipts"][0]["say_token_id"] = json!("say_2"),
        |record| drop(record["events"].as_array_mut().unwrap().remove(0)),
        |record| record["events"][0]["call_id"] = json!("call_2"),
    ];
    for change in changes {
        let mut changed = record.clone();
        change(&mut changed);
        let (code, json) = build(&changed);
        assert_eq!(
            (code, &json["error_category"]),
            (6, &"invalid_input".into()),
            "{json}"
        );
    }
    repack(&gait.path().join("c.zip"), |entries| {
        drop(entries.insert("gate_decisions.jsonl".to_owned(), Vec::new()))
    });
    assert_eq!(gait.json(&["pack", "verify", "c.zip"]).0, 2);
}
