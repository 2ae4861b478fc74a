//! What is verified beside an intent: context envelopes, inventories of tools, snapshots of trust in servers.

use gait::mcp_trust::Snapshot;
use gait::{ContextEnvelope, Inventory};

/// Reads and judges; a panic is a finding.
pub fn fuzz(text: &[u8]) {
    if let Ok(envelope) = ContextEnvelope::parse(text) {
        let at = "2026-02-05T00:00:00Z".parse().expect("an instant");
        let _ = envelope.age_seconds(at);
        assert!(envelope.refs().is_sorted());
    }
    let _ = Inventory::parse(text);
    let _ = Snapshot::parse(text);
}
