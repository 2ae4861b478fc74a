//! One finding.

use std::fmt;
use std::path::Path;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Pass,
    /// It works, and could be better.
    Warn,
    /// It does not work.
    Fail,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A stable name.
    pub name: &'static str,
    /// What it is about: `environment`, `keys`, `production` or `repository`.
    pub scope: &'static str,
    /// How bad it is.
    pub status: Status,
    /// In words.
    pub message: String,
    /// What repairs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix_command: Option<String>,
    /// Whether no command repairs it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub non_fixable: bool,
}

impl Check {
    pub(super) fn pass(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Status::Pass, message)
    }

    pub(super) fn warn(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Status::Warn, message)
    }

    pub(super) fn fail(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Status::Fail, message)
    }

    fn new(name: &'static str, status: Status, message: impl Into<String>) -> Self {
        Self {
            name,
            scope: scope(name),
            status,
            message: message.into(),
            fix_command: None,
            non_fixable: false,
        }
    }

    pub(super) fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix_command = Some(command.into());
        self
    }

    pub(super) const fn beyond_repair(mut self) -> Self {
        self.non_fixable = true;
        self
    }
}

fn scope(name: &str) -> &'static str {
    match name {
        "key_source_ambiguity" | "key_permissions" | "key_config" => "keys",
        "schema_files" | "hooks_path" | "onboarding_assets" => "repository",
        name if name.starts_with("production_") => "production",
        _ => "environment",
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// A path as one word of a shell.
pub(super) fn quoted(path: &Path) -> String {
    quoted_text(&path.display().to_string())
}

/// A text as one word of a shell.
pub(super) fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
