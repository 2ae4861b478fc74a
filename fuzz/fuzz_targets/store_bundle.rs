//! See `src/store_bundle.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| worldcompute_fuzz::store_bundle::fuzz(bytes));
