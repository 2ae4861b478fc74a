//! No bytes make the archive reader or the verifier panic, and what verifies is read whole.

use gait::archive::Archive;
use gait::runpack::{Requirements, verify_archive};

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let Ok(archive) = Archive::new(bytes, "fuzzed") else {
        return;
    };
    let report = verify_archive(&archive, &Requirements::default());
    if report.is_ok_and(|report| report.holds()) {
        let names: Vec<String> = archive
            .entries()
            .iter()
            .map(|entry| entry.name().to_owned())
            .collect();
        for name in names {
            archive.digest(&name).expect("what verifies is read");
        }
    }
}
