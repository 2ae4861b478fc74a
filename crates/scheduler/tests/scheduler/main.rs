//! The scheduler's public API against the real store and real receipts.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod donor_log;
mod execution;
#[cfg(unix)]
mod kill;
mod records;
mod support;
