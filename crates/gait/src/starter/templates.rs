//! The policies that `policy init` hands out.

use crate::text;

/// A policy to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its name.
    pub name: &'static str,
    /// What else it is called.
    aliases: &'static [&'static str],
    /// The policy, as YAML with comments.
    pub yaml: &'static str,
}

macro_rules! template {
    ($name:literal, $($alias:literal),+) => {
        Template {
            name: $name,
            aliases: &[$($alias),+],
            yaml: include_str!(concat!("templates/", $name, ".yaml")),
        }
    };
}

/// Every template: three by risk, from the mildest to the strictest, and six by how far an agent is trusted, from its
/// first day on.
pub const TEMPLATES: [Template; 9] = [
    template!("baseline-lowrisk", "baseline_low_risk", "low"),
    template!("baseline-mediumrisk", "baseline_medium_risk", "medium"),
    template!("baseline-highrisk", "baseline_high_risk", "high"),
    template!("trust-observe", "trust_observe", "observe"),
    template!("trust-dry-run", "trust_dry_run", "dry_run"),
    template!("trust-readonly", "trust_readonly", "read_only_allow"),
    template!(
        "trust-approval-write",
        "trust_approval_write",
        "approval_gated_write"
    ),
    template!(
        "trust-brokered-write",
        "trust_brokered_write",
        "brokered_write"
    ),
    template!(
        "trust-block-destructive",
        "trust_block_destructive",
        "blocked_destructive"
    ),
];

impl Template {
    /// The template of that name or alias.
    pub fn named(name: &str) -> Option<&'static Self> {
        let name = text::trim_lower(name);
        TEMPLATES
            .iter()
            .find(|template| template.name == name || template.aliases.contains(&name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Ask;
    use crate::intent::Intent;
    use crate::policy::Policy;
    use crate::verdict::Verdict;
    use serde_json::json;

    fn asked(operation: &str) -> Intent {
        let intent = json!({
            "tool_name": "tool.x",
            "targets": [{"kind": "path", "value": "/w/x", "operation": operation}],
            "context": {"identity": "a", "workspace": "/w", "risk_class": "low"}
        });
        Intent::parse(intent.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn every_template_is_a_policy_and_has_its_names() {
        for template in TEMPLATES {
            Policy::parse(template.yaml.as_bytes()).unwrap();
            for name in template.aliases.iter().chain([&template.name]) {
                assert_eq!(Template::named(&name.to_uppercase()), Some(&template));
            }
        }
        assert_eq!(Template::named("none"), None);
    }

    /// What the template says to each of some operations on a file.
    fn verdicts<const N: usize>(name: &str, operations: [&str; N]) -> [Verdict; N] {
        let template = Template::named(name).unwrap();
        let policy = Policy::parse(template.yaml.as_bytes()).unwrap();
        operations.map(|operation| policy.ask(&asked(operation)).verdict)
    }

    #[test]
    fn the_templates_by_risk_grow_stricter() {
        use Verdict::{Allow, Block, RequireApproval};
        for (name, expected) in [
            ("low", [Allow, Allow, RequireApproval]),
            ("medium", [Allow, RequireApproval, Block]),
            ("high", [Allow, RequireApproval, Block]),
        ] {
            assert_eq!(
                verdicts(name, ["read", "write", "delete"]),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn each_stage_of_trust_lets_changes_come_one_step_nearer() {
        use Verdict::{Allow, Block, DryRun, RequireApproval};
        for (name, expected) in [
            ("observe", [Allow, Allow, Block, Block]),
            ("dry_run", [Allow, DryRun, Block, Block]),
            ("read_only_allow", [Allow, Block, Block, Block]),
            (
                "approval_gated_write",
                [Allow, RequireApproval, Block, Block],
            ),
            ("brokered_write", [Allow, Block, Block, Block]),
            ("blocked_destructive", [Allow, Allow, Block, Block]),
        ] {
            let said = verdicts(name, ["read", "write", "delete", "exec"]);
            assert_eq!(said, expected, "{name}");
        }
    }

    #[test]
    fn one_harmless_target_carries_no_other_through() {
        let intent = json!({
            "tool_name": "tool.x",
            "targets": [
                {"kind": "path", "value": "/w/x", "operation": "read"},
                {"kind": "path", "value": "/w/y", "operation": "write"},
            ],
            "context": {"identity": "a", "workspace": "/w", "risk_class": "low"}
        });
        let intent = Intent::parse(intent.to_string().as_bytes()).unwrap();
        for name in [
            "trust-dry-run",
            "trust-readonly",
            "trust-approval-write",
            "trust-brokered-write",
        ] {
            let policy = Policy::parse(Template::named(name).unwrap().yaml.as_bytes()).unwrap();
            assert_ne!(policy.ask(&intent).verdict, Verdict::Allow, "{name}");
        }
    }
}
