//! See `src/layers.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| worldcompute_fuzz::layers::fuzz(bytes));
