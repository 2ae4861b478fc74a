//! Manifests of a registry: what is read has one spelling, which is the same manifest, and no name that leads anywhere.

use std::sync::LazyLock;

use gait::registry::Manifest;
use worldcompute_proof::{SigningKey, VerifyingKey};

static KEY: LazyLock<VerifyingKey> =
    LazyLock::new(|| SigningKey::from_seed([7; 32]).verifying_key());

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    for name in [manifest.name(), manifest.version()] {
        assert!(
            !name.is_empty() && !name.contains(['/', '\\', '\0']) && name != "." && name != ".."
        );
    }
    assert!(manifest.verify(&KEY).is_err());
    let Ok(kept) = manifest.to_bytes() else {
        return;
    };
    let again = Manifest::parse(&kept).expect("what is kept is read");
    assert_eq!(again.to_bytes().expect("what is read can be kept"), kept);
    assert_eq!(again.digest().ok(), manifest.digest().ok());
}
