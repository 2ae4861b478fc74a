//! What a project or an operator sets: the project's settings, lists of revoked identities, public keys, and the files
//! that say which tools a project has. None of those can add anything to the policy that is made with them.

use std::fs;

use crate::files::{file, path};
use gait::job::Revocations;
use gait::project_config::ProjectConfig;
use gait::surface::Detection;
use gait::{Policy, starter};
use worldcompute_proof::VerifyingKey;

/// Reads and judges; a panic is a finding.
pub fn fuzz(bytes: &[u8]) {
    let settings = ProjectConfig::load(&file("config.yaml", bytes));
    assert!(settings.is_err() || settings.is_ok_and(|settings| settings.is_some()));
    let _ = Revocations::load(&file("revoked", bytes));
    let _ = VerifyingKey::load(&file("key.pub", bytes));
    fs::create_dir_all(path("project")).expect("room for a folder");
    file("project/.mcp.json", bytes);
    file("project/package.json", bytes);
    let policy = starter::donor_policy(&["scientific"]);
    let annotated = Detection::of(&path("project")).annotate(&policy);
    let annotated = Policy::parse(annotated.as_bytes()).expect("comments change no policy");
    let plain = Policy::parse(policy.as_bytes()).expect("a starter policy is a policy");
    assert_eq!(annotated.digest(), plain.digest());
}
