//! The normal form of the clauses of a rule that are neither conditions nor endpoint constraints.

use worldcompute_fault::Result;

use super::value::{lower_set, plain, word};
use crate::evaluate::{BrokerClause, RateLimit, Scope, Window};
use crate::limits::invalid;
use crate::policy::file::{LimitFile, List};

pub(super) fn broker(
    required: Option<bool>,
    reference: Option<String>,
    scopes: List,
) -> Result<BrokerClause> {
    Ok(BrokerClause {
        required: required.unwrap_or_default(),
        reference: plain(reference)?,
        scopes: lower_set(scopes)?,
    })
}

/// The format reads a rate limit of no requests as none.
pub(super) fn rate_limit(rule: &str, file: LimitFile) -> Result<Option<RateLimit>> {
    let limit = limit("rate_limit", rule, file)?;
    Ok(Some(limit).filter(|limit| limit.requests > 0))
}

/// The format refuses a destructive budget of no requests, unless it is empty.
pub(super) fn destructive_budget(rule: &str, file: LimitFile) -> Result<Option<RateLimit>> {
    if file == LimitFile::default() {
        return Ok(None);
    }
    let limit = limit("destructive_budget", rule, file)?;
    if limit.requests == 0 {
        return Err(invalid(format!(
            "destructive_budget.requests must be >= 1 for {rule}"
        )));
    }
    Ok(Some(limit))
}

fn limit(clause: &str, rule: &str, file: LimitFile) -> Result<RateLimit> {
    let requests = u64::try_from(file.requests.unwrap_or_default())
        .map_err(|_| invalid(format!("{clause}.requests must be >= 0 for {rule}")))?;
    Ok(RateLimit {
        requests,
        window: one(&format!("{clause}.window"), rule, file.window, &Window::ALL)?,
        scope: one(&format!("{clause}.scope"), rule, file.scope, &Scope::ALL)?,
    })
}

/// The value of that name, or the default.
fn one<T: Copy + Default>(
    what: &str,
    rule: &str,
    given: Option<String>,
    known: &[(&str, T)],
) -> Result<T> {
    let given = word(given)?;
    if given.is_empty() {
        return Ok(T::default());
    }
    let found = known.iter().find(|(name, _)| *name == given);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| invalid(format!("unsupported {what} {given:?} for {rule}")))
}
