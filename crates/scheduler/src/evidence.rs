//! What is left of a finished job: a folder that anyone can verify with no network and no trust in who kept it.
//!
//! ```text
//! evidence/<job>/
//!   manifest.cbor         what the submitter asked for, signed
//!   receipts/00003.json   what the executor of task 3 did, signed by both
//!   decisions/<cid>.json  why both gates allowed it, signed by either
//!   objects/<cid>         module, inputs, results
//!   index.json            every other file by its digest, signed by the submitter
//! ```
//!
//! [`verify`] follows every reference: index to files, receipt to manifest, receipt to the run request that follows
//! from the manifest, receipt to both decisions, decision to the intent that follows from the request, names to
//! content. A file that is changed, missing, added, renamed or swapped for another shows, and the fault names it.

mod bundle;
mod folder;
mod gate;
mod index;
mod part;
mod refusal;
mod report;
mod request;
mod rerun;
mod single;
mod write;

use std::path::Path;

use worldcompute_fault::Result;
use worldcompute_proof::{PeerId, VerifyingKey};

pub use index::{MAX_FILES, PREDICATE_TYPE};
pub use report::{CheckedPart, Report, RunAgain};
pub use request::{Asked, told_profile};
pub use rerun::Rerun;
pub use write::{Contents, write};

/// Most bytes of one object.
pub const MAX_OBJECT_BYTES: u64 = 4 << 30;
/// Most bytes of all objects together.
pub const MAX_TOTAL_BYTES: u64 = 256 << 30;

/// Whose keys are expected. Signatures show which keys spoke; only the verifier knows whose they should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// The submitter; anyone, where none is named.
    pub submitter: Option<PeerId>,
    /// The executors; anyone, where none are named.
    pub executors: Vec<PeerId>,
    /// The keys of gates by themselves, whose packs, decisions and sessions are verified.
    pub gates: Vec<VerifyingKey>,
    /// Whether a pack that nobody signed is refused although no key is expected.
    pub signature: bool,
}

/// Verifies the evidence at `path`: a job's folder, one file of it as far as that file goes, or a file that a gate made
/// by itself (see [`gait::verifier`]).
///
/// A file inside of a job's folder is verified with the files it refers to. Links are refused, objects are read in
/// constant memory, and nothing outside of the folder is opened. A session chain is verified with the runpacks it names.
///
/// # Errors
/// `evidence_missing`, `evidence_unexpected`, `evidence_changed` and `evidence_invalid` (category
/// `verification_failed`) begin with the name of the part at fault, such as `receipts/00003.json`;
/// `evidence_unproven` when no key is known that could verify the file; `evidence_too_large`; those of reading.
pub fn verify(path: &Path, pins: &Pins) -> Result<Report> {
    if path.is_dir() {
        bundle::verify(path, pins)
    } else {
        single::verify(path, pins)
    }
}
