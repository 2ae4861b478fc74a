//! Tokens of approval and delegation: nothing that a stranger writes passes for signed.

use std::sync::LazyLock;

use gait::{Intent, approval, delegation};
use worldcompute_proof::{Sha256, SigningKey, VerifyingKey};

static KEY: LazyLock<VerifyingKey> =
    LazyLock::new(|| SigningKey::from_seed([7; 32]).verifying_key());

static INTENT: LazyLock<Intent> = LazyLock::new(|| {
    let intent = br#"{"tool_name": "t", "context": {"identity": "a", "workspace": "/", "risk_class": "low"}}"#;
    Intent::parse(intent).expect("an intent")
});

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let now = "2026-02-05T00:00:00Z".parse().expect("an instant");
    if let Ok(token) = approval::Token::parse(bytes) {
        assert!(token.scope().is_sorted());
        let expected =
            approval::Expected::of(&INTENT, Sha256::of(""), now).expect("an intent without flaws");
        assert!(token.check(&KEY, &expected).is_err());
    }
    if let Ok(token) = delegation::Token::parse(bytes) {
        assert!(token.scope().is_sorted());
        let expected = delegation::Expected {
            delegator: "",
            delegate: "",
            scope: &[],
            intent_digest: None,
            policy_digest: None,
            now,
        };
        assert!(token.check(&KEY, &expected).is_err());
    }
}
