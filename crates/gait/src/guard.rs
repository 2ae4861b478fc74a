//! Guard packs: the evidence of one run for an auditor, sorted by the controls it speaks to, always signed.
//!
//! A guard pack holds summaries and digests, never the run itself: what was decided, who approved, which credentials
//! were used, and which references the run drew on. [`build`] makes one, [`build_incident`] one of everything that was
//! decided around a run; [`retain`] deletes what is past its time, [`seal`] encrypts what is kept.

mod build;
mod evidence;
mod incident;
mod manifest;
mod pdf;
pub mod retain;
pub mod seal;
mod template;
mod verify;

pub use build::{Built, Request, build};
pub use incident::{IncidentBuilt, build_incident};
pub use manifest::{Control, Evidence, Manifest, Rendered, Window};
pub use template::Template;
pub(crate) use verify::check;
pub use verify::verify;
