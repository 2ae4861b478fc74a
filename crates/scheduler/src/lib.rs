//! Places work on other people's machines and keeps it there until it is done.
//!
//! - [`manifest`]: what a submitter asks for, as a document a human writes and as signed bytes a donor trusts.
//! - [`broker`]: the state machine that leases tasks to donors; it owns no clock, no socket and no disk.
//! - [`records`]: the jobs in the encrypted store, so that a restarted broker goes on where it stopped.
//! - [`donor_log`]: what a donor remembers of the leases it served.
//! - [`evidence`]: what is left of a finished job: files that anyone can verify offline.

mod base64_bytes;
pub mod broker;
pub mod donor_log;
pub mod evidence;
mod ids;
pub mod manifest;
mod model;
pub mod records;

pub use ids::{JobId, LeaseId, TaskId};
pub use model::{JobRecord, JobState, LeaseRecord, LeaseState, Tally, TaskRecord, TaskState};
