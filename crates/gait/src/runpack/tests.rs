//! Runpacks that lie, and inputs that do not say enough.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use worldcompute_durable::{Mode, write_atomic};
use worldcompute_fault::{Category, Fault};
use worldcompute_proof::{SigningKey, VerifyingKey, canonical_json};

use super::*;
use crate::archive::{self, Archive};
use crate::limits::{MAX_ENTRY_BYTES, MAX_RECORD_BYTES};

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

fn input() -> Value {
    json!({
        "run": {
            "created_at": "2026-02-14T00:00:00Z",
            "env": {"os": "darwin", "arch": "arm64", "runtime": "go"},
            "run_id": "run_test",
            "timeline": [{"event": "tool_call", "ts": "2026-02-14T00:00:00Z", "ref": "intent_1"}],
        },
        "intents": [
            {"intent_id": "intent_1", "tool_name": "echo", "args": {"message": "secret-in-args"}},
        ],
        "results": [
            {"intent_id": "intent_1", "status": "ok", "result": {"answer": "secret-in-result"}},
        ],
        "refs": {"receipts": []},
    })
}

/// A folder with an input in it.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn record(
        &self,
        input: &Value,
        mode: CaptureMode,
        key: Option<&SigningKey>,
    ) -> Result<PathBuf, Fault> {
        self.record_text(&input.to_string(), mode, key)
    }

    fn record_text(
        &self,
        input: &str,
        mode: CaptureMode,
        key: Option<&SigningKey>,
    ) -> Result<PathBuf, Fault> {
        let file = self.path("input.json");
        put(&file, input.as_bytes());
        let input = RecordInput::open(&file)?;
        let mut recorder = Recorder::new(
            input.run.clone(),
            input.refs.clone(),
            mode,
            Stamp::default(),
        )?;
        input.record(&mut recorder, false)?;
        let path = self.path("pack.zip");
        recorder.finish(&path, key)?;
        Ok(path)
    }

    fn refused(&self, input: &Value) -> String {
        let fault = self
            .record(input, CaptureMode::Reference, None)
            .unwrap_err();
        assert_eq!(
            (fault.category(), fault.code()),
            (Category::InvalidInput, "invalid_input")
        );
        fault.message().to_owned()
    }
}

fn put(path: &Path, bytes: &[u8]) {
    write_atomic(path, bytes, Mode::Private).unwrap();
}

fn signed_by(key: &VerifyingKey) -> Requirements<'_> {
    Requirements {
        key: Some(key),
        signature: true,
    }
}

fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let archive = Archive::open(path).unwrap();
    let names: Vec<String> = archive
        .entries()
        .iter()
        .map(|entry| entry.name().to_owned())
        .collect();
    names
        .into_iter()
        .map(|name| (name.clone(), archive.bytes(&name, MAX_ENTRY_BYTES).unwrap()))
        .collect()
}

/// The same runpack with other entries.
fn rewritten(path: &Path, change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) {
    let mut entries = contents(path);
    change(&mut entries);
    entries.sort();
    archive::write(path, |writer| {
        for (name, content) in &entries {
            writer.add(name, content.as_slice())?;
        }
        Ok(())
    })
    .unwrap();
}

fn with_manifest(path: &Path, change: impl FnOnce(&mut Value)) {
    rewritten(path, |entries| {
        let (_, bytes) = entries
            .iter_mut()
            .find(|(name, _)| name == MANIFEST)
            .unwrap();
        let mut manifest: Value = serde_json::from_slice(bytes).unwrap();
        change(&mut manifest);
        *bytes = canonical_json(&manifest).unwrap();
    });
}

#[test]
fn a_signed_runpack_verifies_with_its_key_and_with_no_other() {
    let bench = Bench::new();
    let path = bench
        .record(&input(), CaptureMode::Reference, Some(&key()))
        .unwrap();
    let own = key().verifying_key();
    let report = verify(&path, &signed_by(&own)).unwrap();
    assert!(report.holds());
    assert_eq!(report.signature_status, SignatureStatus::Verified);
    let other = SigningKey::from_seed([8; 32]).verifying_key();
    let report = verify(&path, &signed_by(&other)).unwrap();
    assert!(!report.holds());
    assert_eq!(
        (report.signature_status, report.signature_errors),
        (SignatureStatus::Failed, vec!["key id mismatch".to_owned()])
    );
    let report = verify(&path, &Requirements::default()).unwrap();
    assert!(report.holds());
    assert_eq!(report.signature_status, SignatureStatus::Skipped);
}

