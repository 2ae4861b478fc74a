//! What a whole bundle shows.

use worldcompute_ledger::receipt::Status;
use worldcompute_scheduler::evidence::{self, Pins};

use crate::job::{Bundle, Job, donor, expect, receipt_name, stranger, submitter};

#[test]
fn a_whole_bundle_verifies_and_says_what_it_shows() {
    let bundle = Bundle::new();
    let report = bundle.verify().unwrap();
    assert!(report.ok);
    assert!(
        report
            .one_line()
            .contains("3 tasks (3 succeeded) on 2 executors"),
        "{}",
        report.one_line()
    );
    let parts: Vec<_> = report.parts.iter().map(|part| part.name.clone()).collect();
    assert_eq!(parts, bundle.names());
    assert!(
        report
            .parts
            .iter()
            .all(|part| part.bytes == bundle.read(&part.name).len() as u64)
    );
    assert!(
        report
            .proven
            .iter()
            .any(|line| line.contains(&submitter().peer_id().to_string()))
    );
    let listed = format!(
        "exactly the {} files beside index.json",
        bundle.listed().len()
    );
    assert!(report.proven.iter().any(|line| line.contains(&listed)));
    assert!(
        report
            .not_proven
            .iter()
            .any(|line| line.contains("executor's word"))
    );
}

#[test]
fn whose_keys_they_are_is_open_until_pinned() {
    let bundle = Bundle::new();
    let open = |pins: &Pins| {
        let report = evidence::verify(&bundle.dir, pins).unwrap();
        report
            .not_proven
            .iter()
            .filter(|line| line.contains("which key spoke"))
            .count()
    };
    let submitter = Some(submitter().peer_id());
    let executors = vec![donor(0).peer_id(), donor(1).peer_id()];
    assert_eq!(open(&Pins::default()), 2);
    assert_eq!(
        open(&Pins {
            submitter,
            ..Pins::default()
        }),
        1
    );
    assert_eq!(
        open(&Pins {
            submitter,
            executors,
            ..Pins::default()
        }),
        0
    );
}

#[test]
fn another_submitter_or_executor_than_the_pinned_is_refused_by_name() {
    let bundle = Bundle::new();
    let pins = Pins {
        submitter: Some(stranger().peer_id()),
        ..Pins::default()
    };
    expect(
        evidence::verify(&bundle.dir, &pins),
        "evidence_invalid",
        "manifest.cbor",
    );
    let pins = Pins {
        executors: vec![donor(0).peer_id()],
        ..Pins::default()
    };
    expect(
        evidence::verify(&bundle.dir, &pins),
        "evidence_invalid",
        &receipt_name(1),
    );
}

#[test]
fn tasks_that_did_not_succeed_are_evidence_too() {
    let job = Job::new().with_receipt(1, |receipt| {
        receipt.outcome.outputs.clear();
        (receipt.outcome.status, receipt.outcome.exit_code) = (Status::TimedOut, None);
        receipt.outcome.wall_ms = receipt.limits.wall_ms;
    });
    let report = Bundle::of(&job).verify().unwrap();
    assert!(
        report.one_line().contains("(2 succeeded, 1 timed_out)"),
        "{}",
        report.one_line()
    );
}

#[test]
fn a_bundle_keeps_its_meaning_wherever_it_is_moved() {
    let bundle = Bundle::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("another name");
    std::fs::rename(&bundle.dir, &moved).unwrap();
    assert!(evidence::verify(&moved, &Pins::default()).is_ok());
}

#[test]
fn the_same_job_has_the_same_bundle() {
    let job = Job::new();
    let (one, other) = (Bundle::of(&job), Bundle::of(&job));
    assert_eq!(one.names(), other.names());
    assert!(
        one.names()
            .iter()
            .all(|name| one.read(name) == other.read(name))
    );
}

#[test]
fn a_report_is_json() {
    let report = serde_json::to_value(Bundle::new().verify().unwrap()).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["parts"][0]["sha256"].as_str().unwrap().len(), 64);
}
