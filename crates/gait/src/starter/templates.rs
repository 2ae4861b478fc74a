//! The policies that `policy init` hands out.

use crate::text;

/// A policy to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its name.
    pub name: &'static str,
    /// What else it is called.
    aliases: [&'static str; 2],
    /// The policy, as YAML with comments.
    pub yaml: &'static str,
}

/// Every template, from the mildest to the strictest.
pub const TEMPLATES: [Template; 3] = [
    Template {
        name: "baseline-lowrisk",
        aliases: ["baseline_low_risk", "low"],
        yaml: include_str!("templates/baseline-lowrisk.yaml"),
    },
    Template {
        name: "baseline-mediumrisk",
        aliases: ["baseline_medium_risk", "medium"],
        yaml: include_str!("templates/baseline-mediumrisk.yaml"),
    },
    Template {
        name: "baseline-highrisk",
        aliases: ["baseline_high_risk", "high"],
        yaml: include_str!("templates/baseline-highrisk.yaml"),
    },
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
            for name in template.aliases.into_iter().chain([template.name]) {
                assert_eq!(Template::named(&name.to_uppercase()), Some(&template));
            }
        }
        assert_eq!(Template::named("none"), None);
    }

    #[test]
    fn the_templates_grow_stricter() {
        let expected = [
            ("read", [Verdict::Allow; 3]),
            (
                "write",
                [
                    Verdict::Allow,
                    Verdict::RequireApproval,
                    Verdict::RequireApproval,
                ],
            ),
            (
                "delete",
                [Verdict::RequireApproval, Verdict::Block, Verdict::Block],
            ),
        ];
        for (operation, verdicts) in expected {
            let said = TEMPLATES.map(|template| {
                let policy = Policy::parse(template.yaml.as_bytes()).unwrap();
                policy.ask(&asked(operation)).verdict
            });
            assert_eq!(said, verdicts, "{operation}");
        }
    }
}
