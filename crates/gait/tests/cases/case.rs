//! One line of the index.

use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Why a case, or the run as a whole, does not come out.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// In words.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// A command, and what is expected of it.
pub struct Case {
    /// Its name.
    pub id: String,
    /// Its family.
    pub kind: String,
    /// Files, relative to the folder.
    pub inputs: Vec<String>,
    /// The words after the program's name.
    pub command: String,
    /// What comes after the command's `#`.
    pub comment: String,
    /// What has to come out.
    pub expected: Value,
    /// Why that is a defect; empty when it is none.
    pub note: String,
}

impl Case {
    /// An expected field.
    pub fn expects(&self, field: &str) -> &Value {
        self.expected.get(field).unwrap_or(&Value::Null)
    }

    /// An input by its place.
    pub fn input(&self, place: usize) -> Result<&str, Failure> {
        let input = self.inputs.get(place).map(String::as_str);
        input.ok_or_else(|| Failure::new("an input is missing from the case"))
    }
}

/// Every case of the index in `folder`.
pub fn read(folder: &Path) -> Result<Vec<Case>, Failure> {
    let index = fs::read_to_string(folder.join("index.tsv"))?;
    index.lines().skip(1).map(parse).collect()
}

fn parse(line: &str) -> Result<Case, Failure> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [id, kind, inputs, command, expected, _, note] = fields.as_slice() else {
        return Err(Failure::new(format!("not a case: {line}")));
    };
    let (command, comment) = command.split_once("   # ").unwrap_or((command, ""));
    Ok(Case {
        id: (*id).to_owned(),
        kind: (*kind).to_owned(),
        inputs: inputs.split(';').map(str::to_owned).collect(),
        command: command.to_owned(),
        comment: comment.to_owned(),
        expected: serde_json::from_str(expected)?,
        note: (*note).to_owned(),
    })
}
