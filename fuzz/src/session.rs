//! Journals, chains and logs of sessions: a journal that is read goes on under the next number and stays readable when
//! it is compacted; nothing that a stranger writes passes for a verified session.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use crate::files::{file, path};
use gait::run_session::{
    Chain, LockSettings, NewEvent, Session, checkpoint, compact, verify_chain,
};
use gait::runpack::{Requirements, Stamp};
use gait::session;
use worldcompute_proof::{SigningKey, VerifyingKey};

static KEY: LazyLock<VerifyingKey> =
    LazyLock::new(|| SigningKey::from_seed([7; 32]).verifying_key());

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let journal = file("journal.jsonl", bytes);
    if let Ok(report) = session::verify(&journal, &KEY) {
        assert_eq!(report.decisions, 0);
    }
    if let Ok(chain) = Chain::load(&journal) {
        let _ = chain.checkpoint("latest");
        let _ = verify_chain(&journal, &Requirements::default());
    }
    gone_on(&journal);
    let _ = fs::remove_file(path("journal.jsonl.state.json"));
}

fn gone_on(journal: &Path) {
    let session = Session {
        journal,
        lock: LockSettings::default(),
        producer_version: "1.4.0",
        now: Stamp::default(),
    };
    let Ok(before) = session.status() else { return };
    let event = NewEvent {
        tool_name: "tool.x",
        verdict: "allow",
        ..NewEvent::default()
    };
    let Ok(added) = session.record(&event) else {
        return;
    };
    assert_eq!(added.sequence, before.last_sequence + 1);
    let (runpack, chain) = (path("checkpoint.zip"), path("chain.json"));
    let _ = checkpoint(&session, &runpack, &chain, None);
    let _ = fs::remove_file(path("journal.jsonl.state.json"));
    let status = session.status().expect("what was acknowledged is read");
    assert_eq!(status.last_sequence, added.sequence);
    compact(&session, None, false).expect("what is read is compacted");
    let _ = fs::remove_file(path("journal.jsonl.state.json"));
    assert_eq!(
        session
            .status()
            .expect("a compacted journal is read")
            .last_sequence,
        added.sequence
    );
}
