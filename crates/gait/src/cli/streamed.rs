//! A list in the output that is too long to hold in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};

use serde::Serialize;
use serde_json::{Map, Value};
use worldcompute_durable::scratch_file;
use worldcompute_fault::{Fault, Result};

use super::output::compact;

/// The elements of one JSON list: they wait in a scratch file until the command is done.
pub struct Streamed {
    path: &'static [&'static str],
    elements: BufWriter<File>,
    empty: bool,
}

impl Streamed {
    /// The list without elements; `path` leads to it, from member to member.
    pub fn new(path: &'static [&'static str]) -> Result<Self> {
        Ok(Self {
            path,
            elements: BufWriter::new(scratch_file()?),
            empty: true,
        })
    }

    /// Adds an element.
    pub fn push(&mut self, element: &impl Serialize) -> Result<()> {
        let written = serde_json::to_value(element)
            .map_err(io::Error::from)
            .and_then(|value| self.append(&compact(value)));
        written.map_err(|error| Fault::io("write a temporary file", &error))
    }

    fn append(&mut self, element: &str) -> io::Result<()> {
        let separator: &[u8] = if self.empty { b"" } else { b"," };
        self.empty = false;
        self.elements.write_all(separator)?;
        self.elements.write_all(element.as_bytes())
    }

    /// Writes a line of `fields` with this list among them; without elements there is no such list.
    pub(super) fn write(self, fields: Map<String, Value>, out: &mut impl Write) -> io::Result<()> {
        if self.empty {
            return writeln!(out, "{}", compact(Value::Object(fields)));
        }
        let mut elements = self.elements.into_inner()?;
        elements.rewind()?;
        write_with(&mut elements, self.path, Value::Object(fields), out)?;
        writeln!(out)
    }
}

/// Writes `value` in the form of [`compact`], with `elements` as the list that `path` leads to.
fn write_with(
    elements: &mut impl Read,
    path: &[&str],
    value: Value,
    out: &mut impl Write,
) -> io::Result<()> {
    let Some((name, deeper)) = path.split_first() else {
        write!(out, "[")?;
        io::copy(elements, out)?;
        return write!(out, "]");
    };
    let mut members = members(value);
    members.entry((*name).to_owned()).or_default();
    let mut separator = '{';
    for (key, value) in members {
        let leads = key == *name;
        write!(out, "{separator}{}:", compact(key.into()))?;
        match leads {
            true => write_with(elements, deeper, value, out)?,
            false => write!(out, "{}", compact(value))?,
        }
        separator = ',';
    }
    write!(out, "}}")
}

/// The members of an object, in the order of their names; of anything else, none.
fn members(value: Value) -> BTreeMap<String, Value> {
    match value {
        Value::Object(members) => members.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(path: &'static [&'static str], elements: &[Value], fields: Value) -> String {
        let mut streamed = Streamed::new(path).unwrap();
        for element in elements {
            streamed.push(element).unwrap();
        }
        let (mut out, fields) = (Vec::new(), fields.as_object().unwrap().clone());
        streamed.write(fields, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_elements_stand_between_the_fields_before_and_after_them() {
        let elements = [json!({"b": "<", "a": 1}), json!(2)];
        assert_eq!(
            written(&["steps"], &elements, json!({"z": 0, "ok": true})),
            "{\"ok\":true,\"steps\":[{\"a\":1,\"b\":\"\\u003c\"},2],\"z\":0}\n"
        );
        assert_eq!(
            written(&["steps"], &elements[1..], json!({})),
            "{\"steps\":[2]}\n"
        );
    }

    #[test]
    fn a_list_deep_inside_is_the_same_line_as_if_it_had_been_held() {
        let elements = [json!("<"), json!({"z": 1, "a": [2]})];
        let fields =
            json!({"ok": true, "a": {"z": 1, "l": {"y": "&", "m": null}}, "k": {"b": 1, "a": 2}});
        let mut held = fields.clone();
        held["a"]["l"]["list"] = json!(elements);
        assert_eq!(
            written(&["a", "l", "list"], &elements, fields),
            compact(held) + "\n"
        );
    }

    #[test]
    fn without_elements_there_is_no_list() {
        assert_eq!(
            written(&["steps"], &[], json!({"z": 0, "ok": true})),
            "{\"ok\":true,\"z\":0}\n"
        );
        assert_eq!(
            written(&["a", "list"], &[], json!({"a": {"b": 1}})),
            "{\"a\":{\"b\":1}}\n"
        );
    }
}
