//! One entry: whom and what it stops, and for how long.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use worldcompute_fault::Result;

use crate::evaluate::path_readings;
use crate::intent::{Intent, KINDS, Target};
use crate::limits::{MAX_FIELD, MAX_INTENT_LIST, at_most, invalid};
use crate::text;
use crate::trace::short_id;
use crate::wire_time::WireTime;

/// One entry of the state. Its selectors say whom and what it stops; what is empty is not asked for, and an entry
/// that asks for nothing stops everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub entry_id: String,
    /// Whether it stops anything.
    pub enabled: bool,
    /// `context.agent_id`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent_id: String,
    /// `context.identity`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// The tool; of a script, any of its steps too.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tool_name: String,
    /// The kind of a target, together with the value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target_kind: String,
    /// The value of a target, together with the kind.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target_value: String,
    /// `context.environment`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub environment: String,
    /// Directories of which one holds a path target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path_prefixes: Vec<String>,
    /// Directories of which one holds the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workspace_prefixes: Vec<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Who added it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub actor: String,
    /// When.
    pub created_at: WireTime,
    /// Until when; unset for ever.
    #[serde(default)]
    pub expires_at: WireTime,
}

impl Entry {
    /// Whether it stops anything at the time `now`.
    pub fn is_on(&self, now: Timestamp) -> bool {
        self.enabled && !self.is_over(now)
    }

    /// Whether its time has passed.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.get().is_some_and(|end| end <= now)
    }

    /// Whether all that are given fit `intent`.
    pub fn fits(&self, intent: &Intent) -> bool {
        let context = intent.context();
        is(&self.agent_id, &context.agent_id)
            && is(&self.identity, &context.identity)
            && is(&self.environment, &text::trim_lower(&context.environment))
            && self.tool_fits(intent)
            && self.target_fits(intent)
            && self.path_fits(intent)
            && (self.workspace_prefixes.is_empty()
                || below(&self.workspace_prefixes, &context.workspace))
    }

    /// The codes of the selectors that are given.
    pub(super) fn codes(&self) -> impl Iterator<Item = &'static str> {
        let targeted = !(self.target_kind.is_empty() && self.target_value.is_empty());
        let given = [
            (!self.agent_id.is_empty(), "kill_switch_agent_id_active"),
            (!self.identity.is_empty(), "kill_switch_identity_active"),
            (!self.tool_name.is_empty(), "kill_switch_tool_name_active"),
            (
                !self.environment.is_empty(),
                "kill_switch_environment_active",
            ),
            (targeted, "kill_switch_target_active"),
            (!self.path_prefixes.is_empty(), "kill_switch_path_active"),
            (
                !self.workspace_prefixes.is_empty(),
                "kill_switch_workspace_active",
            ),
        ];
        given
            .into_iter()
            .filter_map(|(given, code)| given.then_some(code))
    }

    fn tool_fits(&self, intent: &Intent) -> bool {
        is(&self.tool_name, intent.tool_name())
            || intent.script().is_some_and(|(script, _)| {
                let mut steps = script.steps.iter();
                steps.any(|step| step.tool_name == self.tool_name)
            })
    }

    fn target_fits(&self, intent: &Intent) -> bool {
        let path = text::clean_path(&self.target_value);
        let fits = |target: &Target| {
            is(&self.target_kind, &target.kind)
                && (is(&self.target_value, &target.value) || path_readings(target).contains(&path))
        };
        let asked = !(self.target_kind.is_empty() && self.target_value.is_empty());
        !asked || intent.all_targets().any(fits)
    }

    fn path_fits(&self, intent: &Intent) -> bool {
        let mut paths = intent.all_targets().flat_map(path_readings);
        self.path_prefixes.is_empty() || paths.any(|path| below(&self.path_prefixes, &path))
    }

    /// The entry in normal form, with an id.
    pub(super) fn normal(mut self) -> Result<Self> {
        for text in self.texts() {
            *text = trimmed(text)?;
        }
        for text in [
            &mut self.tool_name,
            &mut self.target_kind,
            &mut self.environment,
        ] {
            *text = text::lower(text);
        }
        if !self.target_kind.is_empty() && !KINDS.contains(&self.target_kind.as_str()) {
            let message = format!(
                "kill switch entry target_kind is unsupported: {}",
                self.target_kind
            );
            return Err(invalid(message));
        }
        self.path_prefixes = directories(&self.path_prefixes)?;
        self.workspace_prefixes = directories(&self.workspace_prefixes)?;
        self.named()
    }

    fn named(mut self) -> Result<Self> {
        if self.created_at.is_unset() {
            return Err(invalid("kill switch entry created_at is required"));
        }
        if self.entry_id.is_empty() && self.codes().next().is_none() {
            return Err(invalid(
                "kill switch entry requires at least one scope selector",
            ));
        }
        if self.entry_id.is_empty() {
            self.entry_id = self.derive_id();
        }
        Ok(self)
    }

    fn texts(&mut self) -> [&mut String; 9] {
        [
            &mut self.entry_id,
            &mut self.agent_id,
            &mut self.identity,
            &mut self.tool_name,
            &mut self.target_kind,
            &mut self.target_value,
            &mut self.environment,
            &mut self.reason,
            &mut self.actor,
        ]
    }

    fn derive_id(&self) -> String {
        let parts = [
            self.agent_id.clone(),
            self.identity.clone(),
            self.tool_name.clone(),
            self.target_kind.clone(),
            self.target_value.clone(),
            self.environment.clone(),
            self.path_prefixes.join(","),
            self.workspace_prefixes.join(","),
            self.reason.clone(),
            self.created_at.to_string(),
        ];
        short_id(&parts.join("\0"))
    }
}

fn is(wanted: &str, have: &str) -> bool {
    wanted.is_empty() || wanted == have
}

/// Whether one of the directories is `path` or holds it, whatever way the path is spelled.
fn below(directories: &[String], path: &str) -> bool {
    let path = text::clean_path(&path.trim().replace('\\', "/"));
    directories.iter().any(|directory| {
        let rest = path.strip_prefix(directory.as_str());
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('/') || directory.ends_with('/')
        })
    })
}

fn directories(given: &[String]) -> Result<Vec<String>> {
    at_most(
        "kill switch prefixes",
        given.len(),
        MAX_INTENT_LIST,
        "kill_switch_entry_too_large",
    )?;
    let mut clean = Vec::with_capacity(given.len());
    for path in given {
        let path = text::clean_path(&trimmed(path)?);
        if path != "." {
            clean.push(path);
        }
    }
    Ok(text::sorted_set(&clean))
}

fn trimmed(text: &str) -> Result<String> {
    at_most(
        "kill switch field",
        text.len(),
        MAX_FIELD,
        "kill_switch_entry_too_large",
    )?;
    Ok(text.trim().to_owned())
}
