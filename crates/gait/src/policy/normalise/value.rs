//! The rules for single values: trimming, limits, vocabularies.

use worldcompute_fault::Result;

use crate::limits::{MAX_POLICY_LIST, MAX_POLICY_STRING, at_most, invalid};
use crate::text;
use crate::verdict::Verdict;

/// The lower-case entries of a list, sorted, each once.
pub(super) fn lower_set(list: Option<&[String]>) -> Result<Vec<String>> {
    Ok(text::sorted_set_lower(bounded(list)?))
}

/// The entries of a list, sorted, each once.
pub(super) fn set(list: Option<&[String]>) -> Result<Vec<String>> {
    Ok(text::sorted_set(bounded(list)?))
}

/// [`lower_set`], each of whose entries has to be known.
pub(super) fn known_set(
    what: &str,
    list: Option<&[String]>,
    known: &[&str],
) -> Result<Vec<String>> {
    let set = lower_set(list)?;
    all_of(what, &set, known)?;
    Ok(set)
}

/// The list, whose entries all say something: a list of blanks would be an empty one, which asks for nothing.
pub(super) fn bounded(list: Option<&[String]>) -> Result<&[String]> {
    let list = list.unwrap_or_default();
    few("policy list entries", list.len())?;
    list.iter().try_for_each(|entry| short(entry))?;
    match list.iter().any(|entry| entry.trim().is_empty()) {
        true => Err(invalid(
            "a list has a blank entry, which would ask for nothing",
        )),
        false => Ok(list),
    }
}

pub(super) fn few(what: &str, count: usize) -> Result<()> {
    at_most(what, count, MAX_POLICY_LIST, "policy_too_large")
}

fn short(text: &str) -> Result<()> {
    at_most(
        "policy string bytes",
        text.len(),
        MAX_POLICY_STRING,
        "policy_too_large",
    )
}

pub(super) fn plain(text: Option<&str>) -> Result<String> {
    let text = text.unwrap_or_default();
    short(text)?;
    Ok(text.trim().to_owned())
}

pub(super) fn word(text: Option<&str>) -> Result<String> {
    Ok(text::lower(&plain(text)?))
}

/// The text, or what stands for it when it is empty.
pub(super) fn or(text: Option<&str>, default: &str) -> Result<String> {
    let text = plain(text)?;
    Ok(if text.is_empty() {
        default.to_owned()
    } else {
        text
    })
}

pub(super) fn seconds(what: &str, rule: &str, number: Option<i64>) -> Result<u64> {
    u64::try_from(number.unwrap_or_default())
        .map_err(|_| invalid(format!("{what} must be >= 0 for {rule}")))
}

pub(super) fn count(what: &str, number: Option<i64>) -> Result<usize> {
    usize::try_from(number.unwrap_or_default()).map_err(|_| invalid(format!("{what} must be >= 0")))
}

pub(super) fn all_of(what: &str, values: &[String], known: &[&str]) -> Result<()> {
    match values.iter().find(|value| !known.contains(&value.as_str())) {
        Some(value) => Err(invalid(format!("unsupported {what}: {value}"))),
        None => Ok(()),
    }
}

/// `block` or `require_approval`: what a constraint may raise a verdict to.
pub(super) fn raise(what: &str, action: Option<&str>) -> Result<Option<Verdict>> {
    let action = word(action)?;
    match Verdict::parse(&action) {
        _ if action.is_empty() => Ok(None),
        Some(verdict @ (Verdict::Block | Verdict::RequireApproval)) => Ok(Some(verdict)),
        _ => Err(invalid(format!("unsupported {what}: {action:?}"))),
    }
}
