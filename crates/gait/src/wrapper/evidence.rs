//! What the program said about its evidence.

use std::collections::BTreeSet;

use serde::Serialize;
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Fault, Result};

use super::{Report, Wrapped, resolved};
use crate::limits::MAX_TRACE_BYTES;
use crate::trace;
use crate::verdict::Verdict;

/// The most references of a kind.
pub const MAX_REFERENCES: usize = 10_000;
/// The longest line that may hold a reference, in bytes.
pub(super) const MAX_LINE: usize = 8192;

/// How often a verdict was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VerdictCount {
    /// The verdict.
    pub verdict: Verdict,
    /// How often.
    pub count: usize,
}

/// The paths that were named.
#[derive(Clone, Debug, Default)]
pub(super) struct References {
    pub(super) traces: BTreeSet<String>,
    pub(super) runpacks: BTreeSet<String>,
    /// Whether there were more than can be kept.
    pub(super) overflowed: bool,
}

impl References {
    /// Takes the reference in `line`, if it is one.
    pub(super) fn take(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        let (set, path) = match (
            line.strip_prefix("trace_path="),
            line.strip_prefix("runpack_path="),
        ) {
            (Some(path), _) => (&mut self.traces, path.trim()),
            (_, Some(path)) => (&mut self.runpacks, path.trim()),
            _ => return,
        };
        if path.is_empty() {
            return;
        }
        match set.len() < MAX_REFERENCES || set.contains(path) {
            true => drop(set.insert(path.to_owned())),
            false => self.overflowed = true,
        }
    }

    pub(super) fn merge(mut self, other: Self) -> Self {
        self.overflowed |= other.overflowed;
        self.traces.extend(other.traces);
        self.runpacks.extend(other.runpacks);
        self
    }
}

/// Reads every trace and counts the verdicts. What is no trace is counted and named.
pub(super) fn examine(wrapped: &Wrapped<'_>, references: &References, report: &mut Report) {
    let mut counts = [
        Verdict::Allow,
        Verdict::Block,
        Verdict::DryRun,
        Verdict::RequireApproval,
    ]
    .map(|verdict| VerdictCount { verdict, count: 0 });
    for path in &references.traces {
        match verdict(wrapped, path) {
            Ok(verdict) => counts
                .iter_mut()
                .filter(|count| count.verdict == verdict)
                .for_each(|count| count.count += 1),
            Err(fault) => {
                report.invalid_traces += 1;
                report
                    .warnings
                    .push(format!("trace ignored: {path}: {fault}"));
            }
        }
    }
    report.verdicts = counts.into_iter().filter(|count| count.count > 0).collect();
}

fn verdict(wrapped: &Wrapped<'_>, path: &str) -> Result<Verdict> {
    let bytes = read_bounded(&resolved(wrapped.cwd, path), MAX_TRACE_BYTES as u64)?;
    let (verdict, simulated) = match &wrapped.key {
        Some(key) => {
            let trace = trace::verify(&bytes, key)?;
            (trace.verdict(), trace.simulated())
        }
        None => {
            let trace = trace::unverified_trace(&bytes)?;
            (trace.verdict, trace.simulated)
        }
    };
    match simulated {
        None => Ok(verdict),
        Some(simulated) => Err(only_simulated(simulated)),
    }
}

fn only_simulated(verdict: Verdict) -> Fault {
    let message = format!("a simulation of {verdict} decides nothing");
    Fault::new(Category::PolicyBlocked, "simulated_only", message)
        .hint("ask the gate without --simulate")
}
