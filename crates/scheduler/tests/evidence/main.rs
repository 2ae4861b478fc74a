//! A job's evidence verifies offline, whole or file by file, and whatever is done to it shows and is named.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "test helpers may fail loudly"
)]

mod changes;
mod insiders;
mod job;
mod single;
mod whole;
mod writing;
