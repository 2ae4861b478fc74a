//! Cases that are data alone: canonical JSON, JSON Schemas, the error envelope.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonschema::{Registry, Validator};
use serde_json::{Value, json};
use worldcompute_fault::{Category, Fault};
use worldcompute_proof::{Sha256, canonicalize_json};

use crate::case::{Case, Failure};
use crate::program::Program;

/// Canonical bytes, or the refusal of what has none.
pub fn canonical(program: &Program, case: &Case) -> Result<(), Failure> {
    let input = case.input(0)?;
    if let Some(line) = input.strip_prefix("jcs/vectors.jsonl:") {
        return vector(program, case, line.parse()?);
    }
    let canonical = canonicalize_json(&fs::read(program.path(input))?)?;
    let expected = fs::read_to_string(program.path(case.input(1)?))?;
    match canonical == expected.trim_end_matches('\n').as_bytes() {
        true => Ok(()),
        false => Err(Failure::new(
            String::from_utf8_lossy(&canonical).into_owned(),
        )),
    }
}

fn vector(program: &Program, case: &Case, line: usize) -> Result<(), Failure> {
    let vectors = fs::read_to_string(program.path("jcs/vectors.jsonl"))?;
    let vector = vectors.lines().nth(line.saturating_sub(1));
    let vector = vector.ok_or_else(|| Failure::new(format!("there is no vector {line}")))?;
    let vector: Value = serde_json::from_str(vector)?;
    let input = vector["input_b64"].as_str();
    let input = input.ok_or_else(|| Failure::new("the vector has no input"))?;
    let input = STANDARD.decode(input)?;
    let found = canonicalize_json(&input).map(|bytes| Sha256::of(bytes).to_string());
    match (case.expects("sha256").as_str(), found) {
        (Some(expected), Ok(found)) if expected == found => Ok(()),
        (None, Err(_)) if !case.expects("error").is_null() => Ok(()),
        // The reference reads numbers that RFC 8259 does not have; nobody else does.
        (Some(_), Err(_)) if serde_json::from_slice::<Value>(&input).is_err() => Ok(()),
        (expected, found) => Err(Failure::new(format!(
            "expected {expected:?}, found {found:?}"
        ))),
    }
}

/// The envelope that an error is told in.
pub fn envelope(program: &Program, case: &Case) -> Result<(), Failure> {
    let golden: Value = serde_json::from_slice(&fs::read(program.path(case.demands("golden")?))?)?;
    let words = |field: &str| golden[field].as_str().unwrap_or_default().to_owned();
    let category = Category::parse(&words("error_category"));
    let category = category.ok_or_else(|| Failure::new("an unknown category"))?;
    let fault = Fault::new(category, words("error_code"), words("error"));
    let found = serde_json::to_value(fault.envelope(words("correlation_id")))?;
    match found == golden {
        true => Ok(()),
        false => Err(Failure::new(format!("expected {golden}, found {found}"))),
    }
}

/// The JSON Schemas of every format.
pub struct Schemas {
    by_name: BTreeMap<String, Validator>,
}

impl Schemas {
    /// Reads every schema below `folder`.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let mut found = Vec::new();
        collect(folder, folder, &mut found)?;
        let mut registry = Registry::new();
        for (name, schema) in &found {
            registry = registry.add(uri(name, schema), schema)?;
        }
        let registry = registry.prepare()?;
        let mut by_name = BTreeMap::new();
        for (name, schema) in &found {
            let options = jsonschema::options()
                .with_registry(&registry)
                .with_base_uri(uri(name, schema))
                .should_validate_formats(true);
            let validator = options
                .build(schema)
                .map_err(|error| Failure::new(format!("{name}: {error}")))?;
            by_name.insert(format!("schemas/{name}"), validator);
        }
        Ok(Self { by_name })
    }

    /// A file against a schema, with the expected result.
    pub fn check(&self, program: &Program, case: &Case) -> Result<(), Failure> {
        let text = fs::read_to_string(program.path(case.input(1)?))?;
        let schema = case.input(0)?;
        if !self.by_name.contains_key(schema) {
            return Err(Failure::new(format!("there is no {schema}")));
        }
        let values = values(&text);
        let valid = !values.is_empty()
            && values
                .iter()
                .all(|value| self.validate(schema, value).is_ok());
        match json!(valid) == *case.expects("valid") {
            true => Ok(()),
            false => Err(Failure::new(format!(
                "expected {}, found {valid}",
                case.expected
            ))),
        }
    }

    /// A value against the schema of that name.
    pub fn validate(&self, name: &str, value: &Value) -> Result<(), Failure> {
        let validator = self.by_name.get(name);
        let validator = validator.ok_or_else(|| Failure::new(format!("there is no {name}")))?;
        validator
            .validate(value)
            .map_err(|error| Failure::new(format!("{name}: {error} at {}", error.instance_path())))
    }
}

/// The one value of a JSON file, or those of a JSON Lines file; what does not parse is no valid value.
pub fn values(text: &str) -> Vec<Value> {
    match serde_json::from_str(text) {
        Ok(value) => vec![value],
        Err(_) => text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).unwrap_or(Value::Null))
            .collect(),
    }
}

/// Its own name, or one like those of its neighbours, so that they find each other.
fn uri(name: &str, schema: &Value) -> String {
    let own = schema["$id"].as_str().map(str::to_owned);
    own.unwrap_or_else(|| format!("https://gait.dev/schemas/{name}"))
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<(String, Value)>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, found)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
            found.push((name, serde_json::from_slice(&fs::read(&path)?)?));
        }
    }
    Ok(())
}
