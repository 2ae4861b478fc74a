//! The policies of a home, and the gates that decide by them.

use std::path::Path;

use gait::{Gate, Policy, SystemClock};
use worldcompute_durable as durable;
use worldcompute_fault::{Fault, Result};

use crate::home::OpenHome;

/// The largest policy file that is read, in bytes.
const MAX_POLICY_BYTES: u64 = 1 << 20;

/// A policy that does not parse keeps the daemon down, and the operator is told which file to mend.
pub fn policy(path: &Path) -> Result<Policy> {
    Policy::parse(&durable::read_private(path, MAX_POLICY_BYTES)?).map_err(|fault| {
        let message = format!("{}: {}", path.display(), fault.message());
        Fault::new(fault.category(), "policy_invalid", message)
            .hint("mend this policy, or move it away to start with the starter policy")
    })
}

/// A gate that decides by the policy at `path` and signs as this node.
pub fn gate(home: &OpenHome, path: &Path) -> Result<Gate> {
    let key = home.key().clone();
    Ok(Gate::new(policy(path)?, key, SystemClock::shared()))
}
