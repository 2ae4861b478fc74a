//! See `src/erasure.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| worldcompute_fuzz::erasure::fuzz(bytes));
