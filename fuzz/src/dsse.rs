//! An envelope that is read is spelled back as it was.

use worldcompute_proof::dsse::Envelope;

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(envelope) = Envelope::from_bytes(bytes) {
        assert_eq!(
            envelope.to_bytes().expect("what is read can be written"),
            bytes
        );
    }
}
