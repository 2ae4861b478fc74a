//! Records of calls and bundles of authorizations: the pack that is built of one verifies, is read, and is the same when
//! it is built again.

use std::fs;
use std::path::Path;

use crate::files::{file, path, runpack};
use gait::pack::{self, Build, Built, VerifyOptions};
use worldcompute_fault::Result;

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let source = path("call_run.zip");
    if !source.is_file() {
        let run = include_bytes!("../seeds/run/raw");
        let [intents, results, refs, run] = crate::files::parts(run);
        runpack(
            "call_run.zip",
            [
                ("intents.jsonl", intents),
                ("results.jsonl", results),
                ("refs.json", refs),
                ("run.json", run),
            ],
        );
    }
    let record = file("record.json", bytes);
    built(&record, pack::build_call);
    built(&record, pack::build_authorization);
}

fn built(record: &Path, build: fn(&Path, &Build<'_>) -> Result<Built>) {
    let [output, again] = ["built.zip", "built_again.zip"].map(path);
    for output in [&output, &again] {
        let wanted = Build {
            output: Some(output),
            producer_version: "1.4.0",
            key: None,
        };
        if build(record, &wanted).is_err() {
            return;
        }
    }
    let report = pack::verify(&output, &VerifyOptions::default()).expect("what is built is a pack");
    assert!(report.ok(), "{report:?}");
    pack::inspect(&output, |_| Ok(())).expect("what is built is read");
    let bytes = [&output, &again].map(|path| fs::read(path).expect("it was built"));
    assert_eq!(bytes[0], bytes[1]);
}
