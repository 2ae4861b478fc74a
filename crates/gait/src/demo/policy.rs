//! A policy that blocks, and an intent for it to block.

use std::path::Path;

use jiff::Timestamp;
use serde_json::json;
use worldcompute_durable::{Mode, output_dir, write_atomic};
use worldcompute_fault::{Category, Fault, Result};

use crate::VERSION;
use crate::evaluate::Evaluation;
use crate::evidence::Evidence;
use crate::intent::Intent;
use crate::policy::Policy;
use crate::record::json_file;
use crate::verdict::Verdict;

/// The file of the policy.
pub const POLICY_FILE: &str = "policy_demo_high_risk.yaml";
/// The file of the intent.
pub const INTENT_FILE: &str = "intent_demo_delete.json";

const POLICY: &str = "schema_id: gait.gate.policy
schema_version: 1.0.0
default_verdict: allow
rules:
  - name: block-destructive-tool-delete
    priority: 10
    effect: block
    match:
      tool_names: [tool.delete]
      risk_classes: [high]
    reason_codes: [destructive_tool_blocked]
";
/// When the intent was made: 2026-02-14T00:00:00Z.
const MADE: Timestamp = Timestamp::constant(1_771_027_200, 0);

/// Writes policy and intent into `dir` and evaluates the one under the other.
///
/// # Errors
/// Those of writing; `verification_failed` should the policy not block.
pub fn policy(dir: &Path) -> Result<Evaluation> {
    output_dir(dir)?;
    write_atomic(&dir.join(POLICY_FILE), POLICY.as_bytes(), Mode::Private)?;
    let intent = json_file(&json!({
        "schema_id": "gait.gate.intent_request",
        "schema_version": "1.0.0",
        "created_at": MADE,
        "producer_version": VERSION,
        "tool_name": "tool.delete",
        "args": {"path": "/tmp/demo/delete-me.txt"},
        "targets": [{
            "kind": "path",
            "value": "/tmp/demo/delete-me.txt",
            "operation": "delete",
            "endpoint_class": "fs.delete",
            "destructive": true,
        }],
        "context": {"identity": "demo.user", "workspace": "/tmp/demo", "risk_class": "high"},
    }))?;
    write_atomic(&dir.join(INTENT_FILE), &intent, Mode::Private)?;
    let intent = Intent::parse(&intent)?;
    let evaluation =
        Policy::parse(POLICY.as_bytes())?.evaluate(&intent.prepare(&Evidence::at(MADE))?);
    match evaluation.verdict {
        Verdict::Block => Ok(evaluation),
        verdict => Err(Fault::new(
            Category::VerificationFailed,
            "verification_failed",
            format!("expected block verdict, got {verdict}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_policy_blocks_for_its_own_reason() {
        let dir = tempfile::tempdir().unwrap();
        let evaluation = policy(dir.path()).unwrap();
        assert!(
            evaluation
                .reason_codes
                .contains(&"destructive_tool_blocked".to_owned())
        );
        assert_eq!(evaluation.matched_rules, ["block-destructive-tool-delete"]);
    }
}
