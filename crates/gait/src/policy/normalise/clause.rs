//! The normal form of the clauses of a rule that are neither conditions nor endpoint constraints.

use worldcompute_fault::{Fault, Result};

use super::misplaced::{Checked, Under};
use super::value::{few, lower_set, or, plain, raise, word};
use crate::evaluate::{BrokerClause, Freeze, FreezeRange, RateLimit, Scope, Window, Zone};
use crate::limits::invalid;
use crate::policy::file::{FreezeFile, FreezeRangeFile, LimitFile, RuleFile};
use crate::verdict::Verdict;

pub(super) fn broker(file: &RuleFile) -> Result<BrokerClause> {
    Ok(BrokerClause {
        required: file.require_broker_credential.unwrap_or_default(),
        reference: plain(file.broker_reference.as_deref())?,
        scopes: lower_set(file.broker_scopes.as_deref())?,
    })
}

/// A clause that says anything is on, and then has to say all that it needs.
pub(super) fn freeze(rule: &str, file: FreezeFile) -> Checked<Option<Freeze>> {
    let timezone = plain(file.timezone.as_deref())?;
    let effect = raise(
        &format!("freeze_window.effect for {rule}"),
        file.effect.as_deref(),
    )
    .under("effect")?;
    let reason = plain(file.reason.as_deref())?;
    let environments = lower_set(file.environments.as_deref())?;
    let risk_classes = lower_set(file.risk_classes.as_deref())?;
    let ranges = file.windows.unwrap_or_default();
    let lists = environments.is_empty() && risk_classes.is_empty() && ranges.is_empty();
    let texts = timezone.is_empty() && reason.is_empty() && effect.is_none();
    if !file.enabled.unwrap_or_default() && lists && texts {
        return Ok(None);
    }
    if timezone.is_empty() {
        return Err(missing("freeze_window.timezone", rule).into());
    }
    if ranges.is_empty() {
        return Err(missing("freeze_window.windows", rule).into());
    }
    few("freeze_window.windows", ranges.len())?;
    let timezone = Zone::named(timezone);
    let windows = ranges.into_iter().enumerate();
    let windows = windows.map(|(index, file)| {
        freeze_range(rule, index, &file, &timezone).under(&format!("windows[{index}]"))
    });
    Ok(Some(Freeze {
        enabled: true,
        effect: effect.unwrap_or(Verdict::Block),
        reason,
        environments,
        risk_classes,
        windows: windows.collect::<Checked<_>>()?,
        timezone,
    }))
}

fn freeze_range(
    rule: &str,
    index: usize,
    file: &FreezeRangeFile,
    zone: &Zone,
) -> Result<FreezeRange> {
    let name = or(file.name.as_deref(), &format!("window-{}", index + 1))?;
    let start = plain(file.start.as_deref())?;
    let end = plain(file.end.as_deref())?;
    if start.is_empty() || end.is_empty() {
        return Err(invalid(format!(
            "freeze_window window start and end are required for {rule}"
        )));
    }
    Ok(FreezeRange::new(name, start, end, zone))
}

fn missing(clause: &str, rule: &str) -> Fault {
    invalid(format!("{clause} is required for {rule}"))
}

/// A limit that says nothing is none; one of no requests is refused, for its author meant either none or any number.
pub(super) fn limit_of(clause: &str, rule: &str, file: &LimitFile) -> Checked<Option<RateLimit>> {
    if *file == LimitFile::default() {
        return Ok(None);
    }
    let limit = limit(clause, rule, file)?;
    if limit.requests == 0 {
        let message = format!("{clause}.requests must be >= 1 for {rule}");
        return Err(invalid(message)).under("requests");
    }
    Ok(Some(limit))
}

fn limit(clause: &str, rule: &str, file: &LimitFile) -> Checked<RateLimit> {
    let requests = u64::try_from(file.requests.unwrap_or_default())
        .map_err(|_| invalid(format!("{clause}.requests must be >= 0 for {rule}")))
        .under("requests")?;
    Ok(RateLimit {
        requests,
        window: one(
            &format!("{clause}.window"),
            rule,
            file.window.as_deref(),
            &Window::ALL,
        )
        .under("window")?,
        scope: one(
            &format!("{clause}.scope"),
            rule,
            file.scope.as_deref(),
            &Scope::ALL,
        )
        .under("scope")?,
    })
}

/// The value of that name, or the default.
fn one<T: Copy + Default>(
    what: &str,
    rule: &str,
    given: Option<&str>,
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
