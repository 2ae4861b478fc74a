//! `gait pack`.

mod build;
mod export;

use std::path::Path;

use gait::pack::{self, Built, Diff, Export, Inspection, Report, VerifyOptions};
use serde::Serialize;
use serde_json::{Value, json};
use worldcompute_fault::Result;

use super::verify::{Asked, REQUIREMENTS};
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::exit::Exit;
use crate::cli::flag::Flag;
use crate::cli::streamed::Streamed;

pub use build::BUILD;
pub use export::EXPORT;

const EXPECTED: &str = "expected <pack.zip>";
/// One pack, by position or by `--path`.
const ONE: Positionals = Positionals::Interleaved {
    min: 0,
    max: 1,
    expected: EXPECTED,
};
const EXPECTED_TWO: &str = "expected <left> <right>";

/// `gait pack diff`
pub static DIFF: Command = Command {
    words: &["pack", "diff"],
    help: "Say what differs between two packs, each verified first.",
    flags: &[Flag::text("output", "")],
    positionals: Positionals::Interleaved {
        min: 2,
        max: 2,
        expected: EXPECTED_TWO,
    },
    run: diff,
};

/// `gait pack inspect`
pub static INSPECT: Command = Command {
    words: &["pack", "inspect"],
    help: "Show what a pack holds, once it was verified.",
    flags: &[Flag::text("path", "")],
    positionals: ONE,
    run: inspect,
};

/// `gait pack verify`
pub static VERIFY: Command = Command {
    words: &["pack", "verify"],
    help: "Check offline that a pack, runpack or guard pack is what its manifest declares, and who signed it.",
    flags: &[Flag::text("path", ""), Flag::group(REQUIREMENTS)],
    positionals: ONE,
    run: verify,
};

fn inspect(context: &Context, args: &Args) -> Result<Outcome> {
    let path = args.one_of("path", EXPECTED)?;
    let mut results = Streamed::new(&["inspect", "run_lineage", "intent_results"])?;
    let inspection = pack::inspect(Path::new(path), |result| match context.json {
        true => results.push(result),
        false => Ok(()),
    })?;
    let answer = Answer {
        path: path.to_owned(),
        pack_id: inspection.pack_id.clone(),
        pack_type: inspection.pack_type.clone(),
        source_ref: inspection.source_ref.clone(),
        inspect: Some(inspection),
        ..Answer::to("inspect")
    };
    let human = format!("pack inspect ok: {} ({})", answer.pack_id, answer.pack_type);
    let outcome = Outcome::ok(&answer, human)?;
    Ok(Outcome {
        streamed: Some(results),
        ..outcome
    })
}

fn verify(context: &Context, args: &Args) -> Result<Outcome> {
    let path = args.one_of("path", EXPECTED)?;
    let asked = Asked::of(context, args)?;
    let asked = asked.requirements();
    let options = VerifyOptions {
        key: asked.key,
        require_signature: asked.signature,
    };
    let report = pack::verify(Path::new(path), &options)?;
    let (ok, human) = judged("pack verify", path, &report);
    let answer = Answer {
        ok,
        path: path.to_owned(),
        pack_id: report.pack_id.clone(),
        pack_type: report.pack_type.clone(),
        source_ref: report.source_ref.clone(),
        verify: Some(report),
        ..Answer::to("verify")
    };
    Outcome::with(
        if ok {
            Exit::Ok
        } else {
            Exit::VerificationFailed
        },
        &answer,
        human,
    )
}

/// Whether a report is good, and what a person is told.
pub(super) fn judged(command: &str, path: &str, report: &Report) -> (bool, String) {
    if report.ok() {
        return (true, format!("{command} ok: {path}"));
    }
    let mut lines = vec![format!("{command} failed: {path}")];
    lines.extend(report.findings().iter().map(ToString::to_string));
    (false, lines.join("\n"))
}

fn diff(_: &Context, args: &Args) -> Result<Outcome> {
    let packs: Vec<&str> = args.positionals().iter().map(|path| path.trim()).collect();
    let &[left, right] = packs.as_slice() else {
        return Err(invalid(EXPECTED_TWO));
    };
    if left.is_empty() || right.is_empty() {
        return Err(invalid(EXPECTED_TWO));
    }
    let diff = pack::diff(Path::new(left), Path::new(right))?;
    let output = args.text("output").trim();
    if !output.is_empty() {
        let bytes = worldcompute_proof::canonical_json(&diff)?;
        gait::artefact::write(Path::new(output), &bytes)?;
    }
    let (exit, human) = match diff.summary.changed {
        false => (Exit::Ok, "pack diff ok".to_owned()),
        true => (Exit::VerificationFailed, differences(&diff)),
    };
    let answer = Answer {
        ok: !diff.summary.changed,
        path: output.to_owned(),
        diff: Some(json!({ "Result": diff })),
        ..Answer::to("diff")
    };
    Outcome::with(exit, &answer, human)
}

fn differences(diff: &Diff) -> String {
    let mut lines = vec!["pack diff: the packs differ".to_owned()];
    let files = [
        ("added", &diff.summary.added_files),
        ("removed", &diff.summary.removed_files),
        ("changed", &diff.summary.changed_files),
    ];
    for (what, names) in files {
        lines.extend(names.iter().map(|name| format!("{what}: {name}")));
    }
    lines.join("\n")
}

/// What every command of the group answers.
#[derive(Default, Serialize)]
struct Answer {
    schema_id: &'static str,
    schema_version: &'static str,
    ok: bool,
    operation: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pack_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pack_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    source_ref: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    otel_path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    postgres_sql_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inspect: Option<Inspection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verify: Option<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<Export>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Answer {
    fn to(operation: &'static str) -> Self {
        Self {
            schema_id: "gait.pack.output",
            schema_version: "1.0.0",
            ok: true,
            operation,
            ..Self::default()
        }
    }

    fn built(built: &Built, warnings: Vec<String>) -> Result<Outcome> {
        let manifest = &built.manifest;
        let answer = Self {
            path: built.path.display().to_string(),
            pack_id: manifest.pack_id.clone(),
            pack_type: manifest.pack_type.as_str().to_owned(),
            source_ref: manifest.source_ref.clone(),
            warnings,
            ..Self::to("build")
        };
        let human = format!("pack build ok: {} ({})", answer.path, answer.pack_type);
        Outcome::ok(&answer, human)
    }
}
