//! The sandbox against guests, most of them hostile.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod components;
mod confinement;
mod determinism;
mod figures;
mod freezing;
mod generated;
mod lab;
mod limits;
mod ordinary;
mod programs;
mod refusals;
mod scheduling;
mod smith;
