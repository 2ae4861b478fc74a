//! A bundle appears whole and verified, or not at all.

use std::fs;

use worldcompute_fault::{Category, Fault};
use worldcompute_scheduler::evidence::{self, Contents, Pins};

use crate::job::{Job, donor, receipt_name, submitter};

fn code(result: worldcompute_fault::Result<std::path::PathBuf>) -> String {
    result.unwrap_err().code().to_owned()
}

/// Whether there is neither a bundle nor a part of one.
fn is_bare(root: &std::path::Path) -> bool {
    fs::read_dir(root)
        .unwrap()
        .all(|entry| entry.unwrap().file_name() == ".lock")
}

#[test]
fn a_bundle_is_named_after_its_job_and_never_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let job = Job::new();
    let place = job.write(root.path()).unwrap();
    assert_eq!(place, root.path().join(job.manifest.job_id().to_string()));
    assert_eq!(code(job.write(root.path())), "already_exists");
    evidence::verify(&place, &Pins::default()).unwrap();
}

#[test]
fn what_does_not_verify_is_not_written() {
    let root = tempfile::tempdir().unwrap();
    let mut without_receipt = Job::new();
    without_receipt.receipts.pop();
    assert_eq!(code(without_receipt.write(root.path())), "evidence_missing");
    let mut without_trace = Job::new();
    without_trace.traces.pop();
    assert_eq!(code(without_trace.write(root.path())), "evidence_missing");
    let mut with_more = Job::new();
    with_more.traces.push(Job::numbered(2).traces.remove(0));
    assert_eq!(code(with_more.write(root.path())), "evidence_unexpected");
    let mut doubled = Job::new();
    doubled.receipts.push(doubled.receipts[0].clone());
    assert_eq!(code(doubled.write(root.path())), "evidence_twice");
    let mut bent = Job::new();
    bent.objects.values_mut().for_each(|bytes| bytes.push(0));
    assert_eq!(code(bent.write(root.path())), "evidence_changed");
    assert!(is_bare(root.path()));
}

#[test]
fn an_object_that_cannot_be_had_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let mut job = Job::new();
    job.objects.pop_last();
    assert_eq!(code(job.write(root.path())), "not_found");
    assert!(is_bare(root.path()));
}

#[test]
fn only_the_submitter_s_key_seals_a_bundle() {
    let root = tempfile::tempdir().unwrap();
    let job = Job::new();
    let contents = Contents {
        manifest: &job.manifest,
        receipts: &job.receipts,
        traces: &job.traces,
    };
    let written = evidence::write(
        root.path(),
        contents,
        &mut |cid, out| job.copy_object(cid, out),
        &donor(0),
    );
    let fault = written.unwrap_err();
    assert!(fault.message().starts_with("index.json: "), "{fault}");
    assert!(is_bare(root.path()));
}

#[test]
fn what_a_crash_left_behind_is_cleared_away() {
    let root = tempfile::tempdir().unwrap();
    let job = Job::new();
    let draft = root
        .path()
        .join(format!(".{}.partial", job.manifest.job_id()));
    fs::create_dir_all(draft.join("receipts")).unwrap();
    fs::File::create(draft.join(receipt_name(0))).unwrap();
    fs::File::create(draft.join("receipts/junk")).unwrap();
    let place = job.write(root.path()).unwrap();
    evidence::verify(&place, &Pins::default()).unwrap();
    assert!(!draft.exists());
}

#[test]
fn racing_writers_leave_one_bundle() {
    let root = tempfile::tempdir().unwrap();
    let job = Job::new();
    let results: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| job.write(root.path())))
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let busy_or_there = |fault: &Fault| {
        fault.code() == "already_exists" || fault.category() == Category::StateContention
    };
    assert!(
        results
            .iter()
            .filter_map(|result| result.as_ref().err())
            .all(busy_or_there),
        "{results:?}"
    );
    let place = root.path().join(job.manifest.job_id().to_string());
    evidence::verify(
        &place,
        &Pins {
            submitter: Some(submitter().peer_id()),
            ..Pins::default()
        },
    )
    .unwrap();
}
