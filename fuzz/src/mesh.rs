//! Whatever a peer says, a relay passes on or a visitor of the web port asks is refused, or read as it is written again.

use worldcompute_mesh::strangers::misread;

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    assert_eq!(misread(bytes), None);
}
