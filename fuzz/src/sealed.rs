//! Sealed files: what is sealed is opened as it was, and what a stranger wrote is never opened.

use std::collections::BTreeMap;

use crate::files::{NOW, file, path};
use gait::guard::seal::{SealingKey, seal, unseal};

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let variables = BTreeMap::from([(
        "KEY".to_owned(),
        "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=".to_owned(),
    )]);
    let key = SealingKey::from_variable("KEY", &variables).expect("a key");
    let (input, sealed, opened) = (file("plain", bytes), path("sealed"), path("opened"));
    assert!(unseal(&input, Some(&opened), &key).is_err());
    assert!(!opened.exists());
    seal(&input, Some(&sealed), &key, "1.4.0", NOW).expect("room for a file");
    let done = unseal(&sealed, Some(&opened), &key).expect("what was sealed is opened");
    assert_eq!(done.plain_size, bytes.len());
    assert_eq!(std::fs::read(&opened).expect("it is there"), bytes);
    std::fs::remove_file(opened).expect("it is there");
}
