//! Jobs that are not as their log says. For `doctor`, which looks and does not repair.

use std::io::ErrorKind;

use worldcompute_fault::{Fault, Result};

use super::Jobs;
use super::state::JobId;

/// A job whose files disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The job.
    pub job: JobId,
    /// What is wrong.
    pub kind: IssueKind,
    /// In words.
    pub message: String,
}

/// What can be wrong with a job's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueKind {
    /// A change is unfinished; the next command on the job completes or undoes it.
    PendingMutation,
    /// Events without a state.
    MissingState,
    /// The state knows of a change the events do not.
    StateAhead,
    /// The events know of a change the state does not.
    EventsAhead,
    /// A file cannot be read.
    Unreadable,
}

pub(super) fn diagnose(jobs: &Jobs) -> Result<Vec<Issue>> {
    let entries = match std::fs::read_dir(jobs.root()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(|error| cannot_list(jobs, &error))?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry
            .map_err(|error| cannot_list(jobs, &error))?
            .file_name();
        ids.extend(name.to_str().and_then(|name| name.parse::<JobId>().ok()));
    }
    ids.sort();
    Ok(ids.into_iter().flat_map(|id| one(jobs, id)).collect())
}

fn one(jobs: &Jobs, job: JobId) -> Vec<Issue> {
    let store = jobs.store(&job);
    let mut found = Vec::new();
    if store.has_pending() {
        let message = "pending durable mutation marker requires reconciliation".to_owned();
        found.push((IssueKind::PendingMutation, message));
    }
    let events = store.events();
    let last = events.map(|events| events.last().map_or(0, |event| event.revision));
    match (store.state(), last) {
        (Ok(state), Ok(last)) => found.extend(compare(state.revision, last)),
        (Err(fault), Ok(last)) if fault.code() == "job_not_found" => {
            found.extend((last > 0).then(|| missing(last)));
        }
        (Err(fault), _) | (_, Err(fault)) => {
            found.push((IssueKind::Unreadable, fault.message().to_owned()));
        }
    }
    let issue = |(kind, message)| Issue {
        job: job.clone(),
        kind,
        message,
    };
    found.into_iter().map(issue).collect()
}

fn compare(state: u64, events: u64) -> Option<(IssueKind, String)> {
    let message = |ahead: &str, behind: &str, a: u64, b: u64| {
        format!("{ahead} revision {a} is ahead of {behind} revision {b}")
    };
    match state.cmp(&events) {
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some((
            IssueKind::StateAhead,
            message("state", "event log", state, events),
        )),
        std::cmp::Ordering::Less => Some((
            IssueKind::EventsAhead,
            message("event log", "state", events, state),
        )),
    }
}

fn missing(last: u64) -> (IssueKind, String) {
    let message = format!("event log revision {last} exists without a durable state snapshot");
    (IssueKind::MissingState, message)
}

fn cannot_list(jobs: &Jobs, error: &std::io::Error) -> Fault {
    Fault::io(format_args!("list {}", jobs.root().display()), error)
}
