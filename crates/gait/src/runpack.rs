//! Runpacks: what a run intended and what came of it, in one archive that anybody can verify offline.
//!
//! A runpack is written by [`Recorder`] and verified by [`verify`]; [`Runpack::open`] gives access to one whose content
//! is what its manifest says. Both directions stream: memory does not grow with the number of records.

mod diff;
mod index;
mod input;
mod inspect;
mod join;
mod jsonl;
mod line;
mod locate;
mod manifest;
mod plain;
mod read;
mod record;
mod recorder;
mod reduce;
mod refs;
mod replay;
mod split;
mod stamp;
mod verify;
mod window;

pub use diff::{Diff, Drift, Privacy, Summary, diff};
pub use input::RecordInput;
pub use inspect::{Entry, Inspection, Outcome, Unmatched, inspect};
pub use jsonl::{Record, Records};
pub use locate::locate;
pub use manifest::{CaptureMode, Manifest};
pub use read::Runpack;
pub use record::{Env, Intent, Payload, Receipt, ResultRecord, Run, TimelineEvent};
pub(crate) use recorder::check_run_id;
pub use recorder::{Recorded, Recorder};
pub use reduce::{Predicate, ReduceReport, Reduced, reduce};
pub use refs::{Refs, evidence_mode};
pub use replay::{Answer, RealTools, Replayed, Step, replay};
pub use stamp::Stamp;
pub use verify::{HashMismatch, Report, Requirements, SignatureStatus, verify, verify_archive};

/// The entry that lists the others.
pub const MANIFEST: &str = "manifest.json";
/// The run.
pub const RUN: &str = "run.json";
/// What it intended.
pub const INTENTS: &str = "intents.jsonl";
/// What came of it.
pub const RESULTS: &str = "results.jsonl";
/// What it read.
pub const REFS: &str = "refs.json";

/// The line that names a runpack in a ticket.
pub fn ticket_footer(run_id: &str, manifest_digest: &str) -> String {
    format!(
        "GAIT run_id={run_id} manifest=sha256:{manifest_digest} verify=\"gait verify {run_id}\""
    )
}

#[cfg(test)]
mod tests;
