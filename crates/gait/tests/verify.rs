//! `gait verify`: every kind of artefact, told by content, good and damaged.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/artefacts.rs"]
mod artefacts;
#[path = "support/packs.rs"]
mod packs;
mod support;

use std::path::Path;

use artefacts::{Artefacts, Damaged, Sample, damaged, unsigned};
use serde_json::Value;
use support::Gait;

fn verify(path: &Path, more: &[&str]) -> (i32, Value) {
    let arguments = [&["verify", path.to_str().unwrap()], more].concat();
    Gait::new().json(&arguments)
}

/// With the key of the makers where that signed.
fn verify_sample(artefacts: &Artefacts, sample: &Sample, path: &Path) -> (i32, Value) {
    let [key, _] = artefacts.keys();
    match sample.signed {
        true => verify(path, &["--public-key", &key]),
        false => verify(path, &[]),
    }
}

#[test]
fn every_kind_is_told_by_its_content_and_verified() {
    let artefacts = Artefacts::new();
    for sample in artefacts.all() {
        let (code, json) = verify_sample(&artefacts, &sample, &sample.path);
        assert_eq!((code, &json["ok"]), (0, &true.into()), "{json}");
        assert_eq!(json["artefact"], sample.kind);
        assert!(json.get("findings").is_none(), "{json}");
    }
}

#[test]
fn whatever_is_damaged_is_refused_and_the_part_is_named() {
    let artefacts = Artefacts::new();
    for sample in artefacts.all() {
        for Damaged {
            what,
            bytes,
            finding,
        } in damaged(&sample)
        {
            let path = artefacts.put("damaged", &bytes);
            let (code, json) = verify_sample(&artefacts, &sample, &path);
            assert_eq!(
                (code, &json["ok"]),
                (2, &false.into()),
                "{} {what}: {json}",
                sample.kind
            );
            if let Some(finding) = finding {
                assert_eq!(
                    json["findings"][0], finding,
                    "{} {what}: {json}",
                    sample.kind
                );
            }
        }
    }
}

#[test]
fn a_pack_whose_signatures_were_taken_away_is_refused_where_a_key_is_given() {
    let artefacts = Artefacts::new();
    let [key, _] = artefacts.keys();
    let pack = artefacts.all().remove(1);
    let path = artefacts.put("unsigned", &unsigned(&pack.path));
    assert_eq!(
        verify(&path, &[]).0,
        0,
        "it never had any, as far as it says"
    );
    for arguments in [&["--public-key", &key][..], &["--require-signature"]] {
        let (code, json) = verify(&path, arguments);
        let finding = &json["findings"][0];
        assert_eq!(
            (code, finding),
            (2, &"signature: manifest has no signatures".into())
        );
    }
}

#[test]
fn a_key_that_signed_nothing_verifies_nothing() {
    let artefacts = Artefacts::new();
    let [_, other] = artefacts.keys();
    for Sample { kind, path, .. } in artefacts.all() {
        let (code, json) = verify(&path, &["--public-key", &other]);
        assert_eq!(code, 2, "{kind}: {json}");
    }
}

#[test]
fn a_decision_is_not_verified_without_a_key() {
    let artefacts = Artefacts::new();
    for sample in artefacts.all() {
        if matches!(sample.kind, "trace" | "session") {
            let (code, json) = verify(&sample.path, &[]);
            assert_eq!(
                (code, &json["error_reason"]),
                (6, &"verify_key_required".into())
            );
        }
    }
}

#[test]
fn a_numbered_decision_in_a_file_of_its_own_is_a_trace() {
    let artefacts = Artefacts::new();
    let [key, _] = artefacts.keys();
    let path = artefacts.numbered_trace();
    let (code, json) = verify(&path, &["--public-key", &key]);
    assert_eq!((code, &json["artefact"]), (0, &"trace".into()), "{json}");
}

#[test]
fn what_the_gate_does_not_make_is_refused_as_such() {
    let artefacts = Artefacts::new();
    let dsse = br#"{"payload": "", "payloadType": "application/json", "signatures": []}"#;
    for bytes in [
        &b""[..],
        b"text",
        b"{}",
        b"{\"schema_id\": 7}",
        b"[]",
        dsse,
        &[0; 4096],
    ] {
        let (code, json) = verify(&artefacts.put("other", bytes), &[]);
        assert_eq!(
            (code, &json["error_reason"]),
            (2, &"artefact_unknown".into()),
            "{json}"
        );
    }
    let record = br#"{"schema_id": "gait.gate.approval_audit_record", "approved": true}"#;
    let (code, json) = verify(&artefacts.put("record", record), &[]);
    assert_eq!(
        (code, &json["error_code"]),
        (2, &"evidence_unproven".into()),
        "{json}"
    );
}

#[test]
fn a_pipe_is_not_waited_for() {
    let artefacts = Artefacts::new();
    let pipe = artefacts.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    let (code, json) = verify(&pipe, &[]);
    assert_eq!(
        (code, &json["error_code"]),
        (6, &"not_a_file".into()),
        "{json}"
    );
}

#[test]
fn a_file_beside_the_caller_is_found_by_its_plain_name() {
    let artefacts = Artefacts::new();
    let gait = Gait::new();
    let runpack = std::fs::read(&artefacts.all()[0].path).unwrap();
    gait.file("plain", runpack);
    let (code, json) = gait.json(&["verify", "plain"]);
    assert_eq!((code, &json["run_id"]), (0, &"run_demo".into()), "{json}");
    let (code, json) = gait.json(&["verify", "missing"]);
    assert_eq!(
        (code, &json["error_reason"]),
        (6, &"runpack_not_found".into())
    );
}

#[test]
fn a_chain_that_tells_other_relations_than_its_checkpoints_have_is_refused() {
    let artefacts = Artefacts::new();
    let chains = artefacts.all().into_iter();
    for sample in chains.filter(|sample| sample.kind == "session_chain") {
        let bytes = std::fs::read(&sample.path).unwrap();
        let mut chain: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        chain["checkpoints"][1]["relationship"]["related_entity_ids"][0] = "another".into();
        let path = artefacts.put("damaged", chain.to_string().as_bytes());
        let (code, json) = verify_sample(&artefacts, &sample, &path);
        assert_eq!((code, &json["ok"]), (2, &false.into()), "{json}");
        assert!(json.to_string().contains("relationship mismatch"), "{json}");
    }
}
