//! See `src/mcp.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| worldcompute_fuzz::mcp::fuzz(bytes));
