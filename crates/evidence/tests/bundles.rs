//! Bundles that are written, and what is done to them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use uuid::Uuid;
use worldcompute_evidence::{
    Area, Assertion, Bundle, Commits, MAX_BUNDLE_BYTES, MAX_SCREENSHOTS, Machine, Metadata,
    Overall, Results, WARN_BUNDLE_BYTES, validate,
};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and then some";

fn bundle() -> Bundle {
    Bundle {
        phase: 1,
        metadata: Metadata {
            run_id: Uuid::now_v7(),
            area: Area::firewall_traversal(),
            spec: "world-compute 1.A".to_owned(),
            git_sha: COMMIT.to_owned(),
            software_version: "0.1.0".to_owned(),
            started_at: "2026-08-01T10:00:00.5Z".parse().unwrap(),
            ended_at: "2026-08-01T10:00:07Z".parse().unwrap(),
            machines: vec![Machine::this()],
            env: [("bootstrap".to_owned(), json!(2))].into(),
        },
        results: Results {
            overall: Overall::Pass,
            assertions: vec![Assertion {
                name: "a relay is reached".to_owned(),
                expected: json!("works"),
                observed: json!("works"),
                pass: true,
            }],
        },
        run_log: "dialled\n".to_owned(),
        trace: Some("{\"at_ms\":1}\n{\"at_ms\":2}\n".to_owned()),
        index: "# A run\n".to_owned(),
    }
}

/// A bundle on the disk; the first is what keeps it there.
fn written() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let place = bundle().write(dir.path()).unwrap();
    (dir, place)
}

fn code(place: &Path) -> String {
    match validate(place, Commits::Unchecked) {
        Ok(_) => "valid".to_owned(),
        Err(fault) => fault.code().to_owned(),
    }
}

/// Rewrites a JSON file of the bundle.
fn edit(place: &Path, file: &str, edit: impl FnOnce(&mut Value)) {
    let path = place.join(file);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut value);
    put(&path, value.to_string().as_bytes());
}

fn put(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_bundle_is_where_its_phase_area_and_start_say_and_reads_back() {
    let (dir, place) = written();
    let below = place.strip_prefix(dir.path()).unwrap();
    assert_eq!(
        below,
        Path::new("phase1/firewall-traversal/20260801T100000Z")
    );
    let valid = validate(&place, Commits::Unchecked).unwrap();
    assert_eq!(valid.results, bundle().results);
    assert_eq!(valid.metadata.started_at, bundle().metadata.started_at);
    assert!(valid.warnings.is_empty());
    let again = bundle().write(dir.path()).unwrap_err();
    assert_eq!(again.code(), "already_exists");
}

#[test]
fn what_would_be_no_bundle_is_not_written_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spoil: [fn(&mut Bundle); 4] = [
        |bundle| bundle.metadata.git_sha = "unknown".to_owned(),
        |bundle| bundle.results.assertions[0].pass = false,
        |bundle| bundle.trace = Some("{\n".to_owned()),
        |bundle| bundle.run_log = "x".repeat(MAX_BUNDLE_BYTES as usize),
    ];
    for (spoil, code) in spoil.into_iter().zip([
        "no_commit",
        "evidence_invalid",
        "evidence_invalid",
        "evidence_too_large",
    ]) {
        let mut spoilt = bundle();
        spoil(&mut spoilt);
        assert_eq!(spoilt.write(dir.path()).unwrap_err().code(), code);
        let left = fs::read_dir(dir.path().join("phase1/firewall-traversal")).unwrap();
        assert_eq!(left.count(), 0, "{code}");
    }
}

#[test]
fn a_missing_file_is_named() {
    for name in ["run.log", "metadata.json", "results.json", "index.md"] {
        let (_dir, place) = written();
        fs::remove_file(place.join(name)).unwrap();
        let fault = validate(&place, Commits::Unchecked).unwrap_err();
        assert_eq!(fault.code(), "evidence_missing");
        assert!(fault.message().contains(name), "{fault}");
    }
    let (_dir, place) = written();
    fs::remove_file(place.join("trace.jsonl")).unwrap();
    assert_eq!(code(&place), "valid");
}

#[test]
fn no_member_of_the_metadata_may_be_missing_or_of_another_kind() {
    let members = [
        "run_id",
        "area",
        "spec",
        "git_sha",
        "software_version",
        "started_at",
        "ended_at",
        "machines",
        "env",
    ];
    for member in members {
        for wrong in [
            None,
            Some(json!(null)),
            Some(json!("")),
            Some(json!(7)),
            Some(json!([])),
        ] {
            let (_dir, place) = written();
            edit(&place, "metadata.json", |metadata| match &wrong {
                None => drop(metadata.as_object_mut().unwrap().remove(member)),
                Some(wrong) => metadata[member] = wrong.clone(),
            });
            assert_ne!(code(&place), "valid", "{member}: {wrong:?}");
        }
    }
}

#[test]
fn a_commit_that_is_none_is_refused() {
    for (sha, expected) in [
        ("unknown", "no_commit"),
        ("", "no_commit"),
        (&COMMIT[..12], "no_commit"),
        (&"0".repeat(40), "no_commit"),
        (COMMIT, "valid"),
    ] {
        let (_dir, place) = written();
        edit(&place, "metadata.json", |metadata| {
            metadata["git_sha"] = json!(sha)
        });
        assert_eq!(code(&place), expected, "{sha}");
    }
}

