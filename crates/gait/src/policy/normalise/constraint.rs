//! The normal form of what a rule constrains: endpoints, flows of data, sandboxes.

use worldcompute_fault::Result;

use super::misplaced::{Checked, Under};
use super::value::{bounded, known_set, lower_set, or, raise, seconds, set};
use crate::evaluate::{Constraint, Dataflow, Patterns, SandboxClause};
use crate::intent::{CLASSES, sandbox_modes, sandbox_paths};
use crate::limits::invalid;
use crate::policy::file::{DataflowFile, EndpointFile, SandboxFile};
use crate::verdict::Verdict;

pub(super) fn endpoint(name: &str, file: EndpointFile) -> Checked<Option<Constraint>> {
    const CODE: &str = "endpoint_constraint_violation";
    let what = |key: &str| format!("endpoint.{key} for {name}");
    let list = |list: &Option<Vec<String>>| set(list.as_deref());
    let lower = |list: &Option<Vec<String>>| lower_set(list.as_deref());
    let constraint = Constraint {
        enabled: true,
        path_allowlist: Patterns::of_paths(name, list(&file.path_allowlist)?)
            .under("path_allowlist")?,
        path_denylist: Patterns::of_paths(name, list(&file.path_denylist)?)
            .under("path_denylist")?,
        domain_allowlist: Patterns::of_domains(name, lower(&file.domain_allowlist)?)
            .under("domain_allowlist")?,
        domain_denylist: Patterns::of_domains(name, lower(&file.domain_denylist)?)
            .under("domain_denylist")?,
        egress_classes: egress_classes(name, file.egress_classes.as_deref())
            .under("egress_classes")?,
        action: raise(&what("action"), file.action.as_deref())
            .under("action")?
            .unwrap_or(Verdict::Block),
        destructive_action: raise(
            &what("destructive_action"),
            file.destructive_action.as_deref(),
        )
        .under("destructive_action")?,
        reason_code: or(file.reason_code.as_deref(), CODE)?,
        violation: or(file.violation.as_deref(), CODE)?,
    };
    let enabled = file.enabled.unwrap_or_default() || constraint.says_something();
    Ok(enabled.then_some(constraint))
}

fn egress_classes(name: &str, list: Option<&[String]>) -> Result<Vec<String>> {
    let what = format!("endpoint.egress_class for {name}");
    let classes = known_set(&what, list, &CLASSES)?;
    if classes.iter().any(|class| !class.starts_with("net.")) {
        return Err(invalid(format!(
            "endpoint.egress_class must be network class for {name}"
        )));
    }
    Ok(classes)
}

pub(super) fn dataflow(name: &str, file: DataflowFile) -> Checked<Option<Dataflow>> {
    let lower = |list: &Option<Vec<String>>| lower_set(list.as_deref());
    let mut tainted_sources = lower(&file.tainted_sources)?;
    let destination_kinds = lower(&file.destination_kinds)?;
    let destination_values = set(file.destination_values.as_deref())?;
    let destination_operations = lower(&file.destination_operations)?;
    let lists = [
        &tainted_sources,
        &destination_kinds,
        &destination_values,
        &destination_operations,
    ];
    let action = raise(
        &format!("dataflow.action for {name}"),
        file.action.as_deref(),
    )
    .under("action")?;
    if !file.enabled.unwrap_or_default() && lists.iter().all(|list| list.is_empty()) {
        return Ok(None);
    }
    if tainted_sources.is_empty() {
        tainted_sources = ["external", "tool_output"].map(str::to_owned).to_vec();
    }
    Ok(Some(Dataflow {
        enabled: true,
        tainted_sources,
        action: action.unwrap_or(Verdict::RequireApproval),
        reason_code: or(file.reason_code.as_deref(), "dataflow_tainted_destination")?,
        violation: or(file.violation.as_deref(), "tainted_dataflow")?,
        destination_kinds,
        destination_values,
        destination_operations,
    }))
}

pub(super) fn sandbox(name: &str, file: SandboxFile) -> Checked<Option<SandboxClause>> {
    let what = |key: &str| format!("sandbox.{key} for {name}");
    let modes = |key: &str, list: &Option<Vec<String>>, known: &[&str]| {
        known_set(&what(key), list.as_deref(), known)
    };
    let paths = |key: &str, list: &Option<Vec<String>>| {
        let given = bounded(list.as_deref())?;
        let paths = sandbox_paths(&what(key), given)?;
        match paths.is_empty() && !given.is_empty() {
            true => Err(invalid(format!(
                "{} names no path, which would ask for nothing",
                what(key)
            ))),
            false => Ok(paths),
        }
    };
    let clause = SandboxClause {
        enabled: true,
        allowed_network_modes: modes(
            "allowed_network_mode",
            &file.allowed_network_modes,
            sandbox_modes::NETWORK,
        )
        .under("allowed_network_modes")?,
        allowed_writable_path_prefixes: paths(
            "allowed_writable_path_prefixes",
            &file.allowed_writable_path_prefixes,
        )
        .under("allowed_writable_path_prefixes")?,
        required_read_only_roots: paths("required_read_only_roots", &file.required_read_only_roots)
            .under("required_read_only_roots")?,
        allowed_env_exposure_modes: modes(
            "allowed_env_exposure_mode",
            &file.allowed_env_exposure_modes,
            sandbox_modes::ENVIRONMENT,
        )
        .under("allowed_env_exposure_modes")?,
        max_timeout_seconds: seconds(
            "sandbox.max_timeout_seconds",
            name,
            file.max_timeout_seconds,
        )
        .under("max_timeout_seconds")?,
        allowed_filesystem_isolations: modes(
            "allowed_filesystem_isolation",
            &file.allowed_filesystem_isolations,
            sandbox_modes::FILESYSTEM,
        )
        .under("allowed_filesystem_isolations")?,
        allowed_user_modes: modes(
            "allowed_user_mode",
            &file.allowed_user_modes,
            sandbox_modes::USER,
        )
        .under("allowed_user_modes")?,
    };
    let enabled = file.enabled.unwrap_or_default() || clause.says_something();
    Ok(enabled.then_some(clause))
}
