//! The answer of `gait gate eval`.

use std::path::Path;

use gait::desk::Answer;
use gait::gate::{Account, Profile};
use gait::rate_limit::Usage;
use gait::{Decision, Intent};
use serde_json::{Map, Value, json};

use crate::cli::output::is_empty;

/// The fields; what says nothing is left out.
pub fn fields(profile: Profile, intent: &Intent, answer: &Answer) -> Map<String, Value> {
    let decision = &answer.decision;
    let mut fields = Fields::default();
    let evaluation = decision.evaluation();
    let account = decision.account();
    fields.put("ok", json!(true));
    fields.put("profile", json!(profile.as_str()));
    fields.put("verdict", json!(decision.verdict()));
    fields.put("reason_codes", json!(decision.reason_codes()));
    fields.put("violations", json!(decision.violations()));
    fields.put("matched_rule", json!(decision.matched_rule()));
    fields.put("denied_by", json!(decision.denied_by()));
    fields.put("why_not", json!(answer.why_not));
    fields.put("phase", json!(intent.context().phase));
    fields.put("policy_digest", json!(decision.policy_digest()));
    fields.put("intent_digest", json!(decision.intent_digest()));
    fields.put("trace_id", json!(decision.trace().trace_id()));
    fields.put("freeze_window", json!(evaluation.freeze_window));
    fields.put("sandbox", json!(evaluation.sandbox));
    fields.put("context_source", json!(evaluation.context_source));
    fields.context(account);
    fields.script(intent, decision);
    fields.tokens(decision);
    fields.limits("rate_limit", account.rate.as_ref());
    fields.limits("destructive_budget", account.budget.as_ref());
    fields.credential(account);
    fields.simulation(account);
    fields.put("kill_switch", json!(account.kill_switch));
    fields.put("session_sequence", json!(account.sequence));
    fields.path("trace_path", account.written.trace.as_deref());
    fields.put("warnings", json!(warnings(answer)));
    fields.0
}

/// All that the user should know, sorted, each once.
fn warnings(answer: &Answer) -> Vec<String> {
    let mut warnings = [&answer.warnings[..], &answer.decision.account().warnings].concat();
    warnings.sort();
    warnings.dedup();
    warnings
}

/// The text for a person.
pub fn human(answer: &Answer) -> String {
    let decision = &answer.decision;
    let account = decision.account();
    let mut lines = vec![format!("gate eval: verdict={}", decision.verdict())];
    if let Some(trace) = &account.written.trace {
        lines.push(format!("trace: {}", trace.display()));
    }
    if let Some(simulated) = &account.simulated {
        lines.push(format!(
            "simulate: would_have_blocked={} simulated_verdict={}",
            simulated.would_have_blocked(),
            simulated.verdict
        ));
    }
    let lists = [
        ("reasons", decision.reason_codes()),
        ("violations", decision.violations()),
        ("warnings", &warnings(answer)),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        lines.push(format!("{name}: {}", list.join(",")));
    }
    if let Some(approvals) = &account.approvals {
        lines.push(format!(
            "approvals: {}/{}",
            approvals.valid(),
            approvals.required()
        ));
    }
    if let Some(credential) = &account.credential {
        let (name, issuer) = (&credential.credential_ref, credential.issuer());
        lines.push(format!("credential: {name} ({issuer})"));
    }
    let causes = decision.denied_by().iter();
    lines.extend(causes.map(|cause| format!("  because {cause}")));
    let change = answer.why_not.as_ref().map(ToString::to_string);
    lines.join("\n") + &change.unwrap_or_default()
}

/// JSON fields without those that say nothing.
#[derive(Default)]
pub struct Fields(pub Map<String, Value>);

impl Fields {
    /// Takes the field, unless it is empty, zero, false or null.
    pub fn put(&mut self, name: &str, value: Value) {
        if !is_empty(&value) {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// Takes a path, if there is one.
    pub fn path(&mut self, name: &str, path: Option<&Path>) {
        self.put(name, json!(path.map(|path| path.display().to_string())));
    }

    fn context(&mut self, account: &Account) {
        self.put("context_set_digest", json!(account.context.set_digest));
        self.put("context_evidence_mode", json!(account.context.mode));
        self.put("context_ref_count", json!(account.context.refs));
    }

    fn script(&mut self, intent: &Intent, decision: &Decision) {
        let account = decision.account();
        if let (Some(script), Some((_, hash))) = (&decision.evaluation().script, intent.script()) {
            self.put("composite_risk_class", json!(script.composite_risk_class));
            self.put("step_verdicts", json!(script.steps));
            self.put("script_hash", json!(hash));
        }
        if let Some((script, _)) = intent.script() {
            self.put("script", json!(true));
            self.put("step_count", json!(script.steps.len()));
        }
        if let Some(path) = &account.fast_path {
            self.put("pattern_id", json!(path.pattern_id));
            self.put("pre_approved", json!(path.pattern_id.is_some()));
            self.put("registry_reason", json!(path.reason));
        }
    }

    fn tokens(&mut self, decision: &Decision) {
        let account = decision.account();
        let evaluation = decision.evaluation();
        self.put("approval_ref", json!(account.approval_ref));
        self.put("required_approvals", json!(evaluation.required_approvals));
        if let Some(approvals) = &account.approvals {
            self.put("required_approvals", json!(approvals.required()));
            self.put("valid_approvals", json!(approvals.valid()));
        }
        if let Some(chain) = &account.delegation {
            self.put("delegation_ref", json!(chain.reference()));
            self.put("valid_delegations", json!(chain.valid()));
        }
        self.put("delegation_required", json!(evaluation.require_delegation));
        let written = &account.written;
        self.path("approval_audit_path", written.approval_audit.as_deref());
        self.path("delegation_audit_path", written.delegation_audit.as_deref());
    }

    fn limits(&mut self, prefix: &str, usage: Option<&Usage>) {
        let Some(usage) = usage else {
            return;
        };
        self.put(&format!("{prefix}_scope"), json!(usage.scope));
        self.put(&format!("{prefix}_key"), json!(usage.key));
        self.put(&format!("{prefix}_used"), json!(usage.used));
        self.put(&format!("{prefix}_remaining"), json!(usage.remaining));
    }

    fn credential(&mut self, account: &Account) {
        let Some(credential) = &account.credential else {
            return;
        };
        self.put("credential_issuer", json!(credential.issuer()));
        self.put("credential_source", json!(credential.source));
        self.put("credential_access_type", json!(credential.access_type));
        self.put("credential_ref", json!(credential.credential_ref));
        self.put("credential_ttl_seconds", json!(credential.ttl_seconds));
        let evidence = account.written.credential_evidence.as_deref();
        self.path("credential_evidence_path", evidence);
    }

    fn simulation(&mut self, account: &Account) {
        let Some(simulated) = &account.simulated else {
            return;
        };
        self.put("simulate_mode", json!(true));
        self.put("would_have_blocked", json!(simulated.would_have_blocked()));
        self.put("simulated_verdict", json!(simulated.verdict));
        self.put("simulated_reason_codes", json!(simulated.reason_codes));
    }
}
