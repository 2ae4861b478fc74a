//! The changes a job can go through. Pure: each takes a state to the next and says what happened.

use jiff::Timestamp;
use worldcompute_fault::{Category, Fault, Result};

use super::state::{
    Approval, Checkpoint, CheckpointKind, Event, JobId, JobState, SCHEMA_ID, SCHEMA_VERSION, Status,
};
use crate::limits::{MAX_CHECKPOINT_SUMMARY, MAX_FIELD, MAX_JOB_CHECKPOINTS, at_most};
use crate::wire_time::WireTime;

/// The stop reason of a job that is not stopped.
pub(super) const NO_STOP: &str = "none";

/// What a new job is told about itself.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    /// Who submits it.
    pub actor: String,
    /// Whose identity it runs under; the actor's when empty.
    pub identity: String,
    /// The program's version.
    pub producer_version: String,
    /// Where it runs: see [`super::environment_fingerprint`].
    pub environment_fingerprint: String,
    /// The policy it was submitted under, if any: resuming it then asks for one.
    pub policy_digest: String,
    /// How that policy is called.
    pub policy_ref: String,
}

impl Submission {
    pub(super) fn begin(&self, id: &JobId, now: Timestamp) -> Result<(JobState, Event)> {
        self.check()?;
        let identity = match self.identity.trim() {
            "" => self.actor.trim(),
            given => given,
        };
        let mut state = JobState {
            schema_id: SCHEMA_ID.to_owned(),
            schema_version: SCHEMA_VERSION.to_owned(),
            created_at: WireTime::at(now),
            updated_at: WireTime::at(now),
            producer_version: self.producer_version.clone(),
            job_id: id.as_str().to_owned(),
            status: Status::Running,
            stop_reason: NO_STOP.to_owned(),
            status_reason_code: "submitted".to_owned(),
            environment_fingerprint: self.environment_fingerprint.trim().to_owned(),
            safety_invariant_version: String::new(),
            safety_invariant_hash: String::new(),
            safety_invariants: Vec::new(),
            policy_digest: self.policy_digest.trim().to_owned(),
            policy_ref: self.policy_ref.trim().to_owned(),
            identity: identity.to_owned(),
            revision: 0,
            checkpoints: Vec::new(),
            approvals: Vec::new(),
        };
        state.note_invariants();
        let event = Event::new("submitted", &self.actor, "submitted")
            .with("environment_fingerprint", &*state.environment_fingerprint)
            .with("policy_digest", &*state.policy_digest)
            .with("policy_ref", &*state.policy_ref)
            .with("identity", &*state.identity);
        Ok((state, event))
    }

    fn check(&self) -> Result<()> {
        let fields = [
            ("actor", &self.actor),
            ("identity", &self.identity),
            ("environment_fingerprint", &self.environment_fingerprint),
            ("policy_digest", &self.policy_digest),
            ("policy_ref", &self.policy_ref),
        ];
        for (name, value) in fields {
            field(name, value)?;
        }
        Ok(())
    }
}

/// A checkpoint to add.
#[derive(Clone, Debug)]
pub struct NewCheckpoint {
    /// What it reports.
    pub kind: CheckpointKind,
    /// In words, at most 512 bytes.
    pub summary: String,
    /// What somebody has to do, for one that needs a decision.
    pub required_action: String,
    /// Who reports.
    pub actor: String,
}

impl NewCheckpoint {
    pub(super) fn add(&self, state: &mut JobState, now: Timestamp) -> Result<Event> {
        self.check()?;
        if matches!(
            state.status,
            Status::Completed | Status::Cancelled | Status::EmergencyStopped
        ) {
            return Err(no_way("checkpoint_added", state.status));
        }
        at_most(
            "checkpoints of the job",
            state.checkpoints.len().saturating_add(1),
            MAX_JOB_CHECKPOINTS,
            "too_many_checkpoints",
        )?;
        let checkpoint = self.numbered(state.checkpoints.len().saturating_add(1), now);
        let event = Event::new("checkpoint_added", &self.actor, &checkpoint.reason_code)
            .with("checkpoint_id", &*checkpoint.checkpoint_id)
            .with("checkpoint_type", self.kind.as_str())
            .with("required_action", &*checkpoint.required_action);
        state.checkpoints.push(checkpoint);
        match self.kind {
            CheckpointKind::DecisionNeeded => stand(state, Status::DecisionNeeded),
            CheckpointKind::Blocked => stand(state, Status::Blocked),
            CheckpointKind::Completed => stand(state, Status::Completed),
            CheckpointKind::Plan | CheckpointKind::Progress => {}
        }
        Ok(event)
    }

