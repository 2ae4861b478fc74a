//! Packs of strangers: whatever the archive is, it is read or refused, and only what is intact is shown, exported or
//! compared.

use std::fs;

use crate::files::file;
use gait::{guard, pack};
use serde_json::Value;

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let path = file("pack.zip", bytes);
    let verified = pack::verify(&path, &pack::VerifyOptions::default());
    let opens = pack::open(&path).is_ok();
    assert!(!opens || verified.is_ok_and(|report| report.ok()));
    let inspected = pack::inspect(&path, |_| Ok(()));
    let exported = pack::export(&path);
    assert!(opens || (inspected.is_err() && exported.is_err()));
    if let Ok(export) = exported {
        told(&export);
    }
    if let Ok(diff) = pack::diff(&path, &path) {
        assert!(opens && !diff.summary.changed);
    }
    let _ = guard::verify(&path, &pack::VerifyOptions::default());
}

fn told(export: &pack::Export) {
    let lines = file("otel.jsonl", b"");
    pack::append_otel(&lines, export).expect("room for a file");
    let lines = fs::read_to_string(lines).expect("they were written");
    for line in lines.lines() {
        serde_json::from_str::<Value>(line).expect("a line of JSON");
    }
    pack::postgres_sql(export, "packs", true).expect("what is exported can be told");
}
