//! See `src/mcp_request.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| worldcompute_fuzz::mcp_request::fuzz(bytes));