#[test]
fn a_runpack_whose_signatures_were_stripped_fails_as_soon_as_a_key_is_given() {
    let bench = Bench::new();
    let path = bench
        .record(&input(), CaptureMode::Reference, Some(&key()))
        .unwrap();
    for stripped in [json!(null), json!([])] {
        with_manifest(&path, |manifest| match stripped.is_null() {
            true => drop(manifest.as_object_mut().unwrap().remove("signatures")),
            false => manifest["signatures"] = stripped.clone(),
        });
        let own = key().verifying_key();
        let report = verify(
            &path,
            &Requirements {
                key: Some(&own),
                signature: false,
            },
        )
        .unwrap();
        assert!(!report.holds());
        assert_eq!(report.signature_errors, ["manifest has no signatures"]);
        assert!(verify(&path, &Requirements::default()).unwrap().holds());
        assert!(
            !verify(
                &path,
                &Requirements {
                    key: None,
                    signature: true
                }
            )
            .unwrap()
            .holds()
        );
    }
}

#[test]
fn a_good_signature_beside_a_forged_one_of_the_same_key_is_no_proof() {
    let bench = Bench::new();
    let path = bench
        .record(&input(), CaptureMode::Reference, Some(&key()))
        .unwrap();
    with_manifest(&path, |manifest| {
        let mut forged = manifest["signatures"][0].clone();
        forged["sig"] = json!("AAAA");
        manifest["signatures"].as_array_mut().unwrap().push(forged);
    });
    let own = key().verifying_key();
    let report = verify(&path, &signed_by(&own)).unwrap();
    assert_eq!(
        (
            report.holds(),
            report.signatures_valid,
            report.signatures_total
        ),
        (false, 1, 2)
    );
}

#[test]
fn a_signature_of_somebody_else_beside_the_keys_own_harms_nothing() {
    let bench = Bench::new();
    let path = bench
        .record(&input(), CaptureMode::Reference, Some(&key()))
        .unwrap();
    with_manifest(&path, |manifest| {
        let mut other = manifest["signatures"][0].clone();
        other["key_id"] = json!("ff");
        manifest["signatures"].as_array_mut().unwrap().push(other);
    });
    let own = key().verifying_key();
    assert!(verify(&path, &signed_by(&own)).unwrap().holds());
}

#[test]
fn an_undeclared_entry_is_named_and_fails() {
    let bench = Bench::new();
    let path = bench
        .record(&input(), CaptureMode::Reference, None)
        .unwrap();
    rewritten(&path, |entries| {
        entries.push(("extra.txt".to_owned(), b"x".to_vec()))
    });
    let report = verify(&path, &Requirements::default()).unwrap();
    assert!(!report.holds());
    assert_eq!(report.undeclared_files, ["extra.txt"]);
    assert!(Runpack::open(&path).is_err());
}

#[test]
fn a_missing_entry_and_one_that_no_manifest_lists_are_both_missing() {
    let bench = Bench::new();
    let path = bench
        .record(&input(), CaptureMode::Reference, None)
        .unwrap();
    rewritten(&path, |entries| entries.retain(|(name, _)| name != INTENTS));
    assert_eq!(
        verify(&path, &Requirements::default())
            .unwrap()
            .missing_files,
        [INTENTS]
    );
    let path = bench
        .record(&input(), CaptureMode::Reference, None)
        .unwrap();
    with_manifest(&path, |manifest| {
        manifest["files"]
            .as_array_mut()
            .unwrap()
            .retain(|file| file["path"] != REFS);
    });
    let report = verify(&path, &Requirements::default()).unwrap();
    assert_eq!(
        (report.missing_files, report.undeclared_files),
        (vec![REFS.to_owned()], vec![REFS.to_owned()])
    );
}

#[test]
fn changed_content_names_the_entry_and_both_digests() {
    let bench = Bench::new();
    let path = bench
        .record(&input(), CaptureMode::Reference, None)
        .unwrap();
    rewritten(&path, |entries| entries.last_mut().unwrap().1.push(b' '));
    let report = verify(&path, &Requirements::default()).unwrap();
    assert!(!report.holds());
    let mismatch = &report.hash_mismatches[0];
    assert_eq!(mismatch.path, RUN);
    assert_ne!(mismatch.expected, mismatch.actual);
    assert_eq!(
        Runpack::open(&path).unwrap_err().message(),
        "runpack hash mismatch"
    );
}

