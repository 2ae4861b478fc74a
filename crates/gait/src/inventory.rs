//! The inventory of tools (`wrkr`): what their operator, and not their caller, says about them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use worldcompute_durable::read_guarded;
use worldcompute_fault::Result;
use worldcompute_proof::parse_json_within;

use crate::in_file::InFile;
use crate::limits::{MAX_FIELD, MAX_INVENTORY_BYTES, at_most, from_value, invalid};
use crate::text;

/// What is known of the tools, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    tools: BTreeMap<String, ToolRecord>,
}

/// What is known of one tool, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ToolRecord {
    /// Its name.
    pub tool_name: String,
    /// The class of the data that it handles.
    pub data_class: String,
    /// The class of the endpoints that it reaches.
    pub endpoint_class: String,
    /// How far it acts on its own.
    pub autonomy_level: String,
}

/// What to do about an inventory that cannot be read as one.
const REPAIR: &str = "correct the inventory that the message names, or leave --wrkr-inventory out";

impl Inventory {
    /// How `context_source` names an inventory.
    pub const SOURCE: &'static str = "wrkr_inventory";

    /// Reads the inventory in the file at `path`, which not everybody may change; see [`Inventory::parse`].
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_guarded(path, MAX_INVENTORY_BYTES as u64)?;
        Self::parse(&bytes).map_err(|fault| fault.in_file(path).hint(REPAIR))
    }

    /// Reads an inventory: a JSON list of tools, or an object with such a list under `items`.
    ///
    /// Refused as `invalid_input`: anything else, and a tool of which two entries say different things.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let value = parse_json_within(bytes, MAX_INVENTORY_BYTES)
            .map_err(|fault| invalid(format!("parse wrkr inventory: {}", fault.message())))?;
        let items = match value {
            Value::Object(mut members) => members.remove("items").unwrap_or_default(),
            list => list,
        };
        let listed = items.as_array();
        if listed.is_none_or(|items| !items.iter().all(Value::is_object)) {
            return Err(invalid("parse wrkr inventory: not a list of objects"));
        }
        let items: Vec<ToolRecord> = from_value("parse wrkr inventory", items)?;
        let mut tools = BTreeMap::new();
        for item in items {
            let tool = item.normal()?;
            if tool.tool_name.is_empty() {
                continue;
            }
            let name = tool.tool_name.clone();
            if tools.get(&name).is_some_and(|earlier| *earlier != tool) {
                let message = format!("wrkr inventory: two entries of {name:?} differ");
                return Err(invalid(message).hint("keep one entry for each tool"));
            }
            tools.insert(name, tool);
        }
        Ok(Self { tools })
    }

    /// What is known of the tool of that lower-case name.
    pub fn tool(&self, name: &str) -> Option<&ToolRecord> {
        self.tools.get(name)
    }
}

impl ToolRecord {
    fn normal(self) -> Result<Self> {
        Ok(Self {
            tool_name: field(&self.tool_name)?,
            data_class: field(&self.data_class)?,
            endpoint_class: field(&self.endpoint_class)?,
            autonomy_level: field(&self.autonomy_level)?,
        })
    }

    /// The record as the format writes it into `auth_context`.
    pub(crate) fn claims(&self) -> [(&'static str, &str); 4] {
        [
            ("wrkr.tool_name", &self.tool_name),
            ("wrkr.data_class", &self.data_class),
            ("wrkr.endpoint_class", &self.endpoint_class),
            ("wrkr.autonomy_level", &self.autonomy_level),
        ]
    }
}

fn field(text: &str) -> Result<String> {
    at_most(
        "wrkr inventory string bytes",
        text.len(),
        MAX_FIELD,
        "inventory_too_large",
    )?;
    Ok(text::trim_lower(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_are_read_and_normalised() {
        let tool = r#"{"tool_name": " Tool.Write ", "data_class": "PII", "other": 1}"#;
        for text in [
            format!("[{tool}, {{}}]"),
            format!(r#"{{"items": [{tool}]}}"#),
        ] {
            let inventory = Inventory::parse(text.as_bytes()).unwrap();
            let record = inventory.tool("tool.write").unwrap();
            assert_eq!(record.data_class, "pii");
            assert_eq!(record.autonomy_level, "");
            assert!(inventory.tool("tool.read").is_none());
        }
    }

    #[test]
    fn what_is_no_inventory_or_contradicts_itself_is_refused() {
        for text in [
            "",
            "{}",
            "7",
            r#"{"items": 7}"#,
            r#"[{"tool_name": 7}]"#,
            r#"[["tool.write", "pii", "", ""]]"#,
            r#"[{"tool_name": "a", "tool_name": "b"}]"#,
            r#"[{"tool_name": "a", "data_class": "x"}, {"tool_name": "A", "data_class": "y"}]"#,
        ] {
            assert_eq!(
                Inventory::parse(text.as_bytes()).unwrap_err().code(),
                "invalid_input",
                "{text}"
            );
        }
    }

    #[test]
    fn an_inventory_past_its_size_is_refused() {
        let pad = |bytes: usize| format!("[{}]", " ".repeat(bytes - 2));
        assert!(Inventory::parse(pad(MAX_INVENTORY_BYTES).as_bytes()).is_ok());
        assert!(Inventory::parse(pad(MAX_INVENTORY_BYTES + 1).as_bytes()).is_err());
    }
}