#[test]
fn the_end_is_not_before_the_start_and_the_area_is_known() {
    let (_dir, place) = written();
    edit(&place, "metadata.json", |metadata| {
        metadata["ended_at"] = json!("2026-08-01T09:59:59Z")
    });
    assert_eq!(code(&place), "evidence_invalid");
    let (_dir, place) = written();
    edit(&place, "metadata.json", |metadata| {
        metadata["area"] = json!("../../etc")
    });
    assert_eq!(code(&place), "evidence_invalid");
}

#[test]
fn the_word_for_all_is_one_of_three_and_says_what_the_assertions_say() {
    let assertion = |pass: bool| json!({"name": "n", "expected": 1, "observed": 2, "pass": pass});
    let cases = [
        ("ok", vec![assertion(true)], "evidence_invalid"),
        ("PASS", vec![assertion(true)], "evidence_invalid"),
        ("pass", vec![], "evidence_invalid"),
        (
            "pass",
            vec![assertion(true), assertion(false)],
            "evidence_invalid",
        ),
        ("fail", vec![assertion(true)], "evidence_invalid"),
        ("partial", vec![assertion(true)], "evidence_invalid"),
        ("pass", vec![assertion(true)], "valid"),
        ("fail", vec![assertion(false)], "valid"),
        ("partial", vec![assertion(true), assertion(false)], "valid"),
        (
            "pass",
            vec![json!({"name": "n", "pass": true})],
            "evidence_invalid",
        ),
        (
            "pass",
            vec![json!({"name": " ", "expected": 1, "observed": 1, "pass": true})],
            "evidence_invalid",
        ),
    ];
    for (overall, assertions, expected) in cases {
        let (_dir, place) = written();
        edit(&place, "results.json", |results| {
            *results = json!({"overall": overall, "assertions": assertions});
        });
        assert_eq!(code(&place), expected, "{overall}: {assertions:?}");
    }
}

#[test]
fn a_bundle_has_its_size_and_not_a_byte_more() {
    let (_dir, place) = written();
    let log = place.join("run.log");
    let others =
        validate(&place, Commits::Unchecked).unwrap().bytes - log.metadata().unwrap().len();
    let sized = |bytes: u64| {
        fs::File::options()
            .write(true)
            .open(&log)
            .unwrap()
            .set_len(bytes - others)
            .unwrap();
        validate(&place, Commits::Unchecked)
    };
    assert!(sized(WARN_BUNDLE_BYTES).unwrap().warnings.is_empty());
    assert_eq!(sized(WARN_BUNDLE_BYTES + 1).unwrap().warnings.len(), 1);
    assert_eq!(sized(MAX_BUNDLE_BYTES).unwrap().bytes, MAX_BUNDLE_BYTES);
    assert_eq!(
        sized(MAX_BUNDLE_BYTES + 1).unwrap_err().code(),
        "evidence_too_large"
    );
}

#[test]
fn nothing_else_is_in_a_bundle_and_pictures_are_pictures() {
    let (_dir, place) = written();
    let pictures = place.join("screenshots");
    fs::create_dir(&pictures).unwrap();
    put(&pictures.join("one.png"), PNG);
    assert_eq!(code(&place), "valid");
    put(&pictures.join("one.png"), b"no picture");
    assert_eq!(code(&place), "evidence_invalid");
    put(&pictures.join("one.png"), PNG);
    for other in ["notes.txt", "screenshots/one.jpg", "screenshots/.png"] {
        put(&place.join(other), b"?");
        assert_eq!(code(&place), "evidence_unexpected", "{other}");
        fs::remove_file(place.join(other)).unwrap();
    }
    std::os::unix::fs::symlink("/etc/hostname", pictures.join("two.png")).unwrap();
    assert_eq!(code(&place), "evidence_unexpected");
    fs::remove_file(pictures.join("two.png")).unwrap();
    fs::create_dir(pictures.join("screenshots")).unwrap();
    assert_eq!(code(&place), "evidence_unexpected");
}

#[test]
fn pictures_are_counted() {
    let (_dir, place) = written();
    let pictures = place.join("screenshots");
    fs::create_dir(&pictures).unwrap();
    for number in 0..MAX_SCREENSHOTS {
        put(&pictures.join(format!("{number}.png")), PNG);
    }
    assert_eq!(code(&place), "valid");
    put(&pictures.join("more.png"), PNG);
    assert_eq!(code(&place), "evidence_unexpected");
}

#[test]
fn a_line_of_the_trace_that_is_no_json_is_named() {
    let (_dir, place) = written();
    put(&place.join("trace.jsonl"), b"{}\n{\n");
    let fault = validate(&place, Commits::Unchecked).unwrap_err();
    assert!(fault.message().contains("line 2"), "{fault}");
    put(&place.join("trace.jsonl"), b"\xff\n");
    assert_eq!(code(&place), "evidence_invalid");
}

#[test]
fn other_programs_may_say_more_and_name_their_machines_as_they_like() {
    let (_dir, place) = written();
    edit(&place, "metadata.json", |metadata| {
        metadata["hosts"] = json!(3);
        metadata["machines"] = json!(["a", {"name": "b", "cores": 4}]);
    });
    assert_eq!(code(&place), "valid");
}

#[test]
fn what_is_no_folder_is_no_bundle() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(code(&dir.path().join("none")), "not_found");
    assert_eq!(code(dir.path()), "evidence_missing");
}
