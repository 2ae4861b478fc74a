//! No output takes the place of an input, or of another output.
//!
//! Every output replaces what is under its path. A trace that was asked for under the name of the key that signs it
//! would cost the key.

use std::path::Path;

use gait::artefact::{clash, is_same};
use worldcompute_fault::Result;

use super::args::Args;
use super::command::{Command, Positionals};

/// The flags that name a file to be written.
const OUTPUTS: [&str; 15] = [
    "approval-audit-out",
    "chain-out",
    "credential-evidence-out",
    "delegation-audit-out",
    "export-log-out",
    "export-otel-out",
    "junit",
    "otel-out",
    "out",
    "output",
    "pack-out",
    "postgres-sql-out",
    "report-out",
    "runpack-out",
    "trace-out",
];

/// The flags that name files to be read, or changed in their own way.
const INPUTS: [&str; 43] = [
    "approval-audit",
    "approval-private-key",
    "approval-public-key",
    "approval-redemption-state",
    "approval-token",
    "approval-token-chain",
    "approved-script-public-key",
    "approved-script-registry",
    "baseline",
    "call",
    "chain",
    "config",
    "context-envelope",
    "credential-command",
    "credential-evidence",
    "delegation-private-key",
    "delegation-public-key",
    "delegation-token",
    "delegation-token-chain",
    "fixtures",
    "from",
    "identity-revocations",
    "in",
    "input",
    "intent",
    "inventory",
    "journal",
    "kill-switch-state",
    "pack",
    "path",
    "policy",
    "private-key",
    "public-key",
    "rate-limit-state",
    "registry",
    "regress",
    "run",
    "server",
    "session",
    "source",
    "state",
    "token",
    "trace",
];

/// A path, and what names it.
type Named<'a> = (String, &'a str);

/// Refuses two names for one file of which one is an output; reason `output_clash`.
pub fn check(command: &Command, args: &Args) -> Result<()> {
    let outputs = named(args, &OUTPUTS);
    let mut inputs = named(args, &INPUTS);
    if !matches!(command.positionals, Positionals::AfterDashes { .. }) {
        let positionals = args.positionals().iter();
        inputs.extend(positionals.map(|path| (path.clone(), path.as_str())));
    }
    for (index, output) in outputs.iter().enumerate() {
        let others = outputs.iter().skip(index.saturating_add(1));
        let mut others = others.chain(&inputs);
        if let Some(other) = others.find(|other| is_same(Path::new(output.1), Path::new(other.1))) {
            return Err(clash(&output.0, &other.0, output.1));
        }
    }
    Ok(())
}

fn named<'a>(args: &'a Args, flags: &[&'static str]) -> Vec<Named<'a>> {
    let declared = flags.iter().filter(|flag| args.declares(flag));
    let paths = declared.flat_map(|flag| {
        let parts = args.text(flag).split(',').map(str::trim);
        let parts = parts.filter(|path| !path.is_empty());
        parts.map(move |path| (format!("--{flag}"), path))
    });
    paths.collect()
}
