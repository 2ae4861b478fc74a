//! What the compiler does not mind, and a reader does.
//!
//! - forbidden words in shipped source: they admit that something is not real;
//! - functions over [`functions::MAX_LINES`] lines, outside of tests;
//! - modules that do not say what they are;
//! - paths of the machine this was written on, anywhere in the checkout.
//!
//! Shipped source is `crates/**/src`, `xtask/src` and every `proto` folder: this file is under its own gate.

mod allow;
mod files;
mod functions;
mod paths;
mod words;

use std::fmt;
use std::path::Path;

use crate::shell::{Failure, Result};
use allow::Allowed;

/// The exit code for a forbidden word.
const FOUND: u8 = 64;
/// The exit code for an allowlist that was to be empty.
const NOT_EMPTY: u8 = 65;

/// What to do besides looking.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Fail when the allowlist has an entry.
    check_empty: bool,
    /// Print the allowlist.
    list: bool,
}

impl Options {
    /// `None` for an option that is not there.
    pub fn parse(options: &[&str]) -> Option<Self> {
        options
            .iter()
            .try_fold(Self::default(), |parsed, option| match *option {
                "--check-empty" => Some(Self {
                    check_empty: true,
                    ..parsed
                }),
                "--list" => Some(Self {
                    list: true,
                    ..parsed
                }),
                _ => None,
            })
    }
}

/// Something that is not as it should be, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Looks at the checkout in `root`; fails when anything is found.
pub fn run(root: &Path, options: Options) -> Result<()> {
    let allowed = allow::read(root)?;
    if options.list {
        allowed.iter().for_each(|entry| println!("{entry}"));
    }
    let files = files::all(root)?;
    let shipped: Vec<_> = files.iter().filter(|file| file.is_shipped()).collect();
    let (words, stale) = without_allowed(words::find(&shipped), &allowed);
    let others = [
        stale,
        functions::find(&shipped),
        paths::find(&files, &paths::of_this_machine(root)),
    ]
    .concat();
    report(&words, &others)?;
    println!("OK: zero {} occurrences", words::first());
    if options.check_empty && !allowed.is_empty() {
        let message = format!(
            "{} has {} entries and must be empty",
            allow::FILE,
            allowed.len()
        );
        return Err(Failure {
            code: NOT_EMPTY,
            message,
        });
    }
    Ok(())
}

/// The findings that no entry allows, and the entries that allow nothing.
fn without_allowed(found: Vec<Finding>, allowed: &[Allowed]) -> (Vec<Finding>, Vec<Finding>) {
    let stale = allowed
        .iter()
        .filter(|entry| !found.iter().any(|finding| entry.allows(finding)));
    let stale = stale.map(Allowed::stale).collect();
    let rest = found
        .into_iter()
        .filter(|finding| !allowed.iter().any(|entry| entry.allows(finding)));
    (rest.collect(), stale)
}

fn report(words: &[Finding], others: &[Finding]) -> Result<()> {
    let lines: Vec<_> = words.iter().chain(others).map(Finding::to_string).collect();
    match (words.is_empty(), others.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(Failure::new(lines.join("\n"))),
        (false, _) => Err(Failure {
            code: FOUND,
            message: lines.join("\n"),
        }),
    }
}
