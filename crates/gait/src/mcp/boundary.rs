//! The ruling on one call.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use worldcompute_durable::read_guarded;
use worldcompute_fault::Result;

use super::call::{RISK_CLASS, ToolCall};
use super::oauth;
use crate::clock::Clock;
use crate::decision::Decision;
use crate::evidence::Evidence;
use crate::gate::{AtBoundary, Gate, Outputs, Profile, Request, TARGETS_UNDECLARED};
use crate::intent::Intent;
use crate::job::{JobId, Jobs, Status};
use crate::kill_switch::KillSwitch;
use crate::limits::{MAX_SNAPSHOT_BYTES, invalid};
use crate::mcp_trust::{McpTrust, Server, Snapshot, TrustDecision};
use crate::policy::Policy;
use crate::rate_limit::Counters;
use crate::text;
use crate::verdict::Verdict;

/// The classes that policies are written for.
const RISK_CLASSES: [&str; 4] = ["low", "medium", "high", "critical"];

/// The gate at the boundary, with what else stops a call.
pub struct Boundary {
    gate: Gate,
    clock: Arc<dyn Clock>,
    profile: Profile,
    kill_switch: Option<PathBuf>,
    counters: Option<PathBuf>,
    jobs: Option<PathBuf>,
}

/// What was decided on one call.
pub struct Ruling {
    /// The intent behind the call.
    pub intent: Intent,
    /// The signed decision.
    pub decision: Decision,
    /// What the policy says to the server.
    pub trust: Option<TrustDecision>,
    /// The name of the run that the call belongs to.
    pub run_id: String,
    /// Where the trace is.
    pub trace_path: PathBuf,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

impl Boundary {
    /// A boundary that rules by `gate`.
    pub fn new(gate: Gate, clock: Arc<dyn Clock>, profile: Profile) -> Self {
        Self {
            gate,
            clock,
            profile,
            kill_switch: None,
            counters: None,
            jobs: None,
        }
    }

    /// Also asks the kill switch whose state is at `state`.
    #[must_use]
    pub fn with_kill_switch(mut self, state: Option<PathBuf>) -> Self {
        self.kill_switch = state;
        self
    }

    /// Counts calls in the state at `state`, for the policy's limits. Without one, what is limited is blocked.
    #[must_use]
    pub fn with_counters(mut self, state: Option<PathBuf>) -> Self {
        self.counters = state;
        self
    }

