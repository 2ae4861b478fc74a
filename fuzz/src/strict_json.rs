//! What is read as strict JSON has a canonical form, which is a fixed point and which others write too.

use worldcompute_proof::{canonical_json, canonicalize_json, parse_json_strict};

/// Reads and judges; a panic is a finding.
pub fn fuzz(text: &[u8]) {
    let Ok(value) = parse_json_strict(text) else {
        return;
    };
    assert!(
        serde_json::from_slice::<serde_json::Value>(text).is_ok(),
        "more lenient than serde_json"
    );
    let canonical = canonical_json(&value).expect("what is read can be written");
    let reference = serde_json_canonicalizer::to_vec(&value).expect("what is read can be written");
    assert_eq!(canonical, reference);
    assert_eq!(
        canonicalize_json(text).expect("what is read can be written"),
        canonical
    );
    assert_eq!(
        canonicalize_json(&canonical).expect("canonical text is read"),
        canonical
    );
}
