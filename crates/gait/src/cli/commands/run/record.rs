//! `gait run record`.

use std::path::{Path, PathBuf};

use gait::context_envelope::{ContextEnvelope, EvidenceMode};
use gait::runpack::{self, CaptureMode, RecordInput, Recorded, Recorder, Stamp, evidence_mode};
use serde::Serialize;
use serde_json::{Map, Value};
use worldcompute_durable::output_dir;
use worldcompute_fault::Result;

use super::super::verify::shown;
use super::stored::Handover;
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;
use crate::cli::keys;

/// `gait run record`
pub static RECORD: Command = Command {
    words: &["run", "record"],
    help: "Create a signed and verifiable runpack zip from normalized run, intent, result, and reference receipt records.",
    flags: &[
        Flag::text("input", ""),
        Flag::text("out-dir", "./gait-out"),
        Flag::text("run-id", ""),
        Flag::text("capture-mode", ""),
        Flag::text("context-envelope", ""),
        Flag::text("context-evidence-mode", ""),
        Flag::switch("unsafe-context-raw"),
        Flag::text("key-mode", ""),
        Flag::text("private-key", ""),
        Flag::text("private-key-env", ""),
        Flag::text("store", ""),
        Flag::csv("trace"),
        Flag::csv("approval-audit"),
    ],
    positionals: Positionals::Interleaved {
        min: 0,
        max: 1,
        expected: MISSING,
    },
    run,
};

const MISSING: &str = "missing required --input <run_record.json>";
const STRIPPED: &str =
    "reference capture stripped raw intent arguments and raw result payloads after digesting";
const EMPTY: &str =
    "the run has no intents and no results: the runpack shows of no call that it was made";
const KEPT: &str =
    "raw capture keeps intent arguments and result payloads: share this runpack with care";

#[derive(Serialize)]
struct Fields<'a> {
    bundle: String,
    manifest_digest: &'a str,
    run_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_key_id: Option<&'a str>,
    signature_status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<Map<String, Value>>,
    ticket_footer: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
}

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let handover = Handover::asked(args)?;
    let mut input = RecordInput::open(Path::new(args.one_of("input", MISSING)?))?;
    let run_id = args.text("run-id").trim();
    if !run_id.is_empty() {
        input.rename(run_id);
    }
    if input.run.run_id.trim().is_empty() {
        return Err(invalid("input run.run_id is required (or set --run-id)"));
    }
    let mode = capture_mode(args, &input)?;
    let mut warnings = settle_context(args, &mut input)?;
    let signer = keys::signing_if_asked(context, args)?;
    if let Some(signer) = &signer {
        warnings.extend_from_slice(&signer.warnings);
    }
    warnings.push(match mode {
        CaptureMode::Reference => STRIPPED.to_owned(),
        CaptureMode::Raw => KEPT.to_owned(),
    });
    let now = Stamp::at(context.clock.now());
    let mut recorder = Recorder::new(input.run.clone(), input.refs.clone(), mode, now)?;
    input.record(&mut recorder, !run_id.is_empty())?;
    let path = path(args, &input)?;
    let recorded = recorder.finish(&path, signer.as_ref().map(|signer| &signer.key))?;
    if recorded.is_empty {
        warnings.push(EMPTY.to_owned());
    }
    let stored = handover.map(|handover| handover.hand_over(&path));
    answer(&recorded, &path, &warnings, stored.transpose()?)
}

/// The flag, else the file, else the careful one.
fn capture_mode(args: &Args, input: &RecordInput) -> Result<CaptureMode> {
    match (args.text("capture-mode").trim(), input.capture_mode.trim()) {
        ("", "") => Ok(CaptureMode::Reference),
        ("", said) | (said, _) => CaptureMode::parse(said),
    }
}

/// Decides what must be proven about what the run read, and refuses what must not be kept.
fn settle_context(args: &Args, input: &mut RecordInput) -> Result<Vec<String>> {
    let asked = evidence_mode(args.text("context-evidence-mode"))?;
    let said = evidence_mode(&input.refs.context_evidence_mode)?;
    let mode = asked.or(said).unwrap_or_default();
    let warnings = prove(args, mode, input)?;
    mode.as_str()
        .clone_into(&mut input.refs.context_evidence_mode);
    if input.refs.has_raw() && !args.switch("unsafe-context-raw") {
        return Err(invalid(
            "refs receipts include redaction_mode=raw; re-run with --unsafe-context-raw to allow unsafe context capture",
        ));
    }
    if mode == EvidenceMode::Required && input.refs.context_set_digest.trim().is_empty() {
        return Err(invalid(
            "context evidence mode required but context_set_digest is missing",
        ));
    }
    Ok(warnings)
}

/// Takes what the context envelope proves; where that is not required, one that proves nothing is a warning.
fn prove(args: &Args, mode: EvidenceMode, input: &mut RecordInput) -> Result<Vec<String>> {
    let path = args.text("context-envelope").trim();
    if path.is_empty() {
        return Ok(Vec::new());
    }
    match ContextEnvelope::load(Path::new(path)) {
        Ok(envelope) => input.refs.prove(&envelope),
        Err(fault) if mode == EvidenceMode::Required => return Err(fault),
        Err(fault) => {
            return Ok(vec![format!(
                "context envelope ignored: {}",
                fault.message()
            )]);
        }
    }
    Ok(Vec::new())
}

fn path(args: &Args, input: &RecordInput) -> Result<PathBuf> {
    let dir = Path::new(args.text("out-dir"));
    output_dir(dir)?;
    Ok(dir.join(format!("runpack_{}.zip", input.run.run_id)))
}

fn answer(
    recorded: &Recorded,
    path: &Path,
    warnings: &[String],
    stored: Option<Map<String, Value>>,
) -> Result<Outcome> {
    let fields = Fields {
        bundle: shown(path),
        manifest_digest: &recorded.manifest_digest,
        run_id: &recorded.run_id,
        signature_key_id: recorded.key_id.as_deref(),
        signature_status: recorded.key_id.as_ref().map_or("missing", |_| "signed"),
        stored,
        ticket_footer: runpack::ticket_footer(&recorded.run_id, &recorded.manifest_digest),
        warnings,
    };
    let mut human = format!(
        "bundle={}\nticket_footer={}",
        fields.bundle, fields.ticket_footer
    );
    let dialogue = fields
        .stored
        .as_ref()
        .and_then(|it| it.get("dialogue")?.as_str());
    if let Some(dialogue) = dialogue {
        human += &format!("\ndialogue={dialogue}");
    }
    Outcome::ok(&fields, human)
}
