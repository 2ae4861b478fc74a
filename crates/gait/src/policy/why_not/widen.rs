//! How to widen a clause by exactly what a call needs, where the clause says what it lets through.

use serde_json::{Value, json};

use super::edit::Action;
use crate::evaluate::{Breach, Call, Constraint, Rule, SandboxClause};
use crate::intent::{AgentIdentity, Context, Sandbox};
use crate::text;

type Widening = (Action, &'static str, Value);

/// The edit of `rule` that lets `call` through the clause of `breach`; `None` where only giving the clause up would.
pub(super) fn clause(rule: &Rule, breach: &Breach<'_>, call: &Call<'_>) -> Option<Widening> {
    let name = breach.clause;
    if let Some(endpoint) = rule
        .endpoint
        .as_ref()
        .filter(|_| name.starts_with("endpoint."))
    {
        return of_endpoint(endpoint, name, call);
    }
    if let Some(clause) = rule
        .sandbox
        .as_ref()
        .filter(|_| name.starts_with("sandbox."))
    {
        return of_sandbox(clause, name, call.context.sandbox.as_ref()?);
    }
    of_declarations(rule, name, call)
}

fn of_endpoint(endpoint: &Constraint, name: &str, call: &Call<'_>) -> Option<Widening> {
    let targets = || call.targets.iter();
    match name {
        "endpoint.path_allowlist" => {
            let path = targets().find_map(|target| endpoint.foreign_path(target))?;
            add("endpoint.path_allowlist", &escaped(&path))
        }
        "endpoint.path_denylist" => {
            let pattern = targets().find_map(|target| endpoint.denying_path(target))?;
            remove("endpoint.path_denylist", pattern)
        }
        "endpoint.domain_allowlist" => {
            let domain = targets().find_map(|target| endpoint.foreign_domain(target))?;
            add("endpoint.domain_allowlist", &escaped(&domain))
        }
        "endpoint.domain_denylist" => {
            let pattern = targets().find_map(|target| endpoint.denying_domain(target))?;
            remove("endpoint.domain_denylist", pattern)
        }
        "endpoint.egress_classes" => {
            let class = targets().find_map(|target| endpoint.foreign_class(target))?;
            add("endpoint.egress_classes", class)
        }
        "endpoint.destructive_action" => set("endpoint.destructive_action", Value::Null),
        _ => None,
    }
}

fn of_sandbox(clause: &SandboxClause, name: &str, sandbox: &Sandbox) -> Option<Widening> {
    match name {
        "sandbox.allowed_network_modes" => {
            add("sandbox.allowed_network_modes", &sandbox.network_mode)
        }
        "sandbox.allowed_env_exposure_modes" => add(
            "sandbox.allowed_env_exposure_modes",
            &sandbox.env_exposure_mode,
        ),
        "sandbox.allowed_filesystem_isolations" => add(
            "sandbox.allowed_filesystem_isolations",
            &sandbox.filesystem_isolation,
        ),
        "sandbox.allowed_user_modes" => add("sandbox.allowed_user_modes", &sandbox.user_mode),
        "sandbox.max_timeout_seconds" if sandbox.timeout_seconds > 0 => set(
            "sandbox.max_timeout_seconds",
            json!(sandbox.timeout_seconds),
        ),
        "sandbox.allowed_writable_path_prefixes" => {
            let path = clause.foreign_writable_path(sandbox)?;
            add("sandbox.allowed_writable_path_prefixes", path)
        }
        "sandbox.required_read_only_roots" => {
            let root = clause.missing_root(sandbox)?;
            remove("sandbox.required_read_only_roots", root)
        }
        _ => None,
    }
}

fn of_declarations(rule: &Rule, name: &str, call: &Call<'_>) -> Option<Widening> {
    let context = call.context;
    let identity = context.agent_identity.as_ref();
    match name {
        "allowed_agent_ids" => add("allowed_agent_ids", &context.agent_id),
        "denied_agent_ids" => remove("denied_agent_ids", &context.agent_id),
        "allowed_agent_manifest_publishers" => {
            let publisher = text::trim_lower(&identity?.publisher);
            add("allowed_agent_manifest_publishers", &publisher)
        }
        "allowed_agent_manifest_sources" => {
            let source = text::trim_lower(&identity?.source);
            add("allowed_agent_manifest_sources", &source)
        }
        "required_agent_lifecycle_states" => {
            let state = missing_state(rule, identity?)?;
            remove("required_agent_lifecycle_states", state)
        }
        "max_context_age_seconds" => {
            let age = call.evidence?.age_seconds?;
            set("max_context_age_seconds", json!(age))
        }
        _ => of_credential(name, context),
    }
}

fn of_credential(name: &str, context: &Context) -> Option<Widening> {
    match name {
        "allowed_credential_sources" => {
            add("allowed_credential_sources", &context.credential_source)
        }
        "allowed_credential_issuers" => {
            add("allowed_credential_issuers", &context.credential_issuer)
        }
        "allowed_credential_access_types" => add(
            "allowed_credential_access_types",
            &context.credential_access_type,
        ),
        "max_credential_ttl_seconds" => set(
            "max_credential_ttl_seconds",
            json!(context.credential_ttl_seconds),
        ),
        _ => None,
    }
}

fn missing_state<'r>(rule: &'r Rule, identity: &AgentIdentity) -> Option<&'r str> {
    let states = rule.agent.lifecycle_states.iter();
    let mut missing = states.filter(|state| !identity.lifecycle_states.contains(state));
    missing.next().map(String::as_str)
}

/// What is empty cannot be listed.
fn add(key: &'static str, value: &str) -> Option<Widening> {
    (!value.is_empty()).then(|| (Action::Add, key, json!(value)))
}

fn remove(key: &'static str, value: &str) -> Option<Widening> {
    Some((Action::Remove, key, json!(value)))
}

fn set(key: &'static str, value: Value) -> Option<Widening> {
    Some((Action::Set, key, value))
}

/// The pattern that only `text` fits.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}
