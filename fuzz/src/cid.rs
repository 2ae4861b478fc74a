//! Identifiers that are read are spelled back as they were.

use worldcompute_proof::{Cid, PeerId};

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(cid) = Cid::from_bytes(bytes) {
        assert_eq!(cid.to_bytes(), bytes);
    }
    if let Ok(peer) = PeerId::from_bytes(bytes) {
        assert_eq!(peer.to_bytes(), bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(cid) = text.parse::<Cid>() {
        assert_eq!(cid.to_string(), text);
    }
    if let Ok(peer) = text.parse::<PeerId>() {
        assert_eq!(peer.to_string(), text);
    }
}
