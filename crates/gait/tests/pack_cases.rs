//! The conformance cases of packs and guard packs, run with the built binary.
//!
//! Skipped, with a printed reason, where the cases are not at hand.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use support::{Gait, Run};

/// Fields that name this machine, this build or this moment.
const NOT_COMPARED: [&str; 5] = [
    "correlation_id",
    "path",
    "producer_version",
    "error",
    "exit_code",
];

#[test]
fn the_shared_cases_of_packs_hold() {
    let Some(folder) = shared() else {
        println!("skipped: no folder shared/cases/gait beside or inside the checkout");
        return;
    };
    let index = std::fs::read_to_string(folder.join("index.tsv")).unwrap();
    let mut ran = 0;
    for line in index.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [
            id,
            "pack_verify" | "pack_diff" | "guard_verify",
            _,
            command,
            expected,
            _,
            note,
        ] = columns[..]
        else {
            continue;
        };
        let expected: Map<String, Value> = serde_json::from_str(expected).unwrap();
        let run = run(&folder, command);
        match note {
            "" => as_expected(id, &run, &with_detail(&folder, expected)),
            // A damaged archive is a failed verification.
            _ => assert_eq!(
                (run.code, &run.json()["error_code"]),
                (2, &"verification_failed".into()),
                "{id}: {note}"
            ),
        }
        ran += 1;
    }
    assert_eq!(ran, 30);
}

#[test]
fn a_pack_built_here_verifies_here_and_names_its_run() {
    let Some(folder) = shared() else {
        println!("skipped: no folder shared/cases/gait beside or inside the checkout");
        return;
    };
    let gait = Gait::new();
    let runpack = folder.join("runpacks/demo.zip");
    let (code, built) = gait.json(&[
        "pack",
        "build",
        "--type",
        "run",
        "--from",
        runpack.to_str().unwrap(),
        "--out",
        "p.zip",
    ]);
    assert_eq!(
        (code, &built["source_ref"]),
        (0, &"run_demo".into()),
        "{built}"
    );
    let (code, verified) = gait.json(&["pack", "verify", "p.zip"]);
    assert_eq!(
        (code, &verified["verify"]["signature_status"]),
        (0, &"missing".into()),
        "{verified}"
    );
    assert_eq!(verified["source_ref"], "run_demo");
}

fn run(folder: &Path, command: &str) -> Run {
    let words = command.split("   # ").next().unwrap().split_whitespace();
    let args: Vec<&str> = words.collect();
    Run::of(
        Gait::new()
            .command(&args)
            .current_dir(folder)
            .output()
            .unwrap(),
    )
}

fn with_detail(folder: &Path, mut expected: Map<String, Value>) -> Map<String, Value> {
    let Some(Value::String(detail)) = expected.remove("detail") else {
        return expected;
    };
    let detail = std::fs::read_to_string(folder.join(detail)).unwrap();
    let detail: Map<String, Value> = serde_json::from_str(&detail).unwrap();
    expected.extend(detail);
    expected
}

fn as_expected(id: &str, run: &Run, expected: &Map<String, Value>) {
    assert_eq!(expected["exit_code"], run.code, "{id}: {}", run.stdout);
    let json = run.json();
    for (field, value) in expected {
        if !NOT_COMPARED.contains(&&**field) {
            assert_eq!(&json[field], value, "{id}: {field} in {json}");
        }
    }
}

fn shared() -> Option<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let places =
        ["shared/cases/gait", "../shared/cases/gait"].map(|relative| checkout.join(relative));
    places
        .into_iter()
        .find(|folder| folder.join("index.tsv").is_file())
}
