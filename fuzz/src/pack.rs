//! Packs of strangers: whatever the archive is, it is read or refused, and only what is intact is shown, exported or
//! compared.

use crate::files::file;
use gait::{guard, pack};

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let path = file("pack.zip", bytes);
    let verified = pack::verify(&path, &pack::VerifyOptions::default());
    let opens = pack::open(&path).is_ok();
    assert!(!opens || verified.is_ok_and(|report| report.ok()));
    let inspected = pack::inspect(&path, |_| Ok(()));
    let exported =
        pack::export(&path).and_then(|export| pack::append_otel(&file("otel.jsonl", b""), &export));
    assert!(opens || (inspected.is_err() && exported.is_err()));
    if let Ok(diff) = pack::diff(&path, &path) {
        assert!(opens && !diff.summary.changed);
    }
    let _ = guard::verify(&path, &pack::VerifyOptions::default());
}