#[test]
fn what_is_no_manifest_is_a_failed_verification() {
    let changes: [fn(&mut Value); 7] = [
        |manifest| manifest["note"] = json!("unsigned"),
        |manifest| manifest["schema_id"] = json!("gait.runpack.manifest2"),
        |manifest| manifest["schema_version"] = json!("2.0.0"),
        |manifest| manifest["run_id"] = json!(""),
        |manifest| manifest["capture_mode"] = json!("partly"),
        |manifest| manifest["files"][0]["size"] = json!(1),
        |manifest| {
            let file = manifest["files"][0].clone();
            manifest["files"].as_array_mut().unwrap().push(file);
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let bench = Bench::new();
        let path = bench
            .record(&input(), CaptureMode::Reference, None)
            .unwrap();
        with_manifest(&path, change);
        let fault = verify(&path, &Requirements::default()).unwrap_err();
        assert_eq!(
            (fault.category(), fault.code()),
            (Category::VerificationFailed, "verification_failed"),
            "{number}"
        );
    }
}

#[test]
fn a_missing_runpack_is_the_disks_fault_and_a_broken_one_the_runpacks() {
    let bench = Bench::new();
    let missing = verify(&bench.path("none.zip"), &Requirements::default()).unwrap_err();
    assert_eq!(missing.category(), Category::IoFailure);
    put(&bench.path("broken.zip"), b"PK");
    let broken = verify(&bench.path("broken.zip"), &Requirements::default()).unwrap_err();
    assert_eq!(broken.category(), Category::VerificationFailed);
}

#[test]
fn a_runpack_cut_at_any_byte_is_a_failed_verification() {
    let bench = Bench::new();
    let path = bench
        .record(&input(), CaptureMode::Reference, Some(&key()))
        .unwrap();
    let bytes = fs::read(path).unwrap();
    for len in 0..bytes.len() {
        let refused = Archive::new(&bytes[..len], "cut")
            .and_then(|archive| verify_archive(&archive, &Requirements::default()));
        assert_eq!(
            refused.unwrap_err().category(),
            Category::VerificationFailed,
            "{len}"
        );
    }
}

#[test]
fn no_changed_bit_of_a_signed_runpack_verifies_as_other_content() {
    let bench = Bench::new();
    let path = bench
        .record(&input(), CaptureMode::Reference, Some(&key()))
        .unwrap();
    let bytes = fs::read(&path).unwrap();
    let own = key().verifying_key();
    let mut unread = 0;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let report = Archive::new(&changed[..], "changed")
                .and_then(|archive| verify_archive(&archive, &signed_by(&own)));
            if report.is_ok_and(|report| report.holds()) {
                // Only the bits that fill up the last byte of a deflate stream, which nothing reads.
                put(&bench.path("changed.zip"), &changed);
                assert_eq!(
                    contents(&bench.path("changed.zip")),
                    contents(&path),
                    "byte {at} bit {bit}"
                );
                unread += 1;
            }
        }
    }
    assert!(unread <= 7 * 5, "{unread}");
}

#[test]
fn a_reference_runpack_keeps_no_payload_and_a_raw_one_keeps_all() {
    let bench = Bench::new();
    let path = bench
        .record(&input(), CaptureMode::Reference, None)
        .unwrap();
    for (name, content) in contents(&path) {
        assert!(
            !String::from_utf8(content).unwrap().contains("secret"),
            "{name}"
        );
    }
    let path = bench.record(&input(), CaptureMode::Raw, None).unwrap();
    let pack = Runpack::open(&path).unwrap();
    let mut intents = pack.intents().unwrap();
    let intent = intents.advance().unwrap().unwrap();
    assert_eq!(
        intent.args.unwrap().members().unwrap()["message"],
        "secret-in-args"
    );
    let mut results = pack.results().unwrap();
    let result = results.advance().unwrap().unwrap();
    assert_eq!(
        result.result.unwrap().members().unwrap()["answer"],
        "secret-in-result"
    );
}

#[test]
fn what_a_record_leaves_out_comes_from_its_run() {
    let bench = Bench::new();
    let path = bench
        .record(&input(), CaptureMode::Reference, None)
        .unwrap();
    let pack = Runpack::open(&path).unwrap();
    let mut intents = pack.intents().unwrap();
    let intent = intents.advance().unwrap().unwrap();
    assert_eq!(intent.run_id, "run_test");
    assert_eq!(intent.created_at.to_string(), "2026-02-14T00:00:00Z");
    assert_eq!(
        (&*intent.schema_id, &*intent.producer_version),
        ("gait.runpack.intent", "0.0.0-dev")
    );
}

