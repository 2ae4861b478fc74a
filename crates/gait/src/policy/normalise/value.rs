//! The rules for single values: trimming, limits, vocabularies.

use worldcompute_fault::Result;

use crate::limits::{self, MAX_POLICY_LIST, MAX_POLICY_STRING, at_most, invalid};
use crate::policy::file::List;
use crate::text;
use crate::verdict::Verdict;

pub(super) fn join(first: List, second: List) -> List {
    let mut all = first.unwrap_or_default();
    all.extend(second.unwrap_or_default());
    Some(all)
}

pub(super) fn lower_set(list: List) -> Result<Vec<String>> {
    Ok(text::sorted_set_lower(&bounded(list)?))
}

pub(super) fn set(list: List) -> Result<Vec<String>> {
    Ok(text::sorted_set(&bounded(list)?))
}

pub(super) fn bounded(list: List) -> Result<Vec<String>> {
    let list = list.unwrap_or_default();
    at_most(
        "policy list entries",
        list.len(),
        MAX_POLICY_LIST,
        "policy_too_large",
    )?;
    list.iter().try_for_each(|entry| short(entry))?;
    Ok(list)
}

pub(super) fn short(text: &str) -> Result<()> {
    limits::at_most(
        "policy string bytes",
        text.len(),
        MAX_POLICY_STRING,
        "policy_too_large",
    )
}

pub(super) fn plain(text: Option<String>) -> Result<String> {
    let text = text.unwrap_or_default();
    short(&text)?;
    Ok(text.trim().to_owned())
}

pub(super) fn word(text: Option<String>) -> Result<String> {
    Ok(text::lower(&plain(text)?))
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
pub(super) fn raise(what: &str, action: Option<String>) -> Result<Option<Verdict>> {
    let action = word(action)?;
    match Verdict::parse(&action) {
        _ if action.is_empty() => Ok(None),
        Some(verdict @ (Verdict::Block | Verdict::RequireApproval)) => Ok(Some(verdict)),
        _ => Err(invalid(format!("unsupported {what}: {action:?}"))),
    }
}
