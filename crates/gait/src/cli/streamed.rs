//! A list in the output that is too long to hold in memory.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};

use serde::Serialize;
use worldcompute_durable::scratch_file;
use worldcompute_fault::{Fault, Result};

use super::output::compact;

/// The elements of one JSON field: they wait in a scratch file until the command is done.
pub struct Streamed {
    name: &'static str,
    elements: BufWriter<File>,
    empty: bool,
}

impl Streamed {
    /// The field `name`, without elements.
    pub fn new(name: &'static str) -> Result<Self> {
        Ok(Self {
            name,
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

    /// Writes an object that consists of `before`, this field, and `after`; without elements there is no such field.
    pub(super) fn write(self, before: &str, after: &str, out: &mut impl Write) -> io::Result<()> {
        let Self {
            name,
            elements,
            empty,
        } = self;
        let mut parts = vec![before.to_owned()];
        let mut elements = elements.into_inner()?;
        elements.rewind()?;
        if empty {
            parts.push(after.to_owned());
            parts.retain(|part| !part.is_empty());
            return writeln!(out, "{{{}}}", parts.join(","));
        }
        let comma = |part: &str| if part.is_empty() { "" } else { "," };
        write!(out, "{{{before}{}\"{name}\":[", comma(before))?;
        io::copy(&mut elements, out)?;
        writeln!(out, "]{}{after}}}", comma(after))
    }

    /// The name of the field.
    pub(super) const fn name(&self) -> &'static str {
        self.name
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(elements: &[serde_json::Value], before: &str, after: &str) -> String {
        let mut streamed = Streamed::new("steps").unwrap();
        for element in elements {
            streamed.push(element).unwrap();
        }
        let mut out = Vec::new();
        streamed.write(before, after, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_elements_stand_between_the_fields_before_and_after_them() {
        let elements = [json!({"b": "<", "a": 1}), json!(2)];
        assert_eq!(
            written(&elements, "\"ok\":true", "\"z\":0"),
            "{\"ok\":true,\"steps\":[{\"a\":1,\"b\":\"\\u003c\"},2],\"z\":0}\n"
        );
        assert_eq!(written(&elements[1..], "", ""), "{\"steps\":[2]}\n");
    }

    #[test]
    fn without_elements_there_is_no_field() {
        assert_eq!(
            written(&[], "\"ok\":true", "\"z\":0"),
            "{\"ok\":true,\"z\":0}\n"
        );
        assert_eq!(written(&[], "", "\"z\":0"), "{\"z\":0}\n");
    }
}
