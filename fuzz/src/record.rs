//! The input of `run record`: what is recorded verifies, with as many records as were taken.

use crate::files::{file, path};
use gait::runpack::{self, CaptureMode, RecordInput, Recorder, Requirements, Stamp};
use worldcompute_fault::Result;

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let input = file("input.json", bytes);
    for mode in [CaptureMode::Reference, CaptureMode::Raw] {
        if let Err(fault) = recorded(&input, mode) {
            assert_eq!(fault.gait_exit_code(), 6, "{fault}");
            continue;
        }
        let report = runpack::verify(&path("recorded.zip"), &Requirements::default());
        assert!(report.expect("what is recorded is a runpack").holds());
        runpack::inspect(&path("recorded.zip"), |_| Ok(())).expect("what is recorded is read");
    }
}

fn recorded(input: &std::path::Path, mode: CaptureMode) -> Result<()> {
    let input = RecordInput::open(input)?;
    let mut recorder = Recorder::new(
        input.run.clone(),
        input.refs.clone(),
        mode,
        Stamp::default(),
    )?;
    input.record(&mut recorder, false)?;
    recorder.finish(&path("recorded.zip"), None).map(drop)
}
