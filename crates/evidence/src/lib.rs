//! The evidence of a run: what was tried, where, with which build, and what came of it.
//!
//! A bundle is one folder, `evidence/phase<N>/<area>/<YYYYMMDDTHHMMSSZ>/`:
//!
//! | file | what it is |
//! |---|---|
//! | `run.log` | what happened, for people |
//! | `metadata.json` | [`Metadata`]: which run, of which commit, when, on which machines |
//! | `results.json` | [`Results`]: every assertion with what was expected and what was observed |
//! | `trace.jsonl` | one JSON value a line, where there is a trace |
//! | `screenshots/*.png` | where there are pictures |
//! | `index.md` | where to start reading |
//!
//! [`Bundle::write`] makes one, whole or not at all; [`validate`] is the one judge of them, also of those that were
//! written by other programs. (The evidence of a *job*, with receipts and signatures, is another thing: it is in the
//! scheduler.)

mod area;
mod commit;
mod model;
mod validate;
mod write;

pub use area::Area;
pub use commit::{Commit, Commits};
pub use model::{Assertion, Machine, Metadata, Overall, Results, run_id};
pub use validate::{MAX_BUNDLE_BYTES, MAX_SCREENSHOTS, Valid, WARN_BUNDLE_BYTES, validate};
pub use write::Bundle;
