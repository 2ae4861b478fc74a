//! The folder of a job, as state, events and a change under way, split at NULs: what is read goes on, and what goes on is
//! read again with the change in it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::files::{Then, parts, path, private_file};
use gait::job::{JobId, Jobs};

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let [state, events, pending] = parts(bytes);
    let folder = path("jobs/job");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("room for a folder");
    private_file(&folder.join("state.json"), state);
    private_file(&folder.join("events.jsonl"), events);
    if !pending.is_empty() {
        private_file(&folder.join("pending_mutation.json"), pending);
    }
    goes_on(&path("jobs"));
}

fn goes_on(root: &Path) {
    let jobs = Jobs::at(root, Arc::new(Then));
    let id: JobId = "job".parse().expect("an id");
    let _ = jobs.diagnose();
    let Ok(before) = jobs.status(&id) else { return };
    let inspected = jobs.inspect(&id);
    assert!(inspected.is_err() || inspected.is_ok_and(|(state, _)| state == before));
    let Ok(after) = jobs.approve(&id, "approver", "tested") else {
        return;
    };
    assert_eq!(after.revision, before.revision.saturating_add(1));
    assert_eq!(after.approvals.len(), before.approvals.len() + 1);
    assert_eq!(
        jobs.status(&id).expect("what was acknowledged is read"),
        after
    );
}
