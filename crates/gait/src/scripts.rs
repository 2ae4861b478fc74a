//! Approved scripts: a registry of signed entries, each of which stands for the approvals of one script under one policy.
//!
//! An entry stands for approvals and for nothing else: it never lifts a block, and the kill switch, freeze windows and
//! limits hold for approved scripts as for all others.

mod entry;
mod registry;

pub use entry::{Entry, Mint};
pub use registry::Registry;

/// The `schema_id` of an entry.
pub const SCHEMA_ID: &str = "gait.gate.approved_script_entry";
/// The only `schema_version`.
pub const SCHEMA_VERSION: &str = "1.0.0";

#[cfg(test)]
mod tests;
