//! Crashes, races, full disks and damaged bytes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod crash;
mod disk_full;
mod files;
mod journal;
mod lines;
mod lock;
mod lock_file;
mod steps;
