//! The rules for single fields: trimming, limits, vocabularies, digests, free-form members.

use serde_json::{Map, Number, Value};
use worldcompute_fault::Result;
use worldcompute_proof::MAX_SAFE_INTEGER;

use super::secrets;
use crate::limits::{
    MAX_ARGS_DEPTH, MAX_ARGS_STRING, MAX_FIELD, MAX_INTENT_LIST, at_most, invalid,
};
use crate::text::{self, is_sha256_hex};
use crate::wire_time::WireTime;

/// Free-form members: trimmed, numbers as IEEE doubles, nothing that looks like a credential.
pub(super) fn members(path: &str, given: Map<String, Value>) -> Result<Map<String, Value>> {
    let normal = normal_members(path, given, 1)?;
    secrets::refuse(path, &normal)?;
    Ok(normal)
}

fn normal_members(
    path: &str,
    given: Map<String, Value>,
    depth: usize,
) -> Result<Map<String, Value>> {
    at_most(
        &format!("{path} nesting"),
        depth,
        MAX_ARGS_DEPTH,
        "intent_too_deep",
    )?;
    let mut normal = Map::new();
    for (key, value) in given {
        let key = trimmed(path, &key)?;
        if key.is_empty() {
            return Err(invalid(format!("{path} contains empty key")));
        }
        let value = normal_value(path, value, depth)?;
        if normal.insert(key, value).is_some() {
            return Err(invalid(format!(
                "{path} contains a key twice once spaces are trimmed"
            )));
        }
    }
    Ok(normal)
}

fn normal_value(path: &str, value: Value, depth: usize) -> Result<Value> {
    Ok(match value {
        Value::Null | Value::Bool(_) => value,
        Value::Number(number) => Value::Number(double(path, &number)?),
        Value::String(text) => {
            at_most(path, text.len(), MAX_ARGS_STRING, "intent_too_large")?;
            Value::String(text.trim().to_owned())
        }
        Value::Array(items) => {
            at_most(
                &format!("{path} nesting"),
                depth + 1,
                MAX_ARGS_DEPTH,
                "intent_too_deep",
            )?;
            let items = items
                .into_iter()
                .map(|item| normal_value(path, item, depth + 1));
            Value::Array(items.collect::<Result<_>>()?)
        }
        Value::Object(members) => Value::Object(normal_members(path, members, depth + 1)?),
    })
}

/// The number as the format keeps it; an integer that would be rounded could stand for another one.
fn double(path: &str, number: &Number) -> Result<Number> {
    let exact = match (number.as_u64(), number.as_i64()) {
        (Some(whole), _) => whole <= MAX_SAFE_INTEGER,
        (None, Some(whole)) => whole.unsigned_abs() <= MAX_SAFE_INTEGER,
        (None, None) => true,
    };
    if !exact {
        return Err(invalid(format!(
            "{path}: {number} is beyond 2^53 - 1; write it as a string"
        )));
    }
    number
        .as_f64()
        .and_then(Number::from_f64)
        .ok_or_else(|| invalid(format!("{path}: {number} is not a finite number")))
}

pub(super) fn trimmed(name: &str, value: &str) -> Result<String> {
    at_most(name, value.len(), MAX_FIELD, "intent_too_large")?;
    Ok(value.trim().to_owned())
}

pub(super) fn lower(name: &str, value: &str) -> Result<String> {
    Ok(text::lower(&trimmed(name, value)?))
}

pub(super) fn required(name: &str, value: String) -> Result<String> {
    if value.is_empty() {
        return Err(invalid(format!("{name} is required")));
    }
    Ok(value)
}

/// The lower-case value, which has to be one of `known` or empty.
pub(super) fn choice(name: &str, value: &str, known: &[&str]) -> Result<String> {
    let value = lower(name, value)?;
    if value.is_empty() || known.contains(&value.as_str()) {
        return Ok(value);
    }
    Err(invalid(format!(
        "{name} must be one of {}, not {value:?}",
        known.join(", ")
    )))
}

pub(super) fn one_of(what: &str, value: &str, known: &[&str]) -> Result<()> {
    if known.contains(&value) {
        return Ok(());
    }
    Err(invalid(format!("unsupported {what}: {value}")))
}

pub(super) fn digest(name: &str, value: &str) -> Result<String> {
    let value = lower(name, value)?;
    if value.is_empty() || is_sha256_hex(&value) {
        return Ok(value);
    }
    Err(invalid(format!("{name} must be sha256 hex")))
}

pub(super) fn set(name: &str, values: &[String]) -> Result<Vec<String>> {
    too_many(name, values.len(), MAX_INTENT_LIST)?;
    for value in values {
        trimmed(name, value)?;
    }
    Ok(text::sorted_set(values))
}

pub(super) fn too_many(name: &str, count: usize, limit: usize) -> Result<()> {
    at_most(&format!("{name} entries"), count, limit, "intent_too_large")
}

pub(super) fn in_order(name: &str, earlier: WireTime, later: WireTime) -> Result<()> {
    let both = earlier.get().zip(later.get());
    if both.is_some_and(|(earlier, later)| later <= earlier) {
        return Err(invalid(format!("{name} must be after what it ends")));
    }
    Ok(())
}
