//! Short texts: spans, instants, addresses, ids. What is read is spelled in one way, and read again as the same.

use gait::job::JobId;
use gait::{Verdict, WireTime, duration, listen};
use worldcompute_proof::Sha256;

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some(span) = duration::parse(text) {
        let written = duration::format(span);
        assert_eq!(duration::parse(&written), Some(span), "{written}");
    }
    if let Some(time) = WireTime::parse(text) {
        let written = time.to_string();
        assert_eq!(WireTime::parse(&written), Some(time), "{written}");
    }
    if let Ok(address) = listen::parse(text) {
        assert_eq!(listen::parse(&address.to_string()).ok(), Some(address));
    }
    if let Ok(id) = text.parse::<JobId>() {
        assert!(!id.as_str().contains(['/', '\\']) && !id.as_str().starts_with('.'));
    }
    if let Ok(digest) = text.parse::<Sha256>() {
        assert_eq!(
            digest.to_string().to_ascii_lowercase(),
            text.to_ascii_lowercase()
        );
    }
    if let Some(verdict) = Verdict::parse(text) {
        assert_eq!(verdict.to_string(), text);
    }
}
