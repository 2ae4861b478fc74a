//! `gait guard pack` and `gait guard verify`.

use std::path::{Path, PathBuf};

use gait::guard::{self, Request};
use gait::pack::VerifyOptions;
use gait::{VERSION, runpack};
use serde_json::{Map, Value, json};
use worldcompute_fault::Result;
use worldcompute_proof::SigningKey;

use crate::cli::args::Args;
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::commands::pack::judged;
use crate::cli::commands::verify::{Asked, REQUIREMENTS};
use crate::cli::exit::Exit;
use crate::cli::flag::Flag;
use crate::cli::keys;

/// What every guard pack is made of, whatever its evidence.
pub const SOURCE: &[Flag] = &[
    Flag::text("out", ""),
    Flag::text("case-id", ""),
    Flag::switch("render-pdf"),
    Flag::text("trace-public-key", ""),
    Flag::text("trace-public-key-env", ""),
    Flag::group(keys::SIGNING),
];

const EXPECTED: &str = "expected --run <run_id|path>";
const EXPECTED_PACK: &str = "expected <evidence_pack.zip>";

/// `gait guard pack`
pub static PACK: Command = Command {
    words: &["guard", "pack"],
    help: "Pack the evidence of a run for an auditor, sorted by the controls it speaks to, signed.",
    flags: &[
        Flag::text("run", ""),
        Flag::group(SOURCE),
        Flag::csv("inventory"),
        Flag::csv("trace"),
        Flag::csv("regress"),
        Flag::csv("approval-audit"),
        Flag::csv("credential-evidence"),
        Flag::text("template", "soc2"),
    ],
    positionals: Positionals::Interleaved {
        min: 0,
        max: 1,
        expected: EXPECTED,
    },
    run: pack,
};

/// `gait guard verify`
pub static VERIFY: Command = Command {
    words: &["guard", "verify"],
    help: "Check offline that a guard pack is what its manifest declares, and who signed it.",
    flags: &[Flag::text("path", ""), Flag::group(REQUIREMENTS)],
    positionals: Positionals::Interleaved {
        min: 0,
        max: 1,
        expected: EXPECTED_PACK,
    },
    run: verify,
};

fn pack(context: &Context, args: &Args) -> Result<Outcome> {
    let run = args.one_of("run", EXPECTED)?;
    let identity = keys::signing(context, args)?;
    let runpack = runpack::locate(run, &*context.environment)?;
    let paths = |flag: &str| args.csv(flag).into_iter().map(PathBuf::from).collect();
    let request = Request {
        inventory: paths("inventory"),
        traces: paths("trace"),
        regress: paths("regress"),
        approval_audits: paths("approval-audit"),
        credential_evidence: paths("credential-evidence"),
        discover: true,
        ..guarded(context, args, &runpack, &identity.key)?
    };
    let built = guard::build(&request)?;
    let mut warnings = identity.warnings;
    warnings.extend(unproven(request.traces.len(), request.trace_key.is_some()));
    let (path, manifest) = (built.path.display().to_string(), &built.manifest);
    let mut fields = json!({
        "controls": manifest.control_index.len(),
        "manifest_path": format!("{path}#pack_manifest.json"),
        "pack_id": manifest.pack_id,
        "pack_path": path,
        "run_id": manifest.run_id,
        "template_id": manifest.template_id,
    });
    if let Some(fields) = fields.as_object_mut() {
        let rendered = manifest.rendered_artifacts.len();
        add(fields, "rendered_artifacts", json!(rendered), rendered > 0);
        add(fields, "warnings", json!(warnings), !warnings.is_empty());
    }
    Outcome::ok(&fields, warned(format!("guard pack ok: {path}"), &warnings))
}

/// What to know of traces that were packed without the key of their gate.
pub fn unproven(traces: usize, is_proven: bool) -> Option<String> {
    (traces > 0 && !is_proven).then(|| {
        format!("nobody verified who signed the {traces} traces: give the gate's key with --trace-public-key")
    })
}

/// The text of an output, with its warnings.
pub fn warned(text: String, warnings: &[String]) -> String {
    warnings
        .iter()
        .fold(text, |text, warning| format!("{text}\nwarning: {warning}"))
}

/// The request that [`SOURCE`] and `--template` make, without any evidence.
pub fn guarded<'a>(
    context: &Context,
    args: &'a Args,
    runpack: &'a Path,
    key: &'a SigningKey,
) -> Result<Request<'a>> {
    let signers = keys::source(args, "trace-public-key")?;
    let output = args.text("out").trim();
    Ok(Request {
        runpack,
        output: (!output.is_empty()).then_some(Path::new(output)),
        case_id: args.text("case-id"),
        template: args.text("template").parse()?,
        inventory: Vec::new(),
        traces: Vec::new(),
        trace_key: signers.verifying_key(&*context.environment)?,
        regress: Vec::new(),
        approval_audits: Vec::new(),
        credential_evidence: Vec::new(),
        discover: false,
        render_pdf: args.switch("render-pdf"),
        producer_version: VERSION,
        key,
    })
}

fn verify(context: &Context, args: &Args) -> Result<Outcome> {
    let path = args.one_of("path", EXPECTED_PACK)?;
    let asked = Asked::of(context, args)?;
    let asked = asked.requirements();
    let options = VerifyOptions {
        key: asked.key,
        require_signature: asked.signature,
    };
    let report = guard::verify(Path::new(path), &options)?;
    let (ok, human) = judged("guard verify", path, &report);
    let mut fields = match serde_json::to_value(&report) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    for name in ["pack_type", "source_ref", "legacy_type"] {
        fields.remove(name);
    }
    fields.insert("ok".to_owned(), ok.into());
    fields.insert("path".to_owned(), path.into());
    fields.insert("run_id".to_owned(), report.source_ref.into());
    let exit = if ok {
        Exit::Ok
    } else {
        Exit::VerificationFailed
    };
    Outcome::with(exit, &fields, human)
}

fn add(fields: &mut Map<String, Value>, name: &str, value: Value, given: bool) {
    if given {
        fields.insert(name.to_owned(), value);
    }
}
