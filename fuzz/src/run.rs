//! A run of strangers: intents, results, refs and run, split at NULs, in a runpack whose digests fit. It is walked
//! through, replayed, compared and reduced, or refused; the pack that is built of it verifies.

use crate::files::{parts, path, runpack};
use gait::pack::{self, Build, VerifyOptions};
use gait::runpack::{self, Predicate, Privacy};

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let [intents, results, refs, run] = parts(bytes);
    let source = runpack(
        "run.zip",
        [
            ("intents.jsonl", intents),
            ("results.jsonl", results),
            ("refs.json", refs),
            ("run.json", run),
        ],
    );
    let mut steps = 0;
    if let Ok(told) = runpack::inspect(&source, |_| Ok(())) {
        let replayed = runpack::replay(&source, None, |_| {
            steps += 1;
            Ok(())
        });
        assert!(replayed.is_err() || steps == told.intents);
    }
    if let Ok(diff) = runpack::diff(&source, &source, Privacy::Full) {
        assert!(!diff.summary.intents_changed && !diff.summary.results_changed);
    }
    let reduced = path("reduced.zip");
    if runpack::reduce(&source, Predicate::NonOkStatus, Some(&reduced)).is_ok() {
        assert!(
            runpack::verify(&reduced, &runpack::Requirements::default())
                .is_ok_and(|report| report.holds())
        );
    }
    packed(&source);
}

fn packed(source: &std::path::Path) {
    let output = path("packed.zip");
    let build = Build {
        output: Some(&output),
        producer_version: "1.4.0",
        key: None,
    };
    if pack::build_run(source, &build).is_err() {
        return;
    }
    let report = pack::verify(&output, &VerifyOptions::default()).expect("what is built is a pack");
    assert!(report.ok());
    let mut last = String::new();
    let _ = pack::inspect(&output, |result| {
        assert!(last.is_empty() || last < result.intent_id);
        last.clone_from(&result.intent_id);
        Ok(())
    });
}
