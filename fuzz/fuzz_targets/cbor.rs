//! What is read as deterministic CBOR is the one encoding of its value.
#![no_main]

use ciborium::Value;
use libfuzzer_sys::fuzz_target;
use worldcompute_proof::{canonical_cbor, from_canonical_cbor};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = from_canonical_cbor::<Value>(bytes) {
        assert_eq!(canonical_cbor(&value).expect("what is read can be written"), bytes);
    }
});
