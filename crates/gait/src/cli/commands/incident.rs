//! `gait incident`.

use gait::{guard, runpack};
use jiff::SignedDuration;
use serde_json::json;
use worldcompute_fault::Result;

use super::guard::{SOURCE, guarded, unproven, warned};
use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;
use crate::cli::keys;

const EXPECTED: &str = "expected --from <run_id|path>";

/// `gait incident pack`
pub static PACK: Command = Command {
    words: &["incident", "pack"],
    help: "Pack everything that was decided around a run: traces, regressions, approvals, credentials, policies.",
    flags: &[
        Flag::text("from", ""),
        Flag::duration("window", SignedDuration::from_hours(24)),
        Flag::group(SOURCE),
        Flag::text("template", "incident_response"),
    ],
    positionals: Positionals::Interleaved {
        min: 0,
        max: 1,
        expected: EXPECTED,
    },
    run: pack,
};

fn pack(context: &Context, args: &Args) -> Result<Outcome> {
    let from = args.one_of("from", EXPECTED)?;
    let identity = keys::signing(context, args)?;
    let runpack = runpack::locate(from, &*context.environment)?;
    let request = guarded(context, args, &runpack, &identity.key)?;
    let is_proven = request.trace_key.is_some();
    let incident = guard::build_incident(request, args.duration("window"))?;
    let left_out = incident
        .left_out
        .iter()
        .map(|why| format!("left out: {why}"));
    let mut warnings: Vec<String> = identity.warnings.into_iter().chain(left_out).collect();
    warnings.extend(unproven(incident.traces, is_proven));
    let path = incident.built.path.display().to_string();
    let mut fields = json!({
        "approval_audit_count": incident.approval_audits,
        "credential_evidence_count": incident.credential_evidence,
        "pack_id": incident.built.manifest.pack_id,
        "pack_path": path,
        "policy_digests": incident.policy_digests,
        "regress_count": incident.regress,
        "run_id": incident.built.manifest.run_id,
        "template_id": incident.built.manifest.template_id,
        "trace_count": incident.traces,
        "warnings": warnings,
        "window_from": incident.window.from,
        "window_to": incident.window.to,
    });
    if let Some(fields) = fields.as_object_mut() {
        fields.retain(|_, value| *value != json!(0) && *value != json!([]));
    }
    Outcome::ok(
        &fields,
        warned(format!("incident pack ok: {path}"), &warnings),
    )
}
