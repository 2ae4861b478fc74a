//! What a project's own files say about the agents and tools in it, and what its policy says to those.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use worldcompute_durable::read_bounded;
use worldcompute_fault::Result;
use worldcompute_proof::parse_json_within;

use crate::clock::Clock;
use crate::evidence::Evidence;
use crate::intent::Intent;
use crate::policy::Policy;
use crate::project_config;
use crate::verdict::Verdict;

/// Where `gait init` puts the policy of a project.
pub const POLICY_PATH: &str = ".gait.yaml";
/// The largest file that is looked into, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// The most tools that are named.
const MAX_TOOLS: usize = 256;

/// Files that name what a project depends on.
const MANIFESTS: [&str; 5] = [
    "requirements.txt",
    "pyproject.toml",
    "package.json",
    "go.mod",
    "Cargo.toml",
];
/// Files that name the servers that an agent gets its tools from.
const SERVERS: [&str; 3] = [".mcp.json", "mcp.json", ".cursor/mcp.json"];
/// What a dependency on a framework is called.
const FRAMEWORKS: [(&str, &str); 8] = [
    ("anthropic", "anthropic"),
    ("autogen", "autogen"),
    ("crewai", "crewai"),
    ("langchain", "langchain"),
    ("langgraph", "langgraph"),
    ("llama-index", "llama_index"),
    ("openai-agents", "openai_agents"),
    ("pydantic-ai", "pydantic_ai"),
];

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Detection {
    /// The frameworks, sorted.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub frameworks: BTreeSet<String>,
    /// The tools, sorted.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tool_names: BTreeSet<String>,
}

/// Which file is for what; the same everywhere.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Contract {
    legacy_policy_scaffold_path: &'static str,
    project_defaults_path: &'static str,
    regress_config_path: &'static str,
    repo_policy_path: &'static str,
}

/// Which file is for what.
pub const CONTRACT: Contract = Contract {
    legacy_policy_scaffold_path: "gait.policy.yaml",
    project_defaults_path: project_config::DEFAULT_PATH,
    regress_config_path: "gait.yaml",
    repo_policy_path: POLICY_PATH,
};

impl Detection {
    /// Looks into the files of the project at `root`. What is not there or cannot be read names nothing.
    pub fn of(root: &Path) -> Self {
        let mut found = Self::default();
        for name in MANIFESTS {
            let text = read(&root.join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).to_lowercase();
            let named = FRAMEWORKS
                .iter()
                .filter(|(dependency, _)| text.contains(dependency));
            found
                .frameworks
                .extend(named.map(|(_, framework)| (*framework).to_owned()));
        }
        for name in SERVERS {
            found.servers(&read(&root.join(name)).unwrap_or_default());
        }
        found
    }

    fn servers(&mut self, bytes: &[u8]) {
        let Ok(Value::Object(file)) = parse_json_within(bytes, MAX_BYTES) else {
            return;
        };
        let servers = file.get("mcpServers").and_then(Value::as_object);
        let room = MAX_TOOLS.saturating_sub(self.tool_names.len());
        let names = servers
            .into_iter()
            .flatten()
            .map(|(name, _)| format!("mcp.{}", name.trim().to_lowercase()));
        self.tool_names.extend(names.take(room));
    }

    /// A policy to start from, with what was found in its first lines.
    pub fn annotate(&self, policy: &str) -> String {
        let mut lines = vec![
            "# gait init starter policy".to_owned(),
            format!("# repo_policy_path: {POLICY_PATH}"),
            format!("# project_defaults_path: {}", project_config::DEFAULT_PATH),
            format!("# regress_config_path: {}", CONTRACT.regress_config_path),
        ];
        for (what, names) in [
            ("frameworks", &self.frameworks),
            ("tools", &self.tool_names),
        ] {
            let plain: Vec<String> = names.iter().map(|name| printable(name)).collect();
            if !plain.is_empty() {
                lines.push(format!("# detected_{what}: {}", plain.join(", ")));
            }
        }
        format!(
            "{}\n\n{}",
            lines.join("\n"),
            policy.trim_start_matches('\n')
        )
    }
}

/// A name that cannot end the comment it stands in.
fn printable(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphanumeric() || "._-".contains(*c))
        .collect()
}

/// What a reader of the policy might miss in it.
pub fn gaps(policy: &Policy, detection: &Detection, clock: &dyn Clock) -> Result<Vec<String>> {
    let mut gaps = Vec::new();
    if policy.default_verdict() == Verdict::Allow {
        gaps.push("default_verdict is allow: whatever no rule names passes".to_owned());
    }
    if policy.rule_count() == 0 {
        gaps.push("no rules: every call gets the default verdict".to_owned());
    }
    for tool in &detection.tool_names {
        let intent = json!({
            "tool_name": tool,
            "context": {"identity": "check", "workspace": ".", "risk_class": "high"},
        });
        let intent = Intent::parse(intent.to_string().as_bytes())?;
        let evaluation = policy.evaluate(&intent.prepare(&Evidence::at(clock.now()))?);
        if evaluation.matched_rules.is_empty() {
            gaps.push(format!(
                "no rule names {tool}: it gets {}",
                evaluation.verdict
            ));
        }
    }
    Ok(gaps)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    read_bounded(path, MAX_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            crate::artefact::write(&dir.path().join(name), content.as_bytes()).unwrap();
        }
        dir
    }

    #[test]
    fn frameworks_and_servers_are_found_and_broken_files_name_nothing() {
        let dir = project(&[
            ("requirements.txt", "LangChain==1\nopenai-agents\n"),
            (".mcp.json", r#"{"mcpServers": {"GitHub": {}, "x\ny": {}}}"#),
            ("mcp.json", "{"),
        ]);
        let found = Detection::of(dir.path());
        assert_eq!(
            Vec::from_iter(&found.frameworks),
            ["langchain", "openai_agents"]
        );
        assert_eq!(
            Vec::from_iter(&found.tool_names),
            ["mcp.github", "mcp.x\ny"]
        );
        let text = found.annotate("\ndefault_verdict: block\n");
        assert!(
            text.contains("# detected_tools: mcp.github, mcp.xy\n\ndefault_verdict"),
            "{text}"
        );
        assert!(Policy::parse(text.as_bytes()).is_ok());
        assert_eq!(
            Detection::of(Path::new("/nonexistent")),
            Detection::default()
        );
    }

    #[test]
    fn what_no_rule_names_is_a_gap() {
        let detection = Detection {
            tool_names: ["mcp.a", "mcp.b"].map(str::to_owned).into(),
            ..Detection::default()
        };
        let policy = "default_verdict: allow\nrules: [{name: a, effect: block, match: {tool_name: mcp.a}}]\n";
        let policy = Policy::parse(policy.as_bytes()).unwrap();
        let gaps = gaps(&policy, &detection, &SystemClock).unwrap();
        assert_eq!(gaps.len(), 2);
        assert_eq!(gaps[1], "no rule names mcp.b: it gets allow");
    }

    #[test]
    fn more_servers_than_the_limit_are_not_all_named() {
        let servers: serde_json::Map<String, Value> = (0..=MAX_TOOLS)
            .map(|n| (n.to_string(), Value::Null))
            .collect();
        let dir = project(&[(".mcp.json", &json!({"mcpServers": servers}).to_string())]);
        assert_eq!(Detection::of(dir.path()).tool_names.len(), MAX_TOOLS);
    }
}
