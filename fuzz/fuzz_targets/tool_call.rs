//! See `src/tool_call.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| worldcompute_fuzz::tool_call::fuzz(bytes));
