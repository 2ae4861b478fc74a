//! The conformance vectors of RFC 8785 that another implementation (gowebpki/jcs 1.0.1) made.

#![expect(clippy::unwrap_used, reason = "test helpers may fail loudly")]

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use worldcompute_proof::{Sha256, canonicalize_json};

/// Where that implementation is lenient and this one refuses. RFC 8785 canonicalises JSON (RFC 8259),
/// and none of these is JSON: a reader that takes them and one that does not disagree on what was signed.
const LENIENT: [(&[u8], &str); 5] = [
    (b"[01]", "RFC 8259, 6: no leading zero"),
    (b"[1.]", "RFC 8259, 6: a fraction has digits"),
    (b"[.5]", "RFC 8259, 6: a number starts with an integer"),
    (
        b"[\"\xed\xa0\x80\"]",
        "RFC 3629, 3: an encoded surrogate is not UTF-8",
    ),
    (b"[\"\xff\"]", "RFC 3629: not UTF-8"),
];

#[test]
fn all_vectors_hold_except_those_that_are_not_json() {
    let Some(folder) = vectors() else { return };
    let lines = fs::read_to_string(folder.join("vectors.jsonl")).unwrap();
    let (mut agreed, mut stricter) = (0, 0);
    for line in lines.lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        let input = bytes(&vector["input_b64"]);
        if let Some((_, reason)) = LENIENT.iter().find(|(text, _)| *text == input) {
            assert!(canonicalize_json(&input).is_err(), "{reason}: {line}");
            stricter += 1;
        } else {
            check(&input, &vector);
            agreed += 1;
        }
    }
    assert_eq!(
        (agreed, stricter),
        (70, LENIENT.len()),
        "vectors were added: look at them"
    );
}

#[test]
fn the_samples_of_the_rfc_hold() {
    let Some(folder) = vectors() else { return };
    for name in ["rfc_sample1", "rfc_sample2"] {
        let input = fs::read(folder.join(format!("{name}.json"))).unwrap();
        let expected = fs::read(folder.join(format!("{name}_canonical.json"))).unwrap();
        assert_eq!(
            canonicalize_json(&input).unwrap(),
            expected.trim_ascii_end()
        );
    }
}

fn check(input: &[u8], vector: &Value) {
    let canonical = canonicalize_json(input);
    if vector["error"] == true {
        assert!(canonical.is_err(), "{vector}");
        return;
    }
    let canonical = canonical.unwrap();
    assert_eq!(canonical, bytes(&vector["canonical_b64"]), "{vector}");
    assert_eq!(Sha256::of(canonical).to_string(), vector["sha256"]);
}

fn bytes(base64: &Value) -> Vec<u8> {
    STANDARD.decode(base64.as_str().unwrap()).unwrap()
}

fn vectors() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases/gait/jcs");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: the shared conformance vectors are not beside this checkout");
    None
}
