//! Records of decisions: nothing of a stranger passes for signed; what is signed passes if it agrees with itself, in
//! every spelling, and no more once one field is another.

use crate::files::file;
use gait::policy::simulate;
use gait::trace::{claims, unverified_trace, verify};
use serde_json::{Map, Value, json};
use worldcompute_proof::{Sha256, SigningKey, canonical_json, parse_json_strict};

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let key = SigningKey::from_seed([7; 32]);
    assert!(verify(bytes, &key.verifying_key()).is_err());
    let _ = claims(bytes);
    let _ = simulate::read(&file("fixture.json", bytes), None);
    let Ok(Value::Object(record)) = parse_json_strict(bytes) else {
        assert!(unverified_trace(bytes).is_err());
        return;
    };
    signed(record, &key);
}

fn signed(mut record: Map<String, Value>, key: &SigningKey) {
    record.remove("signature");
    let Ok(signable) = canonical_json(&record) else {
        return;
    };
    let digest = Sha256::of(&signable);
    let signature = json!({
        "alg": "ed25519", "key_id": key.verifying_key().key_id(),
        "sig": key.sign(digest.as_bytes()), "signed_digest": digest,
    });
    record.insert("signature".to_owned(), signature);
    let bytes = serde_json::to_vec_pretty(&record).expect("what is read can be written");
    let told = unverified_trace(&bytes);
    let Ok(trace) = verify(&bytes, &key.verifying_key()) else {
        assert!(told.is_err());
        return;
    };
    let told = told.expect("what verifies agrees with itself");
    assert_eq!(
        (told.trace_id.as_str(), told.verdict),
        (trace.trace_id(), trace.verdict())
    );
    assert!(told.is_signed && told.intent_digest == trace.intent_digest());
    let other = format!("{}x", trace.tool_name());
    record.insert("tool_name".to_owned(), other.into());
    let changed = serde_json::to_vec(&record).expect("what is read can be written");
    assert!(verify(&changed, &key.verifying_key()).is_err());
}