#[test]
fn the_order_of_the_members_of_an_input_does_not_matter() {
    let bench = Bench::new();
    let one = fs::read(bench.record(&input(), CaptureMode::Raw, None).unwrap()).unwrap();
    let members = input();
    let text: Vec<String> = ["intents", "results", "refs", "run"]
        .iter()
        .map(|name| format!("{name:?}: {}", members[name]))
        .collect();
    let other = bench
        .record_text(
            &format!("{{ {} }}\n", text.join(" ,\n")),
            CaptureMode::Raw,
            None,
        )
        .unwrap();
    assert_eq!(fs::read(other).unwrap(), one);
}

#[test]
fn a_digest_has_to_be_of_something() {
    let bench = Bench::new();
    let mut without = input();
    without["intents"][0]
        .as_object_mut()
        .unwrap()
        .remove("args");
    assert!(
        bench
            .refused(&without)
            .contains("intent intent_1 requires args_digest")
    );
    let mut without = input();
    without["results"][0]
        .as_object_mut()
        .unwrap()
        .remove("result");
    assert!(
        bench
            .refused(&without)
            .contains("result intent_1 requires result_digest")
    );
    let mut wrong = input();
    wrong["normalization"] = json!({"intent_args": {"intent_1": {"message": "other"}}});
    wrong["intents"][0]["args_digest"] = json!("a".repeat(64));
    assert!(
        bench
            .refused(&wrong)
            .contains("intent intent_1 args digest mismatch")
    );
}

#[test]
fn payloads_known_apart_give_the_digests_of_records_and_receipts() {
    let bench = Bench::new();
    let mut apart = input();
    apart["intents"][0].as_object_mut().unwrap().remove("args");
    apart["results"][0]
        .as_object_mut()
        .unwrap()
        .remove("result");
    apart["normalization"] = json!({
        "intent_args": {"intent_1": {"message": "secret-in-args"}},
        "result_payloads": {"intent_1": {"answer": "secret-in-result"}},
    });
    apart["refs"]["receipts"] = json!([{
        "ref_id": "trace_intent_1", "source_type": "gait.trace", "source_locator": "trace://x",
        "redaction_mode": "reference",
    }]);
    let path = bench.record(&apart, CaptureMode::Reference, None).unwrap();
    let pack = Runpack::open(&path).unwrap();
    let mut results = pack.results().unwrap();
    let digest = results.advance().unwrap().unwrap().result_digest;
    let receipt = pack.refs().unwrap().receipts.remove(0);
    assert_eq!(receipt.content_digest, digest);
    assert_eq!(
        (receipt.query_digest.len(), receipt.immutability.as_str()),
        (64, "unknown")
    );
    assert_eq!(receipt.retrieved_at.to_string(), "1980-01-01T00:00:00Z");
}

#[test]
fn receipts_that_prove_nothing_are_refused() {
    let receipt = |ref_id: &str, source_type: &str| {
        let mut input = input();
        input["refs"]["receipts"] = json!([{"ref_id": ref_id, "source_type": source_type}]);
        Bench::new().refused(&input)
    };
    assert!(receipt("ref_1", "http").contains("receipt ref_1 requires query_digest"));
    assert!(receipt("trace_other", "gait.trace").contains("references unknown intent other"));
}

#[test]
fn an_input_of_another_shape_is_refused() {
    let bench = Bench::new();
    for text in [
        "",
        "[]",
        "{",
        "{\"run\":{}}x",
        "{\"run\":{},\"run\":{}}",
        "{\"runs\":{}}",
        "{\"run\":{\"x\":1}}",
        "{\"run\":{\"run_id\":\"a\",\"run_id\":\"b\"}}",
        "{\"run\":{\"created_at\":\"yesterday\"}}",
    ] {
        let fault = bench
            .record_text(text, CaptureMode::Reference, None)
            .unwrap_err();
        assert_eq!(
            (fault.category(), fault.code()),
            (Category::InvalidInput, "invalid_input"),
            "{text}"
        );
    }
    for (member, value) in [
        ("intents", json!([1])),
        ("intents", json!({})),
        ("intents", json!([{"intent_id": "x", "args": []}])),
        ("results", json!([{"unknown": 1}])),
    ] {
        let mut input = input();
        input[member] = value;
        bench.refused(&input);
    }
}