    fn numbered(&self, number: usize, now: Timestamp) -> Checkpoint {
        let asks = self.kind == CheckpointKind::DecisionNeeded;
        let required_action = if asks {
            self.required_action.trim()
        } else {
            ""
        };
        Checkpoint {
            checkpoint_id: format!("cp_{number:04}"),
            created_at: WireTime::at(now),
            kind: self.kind,
            summary: self.summary.trim().to_owned(),
            required_action: required_action.to_owned(),
            reason_code: self.kind.reason_code().to_owned(),
            actor: self.actor.trim().to_owned(),
        }
    }

    fn check(&self) -> Result<()> {
        let summary = self.summary.trim();
        if summary.is_empty() {
            return Err(no_checkpoint("summary is required"));
        }
        if summary.len() > MAX_CHECKPOINT_SUMMARY {
            let message = format!("summary exceeds max length {MAX_CHECKPOINT_SUMMARY}");
            return Err(no_checkpoint(&message));
        }
        if self.kind == CheckpointKind::DecisionNeeded && self.required_action.trim().is_empty() {
            let message = "required_action is required for decision-needed checkpoints";
            return Err(no_checkpoint(message));
        }
        field("required_action", &self.required_action)?;
        field("actor", &self.actor)
    }
}

pub(super) fn pause(state: &mut JobState, actor: &str) -> Result<Event> {
    let from = [Status::Running, Status::DecisionNeeded];
    let next = (Status::Paused, "paused_by_user", "paused");
    go("paused", &from, next, state, actor)
}

pub(super) fn stop(state: &mut JobState, actor: &str) -> Result<Event> {
    let from = [
        Status::Running,
        Status::Paused,
        Status::DecisionNeeded,
        Status::Blocked,
    ];
    let next = (
        Status::EmergencyStopped,
        "emergency_stopped",
        "emergency_stop_preempted",
    );
    go("emergency_stop_acknowledged", &from, next, state, actor)
}

pub(super) fn cancel(state: &mut JobState, actor: &str) -> Result<Event> {
    let from = [
        Status::Running,
        Status::Paused,
        Status::DecisionNeeded,
        Status::Blocked,
        Status::EmergencyStopped,
    ];
    let next = (Status::Cancelled, "cancelled_by_user", "cancelled");
    go("cancelled", &from, next, state, actor)
}

pub(super) fn approve(
    state: &mut JobState,
    actor: &str,
    reason: &str,
    now: Timestamp,
) -> Result<Event> {
    let (actor, reason) = (actor.trim(), reason.trim());
    if actor.is_empty() {
        let message = "approval actor is required";
        return Err(
            Fault::new(Category::InvalidInput, "approval_actor_required", message)
                .hint("name the approver with --actor"),
        );
    }
    field("actor", actor)?;
    field("reason", reason)?;
    if state.decisions_asked() <= state.approvals.len() {
        let message = "no decision of the job is open";
        return Err(
            Fault::new(Category::InvalidInput, "job_decision_not_asked", message).hint(
                "approve a decision after job checkpoint add --type decision-needed asked for it",
            ),
        );
    }
    at_most(
        "approvals of the job",
        state.approvals.len().saturating_add(1),
        MAX_JOB_CHECKPOINTS,
        "too_many_approvals",
    )?;
    let reason = if reason.is_empty() {
        "approved"
    } else {
        reason
    };
    state.approvals.push(Approval {
        created_at: WireTime::at(now),
        actor: actor.to_owned(),
        reason: reason.to_owned(),
    });
    state.status_reason_code = "approval_recorded".to_owned();
    Ok(Event::new("approved", actor, "approval_recorded").with("reason", reason))
}

/// Refuses a text that is too long to keep.
pub(super) fn field(name: &str, value: &str) -> Result<()> {
    at_most(
        &format!("bytes of {name}"),
        value.len(),
        MAX_FIELD,
        "field_too_long",
    )
}

/// That does not follow from the status the job has: `invalid_transition`.
pub(super) fn no_way(event: &str, status: Status) -> Fault {
    let message = format!("invalid transition: {event} from {}", status.as_str());
    Fault::new(Category::InvalidInput, "invalid_transition", message)
        .hint("look at the job with job status")
}

fn no_checkpoint(message: &str) -> Fault {
    let message = format!("invalid checkpoint: {message}");
    Fault::new(Category::InvalidInput, "invalid_checkpoint", message)
        .hint("see --type, --summary and --required-action")
}

/// A status that is its own reason.
fn stand(state: &mut JobState, status: Status) {
    state.status = status;
    state.stop_reason = status.as_str().to_owned();
    state.status_reason_code = status.as_str().to_owned();
}

fn go(
    event: &str,
    from: &[Status],
    (status, stop_reason, reason_code): (Status, &str, &str),
    state: &mut JobState,
    actor: &str,
) -> Result<Event> {
    field("actor", actor)?;
    if !from.contains(&state.status) {
        return Err(no_way(event, state.status));
    }
    state.status = status;
    state.stop_reason = stop_reason.to_owned();
    state.status_reason_code = reason_code.to_owned();
    Ok(Event::new(event, actor, reason_code))
}
