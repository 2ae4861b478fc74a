//! See `src/strict_json.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| worldcompute_fuzz::strict_json::fuzz(bytes));
