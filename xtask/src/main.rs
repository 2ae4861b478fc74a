//! The one door for chores: `cargo xtask <chore>`.

mod bench;
#[cfg(target_os = "linux")]
mod beside;
mod ci;
mod conformance;
mod evidence;
#[cfg(target_os = "linux")]
mod lab;
mod readme;
mod shell;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use shell::{Failure, Result};

const USAGE: &str = "\
Usage: cargo xtask <chore>

Chores:
  ci                              everything CI does, in the same order, up to the first failure
  tidy [--check-empty] [--list]   forbidden words, long functions, machine paths, missing module docs
  readme                          runs the commands that README.md and docs/gate.md show
  bench                           runs every bench, prints medians and ratios
  conformance <folder>            runs the gate's conformance cases, prints the tally per family
  evidence validate <dir>         whether a folder is a bundle of evidence
  lab [what]                      a whole job behind every NAT and firewall; `lab help` says more (Linux, root)

Options:
  --root <dir>                    the checkout to work on, instead of this one

tidy exits with 64 when a forbidden word is found, and with 65 when --check-empty is given and .tidy-allow
has an entry. --list prints the entries of .tidy-allow.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            eprintln!("{message}");
            ExitCode::from(code)
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let (root, words) = root_of(arguments)?;
    match words.as_slice() {
        ["ci"] => ci::run(&root),
        ["tidy", options @ ..] => {
            tidy::run(&root, tidy::Options::parse(options).ok_or_else(usage)?)
        }
        ["readme"] => readme::run(&root, &[]),
        ["bench"] => bench::run(&root),
        ["conformance", folder] => conformance::run(&root, Path::new(folder)),
        ["evidence", "validate", dir] => evidence::run(&root, Path::new(dir)),
        #[cfg(target_os = "linux")]
        ["lab", words @ ..] => lab::run(&root, words),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(usage()),
    }
}

/// Takes `--root <dir>` out of the arguments; without it, the checkout this program was built from.
fn root_of(arguments: &[String]) -> Result<(PathBuf, Vec<&str>)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut root = own.parent().unwrap_or(own);
    let mut words = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--root" => root = Path::new(arguments.next().ok_or_else(usage)?),
            word => words.push(word),
        }
    }
    Ok((root.to_owned(), words))
}

fn usage() -> Failure {
    Failure {
        code: 2,
        message: USAGE.to_owned(),
    }
}
