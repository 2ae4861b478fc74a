//! What is read as deterministic CBOR is the one encoding of its value.

use ciborium::Value;
use worldcompute_proof::{canonical_cbor, from_canonical_cbor};

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(value) = from_canonical_cbor::<Value>(bytes) {
        assert_eq!(
            canonical_cbor(&value).expect("what is read can be written"),
            bytes
        );
    }
}
