//! `gait pack build`.

use std::path::{Path, PathBuf};

use gait::job::Jobs;
use gait::pack::{self, Build};
use gait::run_session::Chain;
use gait::{VERSION, runpack};
use worldcompute_fault::Result;

use super::Answer;
use crate::cli::args::{Args, invalid};
use crate::cli::command::{Command, Context, Outcome, Positionals};
use crate::cli::flag::Flag;
use crate::cli::keys;

const MISSING_FROM: &str = "--from is required";

/// `gait pack build`
pub static BUILD: Command = Command {
    words: &["pack", "build"],
    help: "Pack the evidence of a run, a job, a call or an authorization into one file that anyone can verify.",
    flags: &[
        Flag::text("type", "run"),
        Flag::text("from", ""),
        Flag::text("out", ""),
        Flag::text("job-root", "./gait-out/jobs"),
        Flag::text("key-mode", "none"),
        Flag::text("private-key", ""),
        Flag::text("private-key-env", ""),
    ],
    positionals: Positionals::Interleaved {
        min: 0,
        max: 1,
        expected: MISSING_FROM,
    },
    run,
};

fn run(context: &Context, args: &Args) -> Result<Outcome> {
    let from = args.one_of("from", MISSING_FROM)?;
    let signer = keys::signing_if_asked(context, args)?;
    let (key, warnings) = signer.map(|signer| (signer.key, signer.warnings)).unzip();
    let warnings = warnings.unwrap_or_default();
    let output = args.text("out").trim();
    let build = Build {
        output: (!output.is_empty()).then_some(Path::new(output)),
        producer_version: VERSION,
        key: key.as_ref(),
    };
    let built = match &*args.text("type").trim().to_ascii_lowercase() {
        "run" => pack::build_run(&runpack_of(context, from)?, &build),
        "job" => build_job(context, args, from, &build),
        "call" => pack::build_call(Path::new(from), &build),
        "authorization" => pack::build_authorization(Path::new(from), &build),
        _ => Err(invalid("--type must be run, job, call, or authorization")),
    };
    Answer::built(&built?, warnings)
}

/// A run by its id or path, or the last checkpoint of a session.
fn runpack_of(context: &Context, from: &str) -> Result<PathBuf> {
    if !Chain::is_named_by(from) {
        return runpack::locate(from, &*context.environment);
    }
    let chain = Chain::linked(Path::new(from))?;
    Ok(PathBuf::from(
        &chain.sound_checkpoint("latest")?.runpack_path,
    ))
}

/// A job by its id, its directory or its state file.
fn build_job(context: &Context, args: &Args, from: &str, build: &Build<'_>) -> Result<pack::Built> {
    let path = Path::new(from);
    let dir = match path.file_name() {
        Some(name) if name == "state.json" && path.is_file() => path.parent(),
        _ => Some(path).filter(|path| path.is_dir()),
    };
    let name = |dir: &Path| Some(dir.file_name()?.to_str()?.to_owned());
    let (root, id) = match dir.and_then(|dir| Some((dir.parent()?.to_owned(), name(dir)?))) {
        Some(found) => found,
        None => (args.text("job-root").trim().into(), from.to_owned()),
    };
    pack::build_job(&Jobs::at(root, context.clock.clone()), &id.parse()?, build)
}