    /// Also stops the calls of jobs under `root` that were stopped.
    #[must_use]
    pub fn with_jobs(mut self, root: Option<PathBuf>) -> Self {
        self.jobs = root;
        self
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The gate.
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Rules on `call`, and keeps the trace at the path that `place` gives for the run.
    ///
    /// The run is `run_id`, else the one of the call, else one named after the intent.
    pub fn decide(
        &self,
        call: &ToolCall,
        run_id: &str,
        correlation_id: &str,
        place: impl FnOnce(&str) -> PathBuf,
    ) -> Result<Ruling> {
        let strict = self.profile == Profile::OssProd;
        oauth::check(&call.context, strict)?;
        let intent = call.intent(strict)?;
        let run_id = run_of(run_id, &intent);
        let known = AtBoundary {
            trust: self.trust(call.server.as_ref(), &intent.context().risk_class),
            stops: self
                .stopped(&intent)
                .into_iter()
                .chain(call.stops.clone())
                .chain(self.unsaid(call, &intent, strict)?)
                .collect(),
        };
        let outputs = Outputs {
            trace: Some(place(&run_id)),
            ..Outputs::default()
        };
        let request = Request {
            correlation_id,
            boundary: Some(&known),
            kill_switch: KillSwitch::obeyed(self.kill_switch.as_deref()),
            counters: self.counters.as_deref().map(Counters::at),
            outputs: Some(&outputs),
            ..Request::default()
        };
        let decision = self.gate.decide_on(&intent, &request)?;
        Ok(Ruling {
            run_id,
            trace_path: outputs.trace.unwrap_or_default(),
            warnings: self.warnings(call),
            trust: known.trust,
            intent,
            decision,
        })
    }

    /// What the policy's clause on servers says to `server` before it is called, and so at the risk of a call that
    /// says nothing; `None` without a clause.
    pub(super) fn judge(&self, server: Option<&Server>) -> Option<TrustDecision> {
        self.trust(server, RISK_CLASS)
    }

    fn trust(&self, server: Option<&Server>, risk_class: &str) -> Option<TrustDecision> {
        let clause = self.gate.policy().mcp_trust()?;
        let snapshot = snapshot(clause).ok();
        Some(clause.judge(server, risk_class, snapshot.as_ref(), self.clock.now()))
    }

    /// Whoever writes a call says what it touches. Where its arguments name more, and the policy is stricter with that,
    /// saying less must not help.
    fn unsaid(&self, call: &ToolCall, intent: &Intent, strict: bool) -> Result<Option<String>> {
        let Some(fuller) = call.spelt_out() else {
            return Ok(None);
        };
        let evidence = Evidence::at(self.clock.now());
        let policy = self.gate.policy();
        let verdict = |intent: &Intent| -> Result<Verdict> {
            Ok(policy.evaluate(&intent.prepare(&evidence)?).verdict)
        };
        let is_stricter = verdict(&fuller.intent(strict)?)? > verdict(intent)?;
        Ok(is_stricter.then(|| TARGETS_UNDECLARED.to_owned()))
    }

    /// Why the state of its job stops the call; a job that cannot be read stops it.
    fn stopped(&self, intent: &Intent) -> Option<String> {
        let root = self.jobs.as_deref()?;
        let job_id = intent.context().job_id.trim();
        if job_id.is_empty() {
            return None;
        }
        let code = match self.job(root, job_id) {
            Ok(Status::EmergencyStopped) => "emergency_stop_preempted",
            Ok(_) => return None,
            Err(_) => "job_state_unavailable",
        };
        Some(code.to_owned())
    }

    fn job(&self, root: &Path, job_id: &str) -> Result<Status> {
        let id: JobId = job_id.parse()?;
        Ok(Jobs::at(root, Arc::clone(&self.clock)).status(&id)?.status)
    }

    fn warnings(&self, call: &ToolCall) -> Vec<String> {
        let assumed = "standard profile applied fallback intent context; use --profile oss-prod for strict context enforcement";
        let lacking = self.profile == Profile::Standard && call.lacks_context();
        lacking.then(|| assumed.to_owned()).into_iter().collect()
    }
}

impl Ruling {
    /// Whether the tool may run.
    pub fn is_allowed(&self) -> bool {
        self.decision.verdict() == Verdict::Allow
    }
}

/// What is known of servers, from where the clause says.
fn snapshot(clause: &McpTrust) -> Result<Snapshot> {
    Snapshot::parse(&read_guarded(
        Path::new(&clause.snapshot),
        MAX_SNAPSHOT_BYTES as u64,
    )?)
}

fn run_of(given: &str, intent: &Intent) -> String {
    let named = [given, &intent.context().run_id];
    let named = named.into_iter().map(run_id).find(|id| !id.is_empty());
    named.unwrap_or_else(|| {
        let digest = intent.digest().to_string();
        format!("run_mcp_{}", digest.get(..12).unwrap_or(&digest))
    })
}

/// `name` as the id of a run: `run_` and what of it can stand in a file name; empty when nothing can.
pub fn run_id(name: &str) -> String {
    let mut id = String::new();
    for character in name.trim().chars() {
        match character {
            c if c.is_ascii_alphanumeric() || c == '-' || c == '_' => id.push(c),
            _ if id.ends_with('_') => {}
            _ => id.push('_'),
        }
    }
    match id.trim_matches('_') {
        "" => String::new(),
        id if id.starts_with("run_") => id.to_owned(),
        id => format!("run_{id}"),
    }
}

/// What `policy` says to `server` when it is called with `risk_class`, and the verdict that follows.
///
/// Reason `mcp_trust_missing` for a policy without the clause, `risk_class_unknown` for a class that neither the language
/// nor the clause has: a typing error would be a risk at which nothing is enforced.
pub fn judge_server(
    policy: &Policy,
    server: &Server,
    risk_class: &str,
    at: Timestamp,
) -> Result<(Verdict, TrustDecision)> {
    let clause = policy.mcp_trust().ok_or_else(|| {
        invalid("the policy has no mcp_trust clause")
            .because("mcp_trust_missing", "add an mcp_trust clause to the policy")
    })?;
    let class = text::trim_lower(risk_class);
    if !RISK_CLASSES.contains(&class.as_str()) && !clause.required_risk_classes.contains(&class) {
        return Err(
            invalid(format!("unsupported risk class {risk_class:?}")).because(
                "risk_class_unknown",
                "give low, medium, high, critical, or a class that the policy requires trust for",
            ),
        );
    }
    let trust = clause.judge(Some(server), &class, snapshot(clause).ok().as_ref(), at);
    let verdict = match trust.enforced {
        true => clause.action,
        false => Verdict::Allow,
    };
    Ok((verdict, trust))
}
