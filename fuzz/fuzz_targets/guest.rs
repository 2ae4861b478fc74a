//! See `src/guest.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| worldcompute_fuzz::guest::fuzz(bytes));
