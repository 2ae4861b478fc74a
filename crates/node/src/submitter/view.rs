//! A job as its submitter is shown it.

use std::collections::BTreeMap;
use std::path::Path;

use worldcompute_proof::{Cid, PeerId};
use worldcompute_scheduler::{JobRecord, JobState, TaskRecord, TaskState};

use crate::api::{JobView, TaskCounts};

/// What is shown of a job beside its records.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// The signed manifest's name.
    pub manifest_cid: Cid,
    /// How the guest of a one-task job exited.
    pub exit_code: Option<i32>,
    /// Where its evidence lies, once written.
    pub evidence: Option<&'a Path>,
    /// Whether its evidence is still to come.
    pub concluding: bool,
}

/// Puts it together. A job counts as ended once its evidence is written.
pub fn view(job: &JobRecord, tasks: &[TaskRecord], beside: Beside<'_>) -> JobView {
    let concluding = job.state.is_final() && beside.concluding;
    let state = if concluding {
        JobState::Verifying
    } else {
        job.state
    };
    let ended_at = job.finished_at.filter(|_| !concluding);
    JobView {
        job_id: job.id.to_string(),
        name: job.name.clone(),
        status: state.as_str().to_owned(),
        manifest_cid: beside.manifest_cid,
        submitted_at: job.submitted_at.to_string(),
        ended_at: ended_at.map(|at| at.to_string()),
        tasks: counts(job),
        executors: executors(tasks),
        redispatched: tasks.iter().map(tried_again).sum(),
        reason: job
            .waiting
            .clone()
            .or_else(|| job.fault.as_ref().map(|fault| fault.detail.clone())),
        error: job.fault.clone(),
        exit_code: beside.exit_code,
        receipt_verified: (job.tally.accepted > 0).then_some(true),
        evidence: beside.evidence.map(|path| path.display().to_string()),
    }
}

const fn counts(job: &JobRecord) -> TaskCounts {
    let tally = job.tally;
    TaskCounts {
        total: tally.ready
            + tally.in_flight
            + tally.verifying
            + tally.accepted
            + tally.failed
            + tally.cancelled,
        ready: tally.ready,
        running: tally.in_flight + tally.verifying,
        accepted: tally.accepted,
        failed: tally.failed,
    }
}

fn executors(tasks: &[TaskRecord]) -> BTreeMap<PeerId, u32> {
    let accepted = tasks
        .iter()
        .filter(|task| task.state == TaskState::Accepted);
    let mut executors = BTreeMap::new();
    for lease in accepted.filter_map(|task| task.leases.last()) {
        *executors.entry(lease.donor).or_default() += 1;
    }
    executors
}

fn tried_again(task: &TaskRecord) -> u32 {
    u32::try_from(task.leases.len().saturating_sub(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use worldcompute_scheduler::{JobId, Tally};

    fn ended() -> JobRecord {
        JobRecord {
            id: JobId::generate(),
            name: "test".to_owned(),
            state: JobState::Completed,
            tally: Tally::default(),
            submitted_at: Timestamp::now(),
            finished_at: Some(Timestamp::now()),
            waiting: None,
            ending: None,
            fault: None,
        }
    }

    #[test]
    fn a_job_has_no_end_while_its_evidence_is_still_to_come() {
        let beside = |concluding| Beside {
            manifest_cid: Cid::raw(b"manifest"),
            exit_code: None,
            evidence: None,
            concluding,
        };
        let before = view(&ended(), &[], beside(true));
        assert_eq!(
            (before.status.as_str(), before.ended_at),
            ("verifying", None)
        );
        let after = view(&ended(), &[], beside(false));
        assert_eq!(after.status, "completed");
        assert!(after.ended_at.is_some());
    }
}
