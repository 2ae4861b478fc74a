//! One edit of a policy, in the keys of the policy language.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use worldcompute_fault::Result;

use crate::limits::invalid;
use crate::policy::Policy;

/// What an edit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Adds `value` to the list under `key`.
    Add,
    /// Takes `value` out of the list under `key`.
    Remove,
    /// Makes `key` be `value`.
    Set,
    /// Adds `value` to the rules.
    InsertRule,
}

/// One edit of the normal form of a policy, in which rules stand by priority, then by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    /// What it does.
    pub action: Action,
    /// The rule it is about, if it is about one, by name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// The place of that rule in the normal form, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_index: Option<usize>,
    /// The key inside the rule or the policy, such as `endpoint.path_allowlist`.
    pub key: String,
    /// What is added, taken out or set.
    pub value: Value,
}

impl Edit {
    /// `policy` with this edit.
    pub fn apply(&self, policy: &Policy) -> Result<Policy> {
        let mut document = policy.document()?;
        self.change(&mut document).ok_or_else(|| {
            let message = format!("the policy has no place for this edit: {self}");
            invalid(message)
        })?;
        Policy::from_document(document)
    }

    fn change(&self, document: &mut Value) -> Option<()> {
        let base = match self.rule_index {
            Some(index) => document.get_mut("rules")?.get_mut(index)?,
            None => document,
        };
        let place = reach(base, &self.key)?;
        match self.action {
            Action::Set => *place = self.value.clone(),
            Action::Add | Action::InsertRule => list(place)?.push(self.value.clone()),
            Action::Remove => {
                let list = list(place)?;
                let before = list.len();
                list.retain(|item| *item != self.value);
                (list.len() < before).then_some(())?;
            }
        }
        Some(())
    }
}

/// The value under `key`, made if it is missing.
fn reach<'a>(base: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let mut place = base;
    for part in key.split('.') {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = place.as_object_mut()?.entry(part).or_insert(Value::Null);
    }
    Some(place)
}

fn list(place: &mut Value) -> Option<&mut Vec<Value>> {
    if place.is_null() {
        *place = Value::Array(Vec::new());
    }
    place.as_array_mut()
}

impl fmt::Display for Edit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match self.rule.as_str() {
            "" => self.key.clone(),
            rule => format!("{} of rule {rule}", self.key),
        };
        match self.action {
            Action::Add => write!(formatter, "add {} to {key}", self.value),
            Action::Remove => write!(formatter, "remove {} from {key}", self.value),
            Action::Set => write!(formatter, "set {key} to {}", self.value),
            Action::InsertRule => write!(formatter, "add the rule {}", self.value),
        }
    }
}
