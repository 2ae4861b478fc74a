//! See `src/run.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| worldcompute_fuzz::run::fuzz(bytes));
