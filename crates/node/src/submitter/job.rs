//! What the submitter knows of one job: its records as they are on disk, and who watches it.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::broadcast;
use worldcompute_fault::Result;
use worldcompute_ledger::receipt::SignedReceipt;
use worldcompute_scheduler::broker::Commit;
use worldcompute_scheduler::manifest::VerifiedManifest;
use worldcompute_scheduler::{JobId, JobRecord, LeaseRecord, LeaseState, TaskRecord, TaskState};
use worldcompute_telemetry::CorrelationId;

use super::EVENT_QUEUE;
use super::view::{Beside, view};
use crate::api::{JobEvent, JobView};

/// Where a job's evidence stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Not written yet.
    Pending,
    /// Here.
    Written(PathBuf),
    /// There is none: nothing ran to its end.
    None,
}

impl Evidence {
    /// What became of writing it.
    pub fn of(job: JobId, written: Result<Option<PathBuf>>) -> Self {
        match written {
            Ok(Some(path)) => Self::Written(path),
            Ok(None) => Self::None,
            Err(fault) => {
                tracing::error!(%job, code = fault.code(), reason = fault.message(), "no evidence bundle was written");
                Self::None
            }
        }
    }
}

/// One job.
pub struct Job {
    pub manifest: Arc<VerifiedManifest>,
    /// This node's signed decision to send the job out.
    pub trace: Arc<[u8]>,
    /// Ties the records that this node and its donors make of the job together.
    pub correlation: CorrelationId,
    pub record: JobRecord,
    pub evidence: Evidence,
    pub exit_code: Option<i32>,
    tasks: Vec<TaskRecord>,
    watchers: Option<broadcast::Sender<JobEvent>>,
}

impl Job {
    /// A job as it was stored, or as it is about to be.
    pub fn new(
        manifest: Arc<VerifiedManifest>,
        trace: Arc<[u8]>,
        record: JobRecord,
        tasks: Vec<TaskRecord>,
    ) -> Self {
        Self {
            manifest,
            trace,
            correlation: worldcompute_telemetry::current().unwrap_or_else(CorrelationId::random),
            record,
            evidence: Evidence::Pending,
            exit_code: None,
            tasks,
            watchers: None,
        }
    }

    /// As its submitter is shown it.
    pub fn view(&self) -> JobView {
        let evidence = match &self.evidence {
            Evidence::Written(path) => Some(path.as_path()),
            Evidence::Pending | Evidence::None => None,
        };
        let beside = Beside {
            manifest_cid: *self.manifest.cid(),
            exit_code: self.exit_code,
            evidence,
            concluding: self.evidence == Evidence::Pending,
        };
        view(&self.record, &self.tasks, beside)
    }

    /// What happens from now on.
    pub fn watch(&mut self) -> broadcast::Receiver<JobEvent> {
        self.watchers
            .get_or_insert_with(|| broadcast::Sender::new(EVENT_QUEUE))
            .subscribe()
    }

    /// Tells whoever watches.
    pub fn tell(&self, event: JobEvent) {
        if let Some(watchers) = &self.watchers {
            // No receiver is left when every watcher has gone: nobody to tell.
            drop(watchers.send(event));
        }
    }

    /// Shows the job as a whole to whoever watches; the last time, nothing follows.
    pub fn show(&mut self) {
        let view = self.view();
        let ended = view.is_ended();
        self.tell(JobEvent::Job {
            job: Box::new(view),
        });
        if ended {
            self.watchers = None;
        }
    }

    /// Takes over what changed without a commit, and shows it.
    pub fn update(&mut self, record: JobRecord) {
        if record.state != self.record.state || record.waiting != self.record.waiting {
            self.record = record;
            self.show();
        }
    }

    /// A commit is on disk: its tasks are as it says.
    pub fn stored(&mut self, commit: &Commit, receipts: &[SignedReceipt]) {
        for task in &commit.tasks {
            self.task_stored(task);
        }
        self.exit_code = self.exit_code_in(receipts).or(self.exit_code);
        let changed = commit.job.state != self.record.state;
        self.record = commit.job.clone();
        if changed {
            self.show();
        }
    }

    /// The exit code of a job of one task, where its receipt is among these.
    pub fn exit_code_in(&self, receipts: &[SignedReceipt]) -> Option<i32> {
        let single = self.manifest.manifest().array_count == 1;
        receipts
            .last()
            .filter(|_| single)
            .and_then(|receipt| receipt.receipt().outcome.exit_code)
    }

    fn task_stored(&mut self, task: &TaskRecord) {
        let known = self.tasks.iter().position(|one| one.index == task.index);
        let before = known.and_then(|at| self.tasks.get(at));
        self.lost_leases(before, task);
        if let Some(lease) = task
            .leases
            .last()
            .filter(|_| task.state == TaskState::Accepted)
        {
            self.tell(JobEvent::TaskAccepted {
                task: task.index,
                executor: lease.donor,
                status: "succeeded".to_owned(),
            });
        }
        match known.and_then(|at| self.tasks.get_mut(at)) {
            Some(old) => old.clone_from(task),
            None => self.tasks.push(task.clone()),
        }
    }

    /// Leases that ended since the last commit without a receipt.
    fn lost_leases(&self, before: Option<&TaskRecord>, after: &TaskRecord) {
        let was_over = |lease: &LeaseRecord| {
            before.is_some_and(|task| {
                task.leases
                    .iter()
                    .any(|old| old.id == lease.id && old.state != LeaseState::Active)
            })
        };
        let lost = after.leases.iter().filter(|lease| {
            lease.state != LeaseState::Active && lease.reason.is_some() && !was_over(lease)
        });
        for lease in lost {
            let reason = lease.reason.clone().unwrap_or_default();
            self.tell(JobEvent::TaskLost {
                task: after.index,
                executor: lease.donor,
                reason,
            });
        }
    }
}
