//! A guard pack of everything that was decided around a run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_proof::VerifyingKey;

use super::build::{Built, Request, build_with, folder};
use super::evidence::{self, AuditFacts, RegressFacts};
use super::manifest::Window;
use crate::pack::{Part, RunFacts, sound_runpack};
use crate::trace::UnverifiedTrace;
use crate::wire_time::WireTime;

/// A guard pack of an incident that was just written.
#[derive(Clone, Debug)]
pub struct IncidentBuilt {
    /// The pack.
    pub built: Built,
    /// The window that was looked at.
    pub window: Window,
    /// Decisions in the window.
    pub traces: usize,
    /// Results of regressions in the window.
    pub regress: usize,
    /// Audits of approvals of those decisions.
    pub approval_audits: usize,
    /// Evidence of credentials of those decisions.
    pub credential_evidence: usize,
    /// The policies that decided.
    pub policy_digests: Vec<String>,
    /// What lay there and could not be read as evidence.
    pub left_out: Vec<String>,
}

/// Builds a guard pack of what lies beside the runpack and was made within `reach` of its run, before or after. The
/// request's own lists of evidence are not looked at.
///
/// Errors: `invalid_window`, else those of [`super::build`].
pub fn build_incident(request: Request<'_>, reach: SignedDuration) -> Result<IncidentBuilt> {
    let facts = RunFacts::read(&sound_runpack(request.runpack)?)?;
    let window = window(&facts, reach)?;
    let mut selection = Selection::around(&window);
    let folder = folder(request.runpack).to_owned();
    let mut request = request;
    let found = |prefix: &str| evidence::discover(&folder, prefix, ".json");
    request.traces = selection.traces(found("trace_")?, request.trace_key.as_ref());
    request.regress = selection.regress(found("regress")?);
    request.approval_audits = selection.audits(found("approval_audit_")?);
    request.credential_evidence = selection.audits(found("credential_evidence_")?);
    request.inventory = Vec::new();
    request.discover = false;
    let policy_digests: Vec<String> = selection.policies.into_iter().collect();
    let digests = json!({
        "policy_digests": policy_digests,
        "run_id": facts.run_id,
        "window_from": window.from,
        "window_to": window.to,
    });
    let more = vec![Part::json("policy_digests.json", &digests)?];
    Ok(IncidentBuilt {
        traces: request.traces.len(),
        regress: request.regress.len(),
        approval_audits: request.approval_audits.len(),
        credential_evidence: request.credential_evidence.len(),
        built: build_with(&request, Some(window.clone()), more)?,
        window,
        policy_digests,
        left_out: selection.left_out,
    })
}

fn window(facts: &RunFacts, reach: SignedDuration) -> Result<Window> {
    let refused = || {
        let message = format!("a window of {reach:?} around a run is none");
        Fault::new(Category::InvalidInput, "invalid_window", message)
            .hint("give a positive --window such as 24h")
    };
    let anchor = facts.created_at.get().unwrap_or(WireTime::UNDATED);
    let seconds = u64::try_from(reach.as_secs()).map_err(|_| refused())?;
    if !reach.is_positive() {
        return Err(refused());
    }
    let at = |moment: std::result::Result<Timestamp, jiff::Error>| {
        moment.map(WireTime::at).map_err(|_| refused())
    };
    Ok(Window {
        from: at(anchor.checked_sub(reach))?,
        to: at(anchor.checked_add(reach))?,
        window_seconds: seconds,
        selection_anchor: facts.run_id.clone(),
    })
}

/// What was found in the window.
struct Selection {
    from: Timestamp,
    to: Timestamp,
    trace_ids: BTreeSet<String>,
    policies: BTreeSet<String>,
    left_out: Vec<String>,
}

impl Selection {
    fn around(window: &Window) -> Self {
        Self {
            from: window.from.get().unwrap_or(Timestamp::MIN),
            to: window.to.get().unwrap_or(Timestamp::MAX),
            trace_ids: BTreeSet::new(),
            policies: BTreeSet::new(),
            left_out: Vec::new(),
        }
    }

    /// Those decided in the window, by the gate's own time, or made in it, by what their intents say: a claim may add
    /// a decision, but not hide one.
    fn traces(&mut self, found: Vec<PathBuf>, key: Option<&VerifyingKey>) -> Vec<PathBuf> {
        let read = |path: &Path| evidence::decision(path, key);
        self.select(found, read, |selection, trace: UnverifiedTrace| {
            let decided = !trace.observed_at.is_unset() && selection.has(trace.observed_at);
            let inside = decided || selection.has(trace.created_at);
            if inside {
                selection.trace_ids.insert(trace.trace_id);
                selection.policies.insert(trace.policy_digest.to_string());
            }
            inside
        })
    }

    fn regress(&mut self, found: Vec<PathBuf>) -> Vec<PathBuf> {
        self.select(found, evidence::read, |selection, facts: RegressFacts| {
            selection.has(facts.created_at)
        })
    }

    /// Those of the decisions in the window; without any decision, those made in it.
    fn audits(&mut self, found: Vec<PathBuf>) -> Vec<PathBuf> {
        self.select(
            found,
            evidence::read,
            |selection, facts: AuditFacts| match selection.trace_ids.is_empty() {
                true => selection.has(facts.created_at),
                false => selection.trace_ids.contains(&facts.trace_id),
            },
        )
    }

    /// One damaged file must not keep an incident from being packed; it is named in the result.
    fn select<T>(
        &mut self,
        found: Vec<PathBuf>,
        read: impl Fn(&Path) -> Result<T>,
        mut inside: impl FnMut(&mut Self, T) -> bool,
    ) -> Vec<PathBuf> {
        let mut selected = Vec::new();
        for path in found {
            match read(&path).map(|facts| inside(self, facts)) {
                Ok(true) => selected.push(path),
                Ok(false) => {}
                Err(fault) => self.left_out.push(fault.message().to_owned()),
            }
        }
        selected
    }

    fn has(&self, time: WireTime) -> bool {
        let time = time.get().unwrap_or(WireTime::UNDATED);
        self.from <= time && time <= self.to
    }
}
