//! A job that stops for an approval and goes on after it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use worldcompute_durable::output_dir;
use worldcompute_fault::{Category, Fault, Result};

use crate::VERSION;
use crate::clock::Clock;
use crate::job::{CheckpointKind, JobId, JobState, Jobs, NewCheckpoint, Resume, Submission};
use crate::pack::{self, Build, VerifyOptions};

/// The id of the job.
pub const JOB_ID: &str = "job_demo_durable";

const ACTOR: &str = "demo.user";
const FINGERPRINT: &str = "envfp:demo-durable";
/// When the job begins: 2026-02-14T00:00:00Z.
const BEGINS: Timestamp = Timestamp::constant(1_771_027_200, 0);

/// Runs the job anew in `root`, one step a minute of its own time, and packs it into `pack`: it must not resume before
/// it is approved.
///
/// # Errors
/// Those of the job and of the pack; `verification_failed` should it resume unapproved, or the pack not hold.
pub fn durable(root: &Path, pack: &Path) -> Result<JobState> {
    output_dir(root)?;
    remove(&root.join(JOB_ID))?;
    let id: JobId = JOB_ID.parse()?;
    at(root, 0).submit(&id, &submission())?;
    let asks = checkpoint(
        CheckpointKind::DecisionNeeded,
        "approval required to continue",
        "security_review",
    );
    at(root, 1).add_checkpoint(&id, &asks)?;
    match at(root, 2).resume(&id, &resume("resume_without_approval")) {
        Err(fault) if fault.category() == Category::ApprovalRequired => {}
        Err(fault) => return Err(fault),
        Ok(_) => return Err(failed("expected approval requirement before resume")),
    }
    at(root, 3).approve(&id, "demo.approver", "approved_for_resume")?;
    at(root, 4).resume(&id, &resume("approved_resume"))?;
    let done = checkpoint(CheckpointKind::Completed, "durable demo complete", "");
    at(root, 5).add_checkpoint(&id, &done)?;
    let build = Build {
        output: Some(pack),
        producer_version: VERSION,
        key: None,
    };
    pack::build_job(&at(root, 5), &id, &build)?;
    match pack::verify(pack, &VerifyOptions::default())?.ok() {
        true => at(root, 5).status(&id),
        false => Err(failed("durable pack verification failed")),
    }
}

struct Fixed(Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
}

fn at(root: &Path, minute: i64) -> Jobs {
    let now = BEGINS + SignedDuration::from_mins(minute);
    Jobs::at(root, Arc::new(Fixed(now)))
}

fn remove(job: &Path) -> Result<()> {
    match fs::remove_dir_all(job) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Fault::io(format_args!("remove {}", job.display()), &error))
        }
        _ => Ok(()),
    }
}

fn submission() -> Submission {
    Submission {
        actor: ACTOR.to_owned(),
        producer_version: VERSION.to_owned(),
        environment_fingerprint: FINGERPRINT.to_owned(),
        ..Submission::default()
    }
}

fn checkpoint(kind: CheckpointKind, summary: &str, required_action: &str) -> NewCheckpoint {
    NewCheckpoint {
        kind,
        summary: summary.to_owned(),
        required_action: required_action.to_owned(),
        actor: ACTOR.to_owned(),
    }
}

fn resume(reason: &str) -> Resume {
    Resume {
        actor: ACTOR.to_owned(),
        reason: reason.to_owned(),
        environment_fingerprint: FINGERPRINT.to_owned(),
        ..Resume::default()
    }
}

fn failed(message: &str) -> Fault {
    Fault::new(Category::VerificationFailed, "verification_failed", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Status;

    #[test]
    fn the_demo_job_is_completed_and_can_be_run_again() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let pack = dir.path().join("pack.zip");
            let job = durable(dir.path(), &pack).unwrap();
            assert_eq!(job.status, Status::Completed);
        }
    }
}
