//! What a project sets once for all its commands (`.gait/config.yaml`). A flag on the command line goes before it.

use std::path::Path;

use serde::Deserialize;
use worldcompute_durable::read_guarded;
use worldcompute_fault::{Category, Fault, Result};

/// Where the file is, from the project's root.
pub const DEFAULT_PATH: &str = ".gait/config.yaml";
/// The largest file, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// The settings. What is not set is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectConfig {
    /// For `gate eval`.
    pub gate: GateDefaults,
    /// For `mcp serve`.
    pub mcp_serve: McpServeDefaults,
    /// How long evidence is kept.
    pub retention: Retention,
}

/// The flags of `gate eval`, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the flag of that name")]
pub struct GateDefaults {
    pub policy: String,
    pub profile: String,
    pub key_mode: String,
    pub private_key: String,
    pub private_key_env: String,
    pub approval_public_key: String,
    pub approval_public_key_env: String,
    pub approval_private_key: String,
    pub approval_private_key_env: String,
    pub delegation_public_key: String,
    pub delegation_public_key_env: String,
    pub delegation_private_key: String,
    pub delegation_private_key_env: String,
    pub rate_limit_state: String,
    pub kill_switch_state: String,
    pub approved_script_registry: String,
    pub approved_script_public_key: String,
    pub approved_script_public_key_env: String,
    pub credential_broker: String,
    pub credential_env_prefix: String,
    pub credential_ref: String,
    pub credential_scopes: String,
    pub credential_command: String,
    pub credential_command_args: String,
    pub credential_evidence_path: String,
    pub trace_path: String,
    pub wrkr_inventory_path: String,
}

/// The flags of `mcp serve`, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the flag of that name")]
pub struct McpServeDefaults {
    pub enabled: bool,
    pub listen: String,
    pub auth_mode: String,
    pub auth_token_env: String,
    pub max_request_bytes: i64,
    pub http_verdict_status: String,
    pub allow_client_artifact_paths: bool,
}

/// How long evidence is kept, as spans such as `168h`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each is named after what it limits")]
pub struct Retention {
    pub trace_ttl: String,
    pub session_ttl: String,
    pub export_ttl: String,
}

impl ProjectConfig {
    /// Reads the file at `path`; `None` when there is none.
    ///
    /// Errors: `project_config_invalid` for anything but these settings; those of reading.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let bytes = match read_guarded(path, MAX_BYTES) {
            Err(fault) if fault.code() == "not_found" => return Ok(None),
            read => read?,
        };
        if bytes.trim_ascii().is_empty() {
            return Ok(Some(Self::default()));
        }
        serde_saphyr::from_slice_with_options(&bytes, crate::policy::yaml_options())
            .map(Some)
            .map_err(|error| invalid(path, &error))
    }
}

fn invalid(path: &Path, error: &serde_saphyr::Error) -> Fault {
    let said = crate::policy::in_our_words(error).unwrap_or_else(|| error.to_string());
    let message = format!("parse project config {}: {said}", path.display());
    Fault::new(Category::InvalidInput, "project_config_invalid", message)
        .hint("correct the file, or pass --no-config where the command has it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Option<ProjectConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        worldcompute_durable::write_atomic(
            &path,
            text.as_bytes(),
            worldcompute_durable::Mode::Private,
        )
        .unwrap();
        ProjectConfig::load(&path)
    }

    #[test]
    fn settings_are_read_and_the_rest_is_empty() {
        let config = load("gate:\n  policy: p.yaml\nretention: {trace_ttl: 168h}\n")
            .unwrap()
            .unwrap();
        assert_eq!(
            (config.gate.policy.as_str(), config.gate.profile.as_str()),
            ("p.yaml", "")
        );
        assert_eq!(config.retention.trace_ttl, "168h");
        for empty in ["", " \n"] {
            assert_eq!(load(empty).unwrap(), Some(ProjectConfig::default()));
        }
        assert_eq!(
            ProjectConfig::load(Path::new("/nonexistent/config.yaml")).unwrap(),
            None
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "gate: {polcy: p}\n",
            "gate:\n  policy: a\n  policy: b\n",
            "gate: []\n",
            "- x\n",
            "mcp_serve: {enabled: perhaps}\n",
            "{",
            "a: &a [*a]\n",
        ] {
            assert_eq!(
                load(text).unwrap_err().code(),
                "project_config_invalid",
                "{text:?}"
            );
        }
        assert_eq!(
            load(&" ".repeat((64 << 10) + 1)).unwrap_err().code(),
            "file_too_large"
        );
    }
}
