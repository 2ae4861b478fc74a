//! What is read as an intent has a normal form, which is a fixed point and keeps the digest.

use gait::Intent;

/// Reads and judges; a panic is a finding.
pub fn fuzz(text: &[u8]) {
    let intent = match Intent::parse(text) {
        Ok(intent) => intent,
        Err(fault) => {
            assert_eq!(fault.gait_exit_code(), 6, "{fault}");
            return;
        }
    };
    let canonical = intent
        .canonical_bytes()
        .expect("what is read can be written");
    let again = Intent::parse(&canonical).expect("the normal form is read");
    assert_eq!(again.digest(), intent.digest());
}
