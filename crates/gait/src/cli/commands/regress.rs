//! `gait regress`.

use std::path::Path;

use gait::regress::{self, CONFIG, Initialised, RegressResult, Rules, Source, Status};
use serde_json::{Map, Value, json};
use worldcompute_fault::Result;

use super::verify::shown;
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::exit::Exit;
use crate::cli::flag::Flag;
use crate::cli::output::without_empty;

/// What becomes a fixture.
const SOURCE: &[Flag] = &[
    Flag::text("from", ""),
    Flag::text("name", ""),
    Flag::text("checkpoint", "latest"),
];
/// How fixtures are graded.
const GRADING: &[Flag] = &[
    Flag::text("config", CONFIG),
    Flag::text("output", "regress_result.json"),
    Flag::text("junit", ""),
    Flag::switch("allow-nondeterministic"),
    Flag::switch("context-conformance"),
    Flag::switch("allow-context-runtime-drift"),
];

/// `gait regress add`
pub static ADD: Command = Command {
    words: &["regress", "add"],
    help: "Add a regression fixture from a capture receipt, runpack or session-chain source without changing existing regress config semantics.",
    flags: SOURCE,
    positionals: Positionals::None,
    run: |context, args| {
        let made = initialised(context, args)?;
        let mut fields = made_fields(&made);
        fields.insert("source".to_owned(), args.text("from").trim().into());
        let human = format!(
            "regress add ok: fixture={} run_id={}",
            made.fixture_name, made.run_id
        );
        Outcome::ok(&fields, human)
    },
};

/// `gait regress bootstrap`
pub static BOOTSTRAP: Command = Command {
    words: &["regress", "bootstrap"],
    help: "Initialize a fixture from a runpack and execute regress in one command for incident-to-regression bootstrap.",
    flags: &[Flag::group(SOURCE), Flag::group(GRADING)],
    positionals: Positionals::None,
    run: |context, args| {
        let made = initialised(context, args)?;
        let (fields, human, exit) = graded(args)?;
        let mut all = made_fields(&made);
        all.remove("next_commands");
        all.extend(fields);
        for unlisted in ["fixture_set", "graders"] {
            all.remove(unlisted);
        }
        let human = format!(
            "fixture={} run_id={}\n{human}",
            made.fixture_name, made.run_id
        );
        Outcome::with(exit, &all, human)
    },
};

/// `gait regress init`
pub static INIT: Command = Command {
    words: &["regress", "init"],
    help: "Initialize a regression fixture from a recorded runpack artifact.",
    flags: SOURCE,
    positionals: Positionals::None,
    run: |context, args| {
        let made = initialised(context, args)?;
        let human = format!(
            "regress init ok: fixture={} run_id={}\nconfig: {CONFIG}\nrunpack: {}",
            made.fixture_name,
            made.run_id,
            made.runpack_path.display()
        );
        Outcome::ok(&made_fields(&made), human)
    },
};

/// `gait regress run`
pub static RUN: Command = Command {
    words: &["regress", "run"],
    help: "Execute configured regress fixtures and graders with stable JSON output and exit codes.",
    flags: GRADING,
    positionals: Positionals::None,
    run: |_, args| {
        let (fields, human, exit) = graded(args)?;
        Outcome::with(exit, &fields, human)
    },
};

fn initialised(context: &Context, args: &Args) -> Result<Initialised> {
    let from = args.text("from").trim();
    if from.is_empty() {
        return Err(invalid("missing required --from <run_id|path>"));
    }
    let source = Source::find(from, args.text("checkpoint"), &*context.environment)?;
    regress::init(&source, args.text("name"))
}

fn made_fields(made: &Initialised) -> Map<String, Value> {
    without_empty(json!({
        "run_id": made.run_id,
        "fixture_name": made.fixture_name,
        "fixture_dir": made.fixture_dir,
        "runpack_path": made.runpack_path,
        "config_path": CONFIG,
        "next_commands": ["gait regress run --json"],
    }))
}

/// The result of all graders: its fields, the text for a person, and the exit.
fn graded(args: &Args) -> Result<(Map<String, Value>, String, Exit)> {
    let (config, output) = (args.text("config").trim(), args.text("output").trim());
    let junit = args.text("junit").trim();
    let rules = Rules {
        context_conformance: args.switch("context-conformance"),
        allow_context_runtime_drift: args.switch("allow-context-runtime-drift"),
        allow_nondeterministic: args.switch("allow-nondeterministic"),
    };
    let report = Some(Path::new(junit)).filter(|_| !junit.is_empty());
    let result = regress::run(Path::new(config), Path::new(output), report, rules)?;
    let passed = result.status == Status::Pass;
    let again = match config {
        CONFIG => "gait regress run --json".to_owned(),
        other => format!("gait regress run --config {other} --json"),
    };
    let paths: Vec<&str> = [output, junit]
        .into_iter()
        .filter(|path| !path.is_empty())
        .collect();
    let mut fields = without_empty(json!({
        "status": result.status,
        "fixture_set": result.fixture_set,
        "graders": result.graders.len(),
        "failed": result.failed(),
        "top_failure_reason": result.top_failure_reason().unwrap_or_default(),
        "next_command": if passed { "" } else { again.as_str() },
        "artifact_paths": paths,
        "output": output,
        "junit": junit,
    }));
    fields.insert("ok".to_owned(), passed.into());
    let exit = if passed {
        Exit::Ok
    } else {
        Exit::RegressFailed
    };
    Ok((fields, human(&result, output), exit))
}

fn human(result: &RegressResult, output: &str) -> String {
    let output = shown(Path::new(output));
    match result.top_failure_reason() {
        None => format!(
            "regress run ok: fixture_set={} graders={}\noutput: {output}",
            result.fixture_set,
            result.graders.len()
        ),
        Some(reason) => format!(
            "regress run failed: fixture_set={} failed={}\ntop_failure_reason: {reason}\noutput: {output}",
            result.fixture_set,
            result.failed()
        ),
    }
}
