//! What has to hold before a job runs again.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use worldcompute_fault::{Category, Fault, Result};

use super::state::{Event, JobState, Status};
use super::transition::{NO_STOP, field, no_way};
use crate::limits::MAX_REVOCATIONS_BYTES;

/// The request to let a job run again.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// Who asks.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// The identity to run under; must be the job's own, if it has one.
    pub identity: String,
    /// Where it would run now: see [`super::environment_fingerprint`].
    pub environment_fingerprint: String,
    /// Run elsewhere all the same.
    pub allow_environment_mismatch: bool,
    /// The policy in force now; a job that was submitted under one asks for it.
    pub policy_digest: String,
    /// How that policy is called.
    pub policy_ref: String,
    /// What the identity was checked against, for the record.
    pub identity_validation_source: String,
    /// The identities that may not run any more.
    pub revoked: Revocations,
}

/// The identities that may not run any more.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    /// Whether a list was consulted at all: then there must be an identity to look up.
    consulted: bool,
    all: bool,
    identities: BTreeSet<String>,
}

impl Revocations {
    /// Every identity is revoked.
    pub fn everybody() -> Self {
        Self {
            consulted: false,
            all: true,
            identities: BTreeSet::new(),
        }
    }

    /// Reads a JSON array, a JSON object with `revoked_identities` or `identities`, or one identity a line.
    ///
    /// Errors: `invalid_revocations` for JSON of another shape or no UTF-8, and those of reading.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = worldcompute_durable::read_guarded(path, MAX_REVOCATIONS_BYTES)?;
        let refused = |why: String| {
            let message = format!("{}: {why}", path.display());
            Fault::new(Category::InvalidInput, "invalid_revocations", message)
                .hint("give a JSON list of identities, or one identity a line")
        };
        let text = String::from_utf8(bytes).map_err(|error| refused(error.to_string()))?;
        if text.starts_with('\u{feff}') {
            // Neither JSON nor a name: read as lines it would revoke nobody.
            return Err(refused("begins with a byte order mark".to_owned()));
        }
        let identities = listed(text.trim()).map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            consulted: true,
            all: false,
            identities,
        })
    }

    pub(super) fn has(&self, identity: &str) -> bool {
        self.all || self.identities.contains(identity)
    }
}

/// What is not JSON is lines; what starts like JSON is never read as lines, which would revoke nobody.
fn listed(text: &str) -> serde_json::Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        #[serde(default)]
        revoked_identities: Vec<String>,
        #[serde(default)]
        identities: Vec<String>,
    }
    let all: Vec<String> = if text.starts_with('[') {
        serde_json::from_str(text)?
    } else if text.starts_with('{') {
        let named: Named = serde_json::from_str(text)?;
        [named.revoked_identities, named.identities].concat()
    } else {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    let trimmed = all.iter().map(|identity| identity.trim().to_owned());
    Ok(trimmed.filter(|identity| !identity.is_empty()).collect())
}

impl Resume {
    pub(super) fn apply(&self, state: &mut JobState) -> Result<Event> {
        self.check(state)?;
        let before = (state.policy_digest.clone(), state.policy_ref.clone());
        let asks_policy = self.asks_policy(state);
        let asks_identity = self.asks_identity(state);
        let changed = !before.0.is_empty()
            && !self.policy_digest.trim().is_empty()
            && before.0 != self.policy_digest.trim();
        let elsewhere = self.environment_fingerprint.trim() != state.environment_fingerprint;
        replace(&mut state.policy_digest, &self.policy_digest);
        replace(&mut state.policy_ref, &self.policy_ref);
        if state.identity.is_empty() {
            replace(&mut state.identity, &self.identity);
        }
        let reason_code = match (elsewhere, changed) {
            (false, false) => "resumed",
            (false, true) => "resumed_with_policy_transition",
            (true, false) => "resumed_with_env_override",
            (true, true) => "resumed_with_env_override_policy_transition",
        };
        state.status = Status::Running;
        state.stop_reason = NO_STOP.to_owned();
        state.status_reason_code = reason_code.to_owned();
        let event = Event::new("resumed", &self.actor, reason_code);
        let event = self.facts(event, state, asks_policy, asks_identity);
        Ok(policy_facts(event, before, state, changed))
    }

    fn facts(&self, event: Event, state: &JobState, policy: bool, identity: bool) -> Event {
        let reason = match self.reason.trim() {
            "" => "resume",
            given => given,
        };
        let mut event = event
            .with("reason", reason)
            .with("expected_fingerprint", &*state.environment_fingerprint)
            .with("actual_fingerprint", self.environment_fingerprint.trim())
            .with("identity", &*state.identity)
            .with(
                "identity_validation_source",
                self.identity_validation_source.trim(),
            );
        if policy {
            event = event.with("policy_evaluation_required", true);
        }
        if identity {
            event = event.with("identity_validation_required", true);
        }
        event
    }

