//! What has taken the place of something that is no longer read.

use serde::Serialize;

/// What was written, and what to write instead. Serialises with `kind` first: `{"kind":"command",..}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Migration {
    /// A command that has another name.
    Command {
        /// The name that was typed.
        deprecated_command: &'static str,
        /// The name that it has.
        replacement_command: &'static str,
    },
    /// Keys of a policy that mean nothing any more.
    PolicyFields {
        /// The keys that were found.
        deprecated_fields: Vec<&'static str>,
        /// What says the same, key by key.
        field_replacements: Vec<FieldReplacement>,
    },
}

/// What takes the place of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FieldReplacement {
    /// The key.
    pub field: &'static str,
    /// The keys that say the same; empty for one that is to go.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub replacement_fields: &'static [&'static str],
    /// How, where the keys alone do not say it.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub note: &'static str,
}
