//! What the program said about its evidence.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use worldcompute_durable::read_bounded;
use worldcompute_fault::{Category, Fault, Result};

use super::{Mode, Report, Wrapped, resolved};
use crate::limits::MAX_TRACE_BYTES;
use crate::signature::unverified;
use crate::trace;
use crate::verdict::Verdict;
use crate::wire_time::WireTime;

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

/// Reads every trace and counts the verdicts. What is no trace of the run since `started` is counted and named.
pub(super) fn examine(
    wrapped: &Wrapped<'_>,
    started: Timestamp,
    references: &References,
    report: &mut Report,
) {
    let mut counts = [
        Verdict::Allow,
        Verdict::Block,
        Verdict::DryRun,
        Verdict::RequireApproval,
    ]
    .map(|verdict| VerdictCount { verdict, count: 0 });
    for path in &references.traces {
        match verdict(wrapped, started, path) {
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
    if wrapped.key.is_none() && !report.verdicts.is_empty() {
        let who = "nobody verified who signed the traces: give the gate's key with --public-key";
        report.warnings.push(who.to_owned());
    }
}

fn verdict(wrapped: &Wrapped<'_>, started: Timestamp, path: &str) -> Result<Verdict> {
    let bytes = read_bounded(&resolved(wrapped.cwd, path), MAX_TRACE_BYTES as u64)?;
    if let Some(key) = &wrapped.key {
        trace::verify(&bytes, key)?;
    }
    let trace = trace::unverified_trace(&bytes)?;
    if !trace.is_signed {
        return Err(unverified(trace::UNSIGNED));
    }
    let during = started..=wrapped.clock.now();
    if wrapped.mode == Mode::Enforce
        && !trace
            .observed_at
            .get()
            .is_some_and(|at| during.contains(&at))
    {
        return Err(of_another_run(trace.observed_at));
    }
    match trace.simulated {
        None => Ok(trace.verdict),
        Some(simulated) => Err(only_simulated(simulated)),
    }
}

fn of_another_run(observed_at: WireTime) -> Fault {
    let message = format!("it was decided at {observed_at}, which is not during this run");
    Fault::new(Category::PolicyBlocked, "trace_of_another_run", message)
        .hint("ask the gate in each run, on a machine with the same clock")
}

fn only_simulated(verdict: Verdict) -> Fault {
    let message = format!("a simulation of {verdict} decides nothing");
    Fault::new(Category::PolicyBlocked, "simulated_only", message)
        .hint("ask the gate without --simulate")
}