    fn check(&self, state: &JobState) -> Result<()> {
        let fields = [
            ("actor", &self.actor),
            ("reason", &self.reason),
            ("identity", &self.identity),
            ("environment_fingerprint", &self.environment_fingerprint),
            ("policy_digest", &self.policy_digest),
            ("policy_ref", &self.policy_ref),
            (
                "identity_validation_source",
                &self.identity_validation_source,
            ),
        ];
        for (name, value) in fields {
            field(name, value)?;
        }
        self.check_status(state)?;
        self.check_policy(state)?;
        self.check_identity(state)?;
        self.check_environment(state)
    }

    fn check_status(&self, state: &JobState) -> Result<()> {
        use Status::{Blocked, DecisionNeeded, Paused};
        if !matches!(state.status, Paused | DecisionNeeded | Blocked) {
            return Err(no_way("resumed", state.status));
        }
        let asked = state.decisions_asked();
        let unasked = state.status == DecisionNeeded && asked == 0;
        if asked > state.approvals.len() || unasked {
            let message = "approval required: approval required before resume";
            return Err(
                Fault::new(Category::ApprovalRequired, "job_approval_required", message)
                    .hint("approve the open decision with job approve --actor <id>"),
            );
        }
        Ok(())
    }

    fn check_policy(&self, state: &JobState) -> Result<()> {
        if !self.asks_policy(state) || !self.policy_digest.trim().is_empty() {
            return Ok(());
        }
        let message = "policy evaluation required: policy digest is required when policy \
                       evaluation is enabled";
        Err(refused("policy_evaluation_required", message)
            .hint("give the policy in force with --policy or --policy-digest"))
    }

    fn check_identity(&self, state: &JobState) -> Result<()> {
        let (bound, given) = (state.identity.trim(), self.identity.trim());
        if !bound.is_empty() && !given.is_empty() && bound != given {
            let message = format!("identity binding mismatch: expected={bound} provided={given}");
            return Err(refused("identity_binding_mismatch", message)
                .hint("resume under the identity the job was submitted with"));
        }
        let identity = if bound.is_empty() { given } else { bound };
        if identity.is_empty() && self.asks_identity(state) {
            let message =
                "identity validation required: identity is required for resume validation";
            return Err(refused("identity_validation_required", message)
                .hint("name the identity with --identity"));
        }
        if !identity.is_empty() && self.revoked.has(identity) {
            let message = format!("identity revoked: {identity}");
            return Err(refused("identity_revoked", message)
                .hint("cancel the job, and submit it again under another identity"));
        }
        Ok(())
    }

    fn check_environment(&self, state: &JobState) -> Result<()> {
        let (expected, actual) = (
            &*state.environment_fingerprint,
            self.environment_fingerprint.trim(),
        );
        if expected.is_empty() || expected == actual || self.allow_environment_mismatch {
            return Ok(());
        }
        let message =
            format!("environment fingerprint mismatch: expected={expected} actual={actual}");
        Err(refused("environment_fingerprint_mismatch", message)
            .hint("resume where it was submitted, or pass --allow-env-mismatch"))
    }

    fn asks_policy(&self, state: &JobState) -> bool {
        let known = [&self.policy_digest, &self.policy_ref];
        let bound = [&state.policy_digest, &state.policy_ref];
        known
            .into_iter()
            .chain(bound)
            .any(|text| !text.trim().is_empty())
    }

    fn asks_identity(&self, state: &JobState) -> bool {
        self.revoked.consulted || !state.identity.is_empty() || !self.identity.trim().is_empty()
    }
}

fn policy_facts(
    event: Event,
    (digest, name): (String, String),
    state: &JobState,
    changed: bool,
) -> Event {
    let mut event = event;
    if !digest.is_empty() || !state.policy_digest.is_empty() {
        let payload = &mut event.payload;
        payload.insert("previous_policy_digest".to_owned(), digest.into());
        payload.insert(
            "current_policy_digest".to_owned(),
            (*state.policy_digest).into(),
        );
        payload.insert("policy_changed".to_owned(), changed.into());
    }
    if !name.is_empty() || !state.policy_ref.is_empty() {
        let payload = &mut event.payload;
        payload.insert("previous_policy_ref".to_owned(), name.into());
        payload.insert("current_policy_ref".to_owned(), (*state.policy_ref).into());
    }
    event
}

fn replace(value: &mut String, given: &str) {
    if !given.trim().is_empty() {
        given.trim().clone_into(value);
    }
}

fn refused(code: &'static str, message: impl Into<String>) -> Fault {
    Fault::new(Category::InvalidInput, code, message)
}