#[test]
fn a_run_id_that_would_name_another_folder_is_refused() {
    for id in [
        "../../etc/x",
        "a/b",
        "a\\b",
        ".hidden",
        "a b",
        "",
        &"x".repeat(129),
    ] {
        let mut input = input();
        input["run"]["run_id"] = json!(id);
        Bench::new().refused(&input);
    }
}

#[test]
fn a_record_is_taken_at_the_size_limit_and_refused_past_it() {
    let bench = Bench::new();
    let with = |len: usize| {
        let mut input = input();
        input["intents"][0]["tool_name"] = json!("x".repeat(len));
        input
    };
    let path = bench
        .record(&with(1), CaptureMode::Reference, None)
        .unwrap();
    let line = contents(&path).remove(0).1.len() - 1;
    let most = MAX_RECORD_BYTES - line + 1;
    let path = bench
        .record(&with(most), CaptureMode::Reference, None)
        .unwrap();
    let pack = Runpack::open(&path).unwrap();
    assert!(pack.intents().unwrap().advance().unwrap().is_some());
    let fault = bench
        .record(&with(most + 1), CaptureMode::Reference, None)
        .unwrap_err();
    assert_eq!(fault.code(), "archive_limit");
}

#[test]
fn a_line_that_is_no_record_is_named_by_its_number() {
    let bench = Bench::new();
    let path = bench
        .record(&input(), CaptureMode::Reference, None)
        .unwrap();
    let archive = Archive::open(&path).unwrap();
    let line = archive.bytes(INTENTS, 10_000).unwrap();
    let text = [line.as_slice(), b"\n  \n", b"{\"intent_id\":1}\n", &line].concat();
    let mut writer = archive::Writer::new(Vec::new(), "x");
    writer.add(INTENTS, text.as_slice()).unwrap();
    let bytes = writer.finish().unwrap();
    let archive = Archive::new(&bytes[..], "x").unwrap();
    let mut records = Records::<Intent<'static>, _>::new(archive.read(INTENTS).unwrap());
    assert!(records.advance().unwrap().is_some());
    let fault = records.advance().unwrap_err();
    assert_eq!(fault.category(), Category::VerificationFailed);
    assert!(fault.message().contains("line 4"), "{fault}");
}

#[test]
fn a_run_is_found_by_path_or_by_id_and_else_is_a_mistake_of_the_caller() {
    let bench = Bench::new();
    let home = bench.path("home");
    fs::create_dir_all(home.join(".gait/runpacks")).unwrap();
    let stored = home.join(".gait/runpacks/runpack_run_x.zip");
    put(&stored, b"");
    let environment =
        std::collections::BTreeMap::from([("HOME".to_owned(), home.display().to_string())]);
    assert_eq!(locate("run_x", &environment).unwrap(), stored);
    assert_eq!(
        locate(&stored.display().to_string(), &environment).unwrap(),
        stored
    );
    for missing in [
        "run_y",
        "./none.zip",
        "none.zip",
        "",
        &home.display().to_string(),
    ] {
        let fault = locate(missing, &environment).unwrap_err();
        assert_eq!(
            (fault.category(), fault.code()),
            (Category::InvalidInput, "invalid_input"),
            "{missing}"
        );
    }
}

#[test]
fn no_real_tool_runs_for_a_run_that_names_an_intent_or_a_result_twice() {
    let bench = Bench::new();
    let written = bench.path("written");
    let args = json!({"path": written, "content": "x"});
    let tools = ["file.write".to_owned()];
    let real = RealTools::permit(true, true, &tools, ("ALLOW", Some("1"))).unwrap();
    let replayed = |twice: Option<&str>| {
        let mut input = input();
        input["intents"] =
            json!([{"intent_id": "intent_1", "tool_name": "file.write", "args": args}]);
        if let Some(twice) = twice {
            let again = input[twice][0].clone();
            input[twice].as_array_mut().unwrap().push(again);
        }
        let path = bench.record(&input, CaptureMode::Raw, None).unwrap();
        replay(&path, real.as_ref(), |_| Ok(()))
    };
    for twice in ["intents", "results"] {
        let fault = replayed(Some(twice)).unwrap_err();
        assert_eq!(fault.code(), "invalid_input");
        assert!(fault.message().starts_with("duplicate"), "{fault}");
        assert!(!written.exists(), "{twice}");
    }
    replayed(None).unwrap();
    assert!(written.exists(), "the tool is a real one");
}
